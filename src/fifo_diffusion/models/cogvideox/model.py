"""The CogVideoX family (1.0, 2B and 5B, and 1.5)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.cogvideox.decoder import CogVideoXDecoder, PairDecoder, encode
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.conditions import TextCondition


class CogVideoXModel(AdaLNModel):
    """`CogVideoXPipeline`: text to video.

    CogVideoX 1.5 makes one token of a patch of two latents, so these have one timestep: they are one latent of twice as
    many channels here. Its pipeline samples one latent more than the autoencoder shows, before the first; so does this.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the transformer has places for, which is
            also the most that it can take.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: an image-to-video checkpoint, or one that joins more than two latents.
    """

    family = "CogVideoX"
    no_effect = ("use_dynamic_cfg", "timesteps")
    text_width = "text_embed_dim"
    modulations = r"transformer_blocks\.\d+\.norm[12]\.linear|norm_out\.linear"

    def check_denoisers(self) -> None:
        super().check_denoisers()
        config = self.pipe.transformer.config
        if config.ofs_embed_dim is not None:
            what = "pipe.transformer is made for pictures (ofs_embed_dim), which FIFO cannot give it: "
            raise ValueError(f"{what}load the text-to-video version")
        if config.patch_size_t not in (None, 2):
            raise ValueError(f"pipe.transformer joins {config.patch_size_t} latents to one token: FIFO knows 1 and 2")

    @property
    def stacked(self) -> int:
        return self.pipe.transformer.config.patch_size_t or 1

    @property
    def timing(self) -> LatentTiming:
        """Of a pair with the latent before the first of the video: that of one."""
        return LatentTiming(first=1, further=4 * self.stacked)

    def usual_frames(self) -> int:
        return self.timing.latents(self.pipe.transformer.config.sample_frames)

    @property
    def most_frames(self) -> int:
        return self.usual_frames()

    def usual(self) -> dict[str, Any]:
        config = self.pipe.transformer.config
        size = {"height": config.sample_height * self.factor, "width": config.sample_width * self.factor}
        return super().usual() | size | {"fps": 8 * self.stacked}  # 1.5: 16 (zai-org/CogVideo, README.md)

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        text, arguments = condition.rows(len(latents_RCFHW)), dict(condition.arguments)
        if arguments.get("image_rotary_emb") is not None:  # made for f frames: a shorter window has the first of them
            tokens = latents_RCFHW.shape[2] * self.tokens_per_frame(latents_RCFHW)
            arguments["image_rotary_emb"] = tuple(table[:tokens] for table in arguments["image_rotary_emb"])
        with self.per_frame(latents_RCFHW, text.shape[1]):
            video = self.apart(latents_RCFHW)
            return self.together(self.pipe.transformer(video, text, timestep_RF.flatten(), **arguments)[0])

    def apart(self, latents_BCFHW: Tensor) -> Tensor:
        """Latents as the pipeline has them, (B, F, C, H, W)."""
        return latents_BCFHW.transpose(1, 2).unflatten(2, (self.stacked, -1)).flatten(1, 2)

    def together(self, latents_BFCHW: Tensor) -> Tensor:
        """Back from `apart`."""
        return latents_BFCHW.unflatten(1, (-1, self.stacked)).flatten(2, 3).transpose(1, 2)

    def decoder(self) -> CogVideoXDecoder | PairDecoder:
        decoder = CogVideoXDecoder(self.pipe.vae, LatentTiming(first=1, further=4))
        return decoder if self.stacked == 1 else PairDecoder(decoder)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        latents = encode(self.pipe.vae, frames_FHWC[-used:], self.device)
        if self.stacked == 1:
            return latents
        return self.together(torch.cat([latents[:, :, :1], latents], 2).transpose(1, 2))

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        if output_type == "latent":  # (B, C, F, H, W) here, (B, F, C, H, W) there
            frames_BFCHW = self.apart(frames_BFCHW)
        return super().output(frames_BFCHW, output_type)
