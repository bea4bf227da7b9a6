"""The CogVideoX family (1.0, 2B and 5B)."""

import logging
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.cogvideox.decoder import CogVideoXDecoder, encode
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.conditions import TextCondition

logger = logging.getLogger(__name__)


class CogVideoXModel(AdaLNModel):
    """`CogVideoXPipeline`: text to video.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the transformer has places for, which is
            also the most that it can take.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: CogVideoX 1.5, which has one timestep for two latents.
    """

    family = "CogVideoX"
    timing = LatentTiming(first=1, further=4)
    no_effect = ("use_dynamic_cfg", "timesteps")
    text_width = "text_embed_dim"
    modulations = r"transformer_blocks\.\d+\.norm[12]\.linear|norm_out\.linear"

    def check_denoisers(self) -> None:
        super().check_denoisers()
        config = self.pipe.transformer.config
        if config.patch_size_t is not None or config.ofs_embed_dim is not None:
            raise ValueError("CogVideoX 1.5 has one timestep for two latents, which is not done here: use version 1.0")

    def usual_frames(self) -> int:
        return self.timing.latents(self.pipe.transformer.config.sample_frames)

    @property
    def most_frames(self) -> int:
        return self.usual_frames()

    def usual(self) -> dict[str, Any]:
        config = self.pipe.transformer.config
        size = {"height": config.sample_height * self.factor, "width": config.sample_width * self.factor}
        return super().usual() | size | {"fps": 8}

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        text, arguments = condition.rows(len(latents_RCFHW)), dict(condition.arguments)
        if arguments.get("image_rotary_emb") is not None:  # made for f frames: a shorter window has the first of them
            tokens = latents_RCFHW.shape[2] * self.tokens_per_frame(latents_RCFHW)
            arguments["image_rotary_emb"] = tuple(table[:tokens] for table in arguments["image_rotary_emb"])
        with self.per_frame(latents_RCFHW, text.shape[1]):
            video = latents_RCFHW.transpose(1, 2)
            return self.pipe.transformer(video, text, timestep_RF.flatten(), **arguments)[0].transpose(1, 2)

    def decoder(self) -> CogVideoXDecoder:
        for way in ("tiling", "slicing"):
            if getattr(self.pipe.vae, f"use_{way}", False):
                logger.warning("the autoencoder's %s is not used: FIFO decodes two latent frames at a time, whole", way)
        return CogVideoXDecoder(self.pipe.vae, self.timing)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        if output_type == "latent":  # (B, C, F, H, W) here, (B, F, C, H, W) there
            frames_BFCHW = frames_BFCHW.transpose(1, 2)
        return super().output(frames_BFCHW, output_type)
