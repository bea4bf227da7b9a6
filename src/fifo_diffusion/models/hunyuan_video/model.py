"""HunyuanVideo 1.0, text to video."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.tiles import TileDecoder
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.hunyuan_video.decoder import encode, hunyuan_decoder
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.shared.spacing import linear_sigmas


class WithHunyuanAutoencoder(PipelineModel):
    """A pipeline with HunyuanVideo's autoencoder."""

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def decoder(self) -> TileDecoder:
        return hunyuan_decoder(self.pipe.vae, self.timing)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)


class HunyuanVideoModel(WithHunyuanAutoencoder, AdaLNModel):
    """`HunyuanVideoPipeline`. `guidance_scale` is told to the transformer, which takes one pass; a second one without
    the prompt comes with `true_cfg_scale` above 1 and a `negative_prompt`, as in the pipeline.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else 33 (129 frames), as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: an image-to-video checkpoint, or patches of several latents.
    """

    family = "HunyuanVideo"
    timing = LatentTiming(first=1, further=4)
    decoder_latency = 3
    flow = True
    other_shapes = True
    unguided_first = False
    text_width = "text_embed_dim"
    modulations = r"time_text_embed\.timestep_embedder"
    text_times = r"context_embedder\.time_text_embed\.timestep_embedder"
    text_order = "last"
    row_arguments = ("encoder_attention_mask", "pooled_projections", "guidance")

    def check_denoisers(self) -> None:
        super().check_denoisers()
        config = self.pipe.transformer.config
        if config.image_condition_type is not None:
            raise ValueError(
                f"pipe.transformer is made for pictures (image_condition_type={config.image_condition_type!r}), which "
                "FIFO cannot give it: load the text-to-video version"
            )
        if config.patch_size_t != 1:
            raise ValueError(
                "pipe.transformer joins several latents to one token, which no published HunyuanVideo does"
            )

    def usual(self) -> dict[str, Any]:
        return super().usual() | {"fps": 24}

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        return {"sigmas": linear_sigmas(count)}

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        return replace(super().condition(prompts, **call), guidance_scale=call.get("true_cfg_scale", 1.0))

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows = len(latents_RCFHW)
        text = condition.rows(rows)
        arguments = condition.arguments | condition.row_arguments(rows)
        with self.per_frame(latents_RCFHW, text.shape[1]):
            return self.pipe.transformer(latents_RCFHW, timestep_RF.flatten(), text, **arguments)[0]
