"""Mochi 1, text to video."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.mochi.decoder import MochiDecoder, encode
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.conditions import TextCondition


class MochiModel(AdaLNModel):
    """`MochiPipeline`. Its time runs from noise to picture (`invert_sigmas`): the transformer is told how clean a frame
    is, and predicts the way to it. Here levels count noise as everywhere, and the prediction is turned round.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.
    """

    family = "Mochi"
    flow = True
    other_shapes = True
    text_width = "text_embed_dim"
    modulations = r"time_embed\.timestep_embedder"
    row_arguments = ("encoder_attention_mask",)

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_temporal_scale_factor)
        super().__init__(pipe, frames=frames, defaults=defaults)

    @property
    def factor(self) -> int:
        return self.pipe.vae_spatial_scale_factor

    def usual(self) -> dict[str, Any]:
        size = {"height": self.pipe.default_height, "width": self.pipe.default_width}
        return super().usual() | size | {"fps": 30}

    @property
    def _inverted(self) -> bool:
        return bool(self.pipe.scheduler.config.get("invert_sigmas"))

    def scheduler_of_levels(self) -> Any:
        if not self._inverted:
            return self.pipe.scheduler
        scheduler = copy.deepcopy(self.pipe.scheduler)
        scheduler.register_to_config(invert_sigmas=False)
        return scheduler

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        """As diffusers' `MochiPipeline` has it from the published code: half of the steps near pure noise."""
        from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

        return {"sigmas": [float(sigma) for sigma in linear_quadratic_schedule(count, 0.025)]}

    def levels(self, count: int, **options: Any) -> NoiseLevels:
        levels = super().levels(count, **options)
        whole = self.pipe.scheduler.config.num_train_timesteps
        return replace(levels, timestep=whole - levels.timestep) if self._inverted else levels

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows = len(latents_RCFHW)
        text = condition.rows(rows)
        with self.per_frame(latents_RCFHW, text.shape[1]):
            arguments = condition.arguments | condition.row_arguments(rows)
            output = self.pipe.transformer(latents_RCFHW, text, timestep_RF.flatten(), **arguments)[0]
        return -output if self._inverted else output

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def decoder(self) -> MochiDecoder:
        return MochiDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)
