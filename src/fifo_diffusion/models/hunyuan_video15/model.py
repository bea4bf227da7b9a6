"""HunyuanVideo 1.5, text to video."""

from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.hunyuan_video15.decoder import HunyuanVideo15Decoder, encode
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.guided_model import GuidedModel
from fifo_diffusion.models.shared.spacing import linear_sigmas


class HunyuanVideo15Model(GuidedModel):
    """`HunyuanVideo15Pipeline`.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: patches of several latents, or a guider that guides in another way than by one weight.
    """

    family = "HunyuanVideo 1.5"
    flow = True
    other_shapes = True
    text_width = "text_embed_dim"
    modulations = r"time_embed"
    text_times = r"context_embedder\.time_text_embed\.timestep_embedder"
    row_arguments = ("encoder_attention_mask", "encoder_hidden_states_2", "encoder_attention_mask_2")

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_scale_factor_temporal)
        super().__init__(pipe, frames=frames, defaults=defaults)

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size_t != 1:
            raise ValueError(
                "pipe.transformer joins several latents to one token, which no published HunyuanVideo 1.5 does"
            )

    def usual(self) -> dict[str, Any]:
        """The size that its pipeline chooses by itself, and the frame rate of Tencent-Hunyuan/HunyuanVideo-1.5's
        generate.py."""
        width, height = self.pipe.default_aspect_ratio
        size = self.pipe.video_processor.calculate_default_height_width(height, width, self.pipe.target_size)
        return {"height": int(size[0]), "width": int(size[1]), "fps": 24}

    @property
    def text_tokens(self) -> int:  # type: ignore[override]
        return self.pipe.tokenizer_max_length

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        return {"sigmas": linear_sigmas(count)}

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows, of_rows = len(latents_RCFHW), condition.row_arguments(len(latents_RCFHW))
        text, picture = condition.rows(rows), condition.arguments["image_embeds"][:1].expand(rows, -1, -1)
        tokens = text.shape[1] + of_rows["encoder_hidden_states_2"].shape[1] + picture.shape[1]
        arguments = condition.arguments | of_rows | {"image_embeds": picture}
        with self.per_frame(latents_RCFHW, tokens):
            video = self.without_picture(latents_RCFHW)
            return self.pipe.transformer(video, timestep_RF.flatten().to(video.dtype), text, **arguments)[0]

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def decoder(self) -> HunyuanVideo15Decoder:
        return HunyuanVideo15Decoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)
