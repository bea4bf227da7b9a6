"""LTX-Video 0.9.x, text to video.

Tensor names end in their axes: R rows (windows x videos), F latent frames, S tokens of all frames.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.models.ltx.decoder import LTXDecoder, encode
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.shared_text import SharedTextModel
from fifo_diffusion.models.shared.spacing import linear_sigmas, shift_by_length


class LTXModel(SharedTextModel):
    """`LTXPipeline`. Its transformer takes a timestep for every token. Levels are shifted by the number of tokens in a
    window, as the pipeline shifts them by those of its clip (diffusers' `pipeline_ltx.py`, `calculate_shift`).

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: a transformer or autoencoder with patches of several latents.
    """

    family = "LTX-Video"
    flow = True
    other_shapes = True
    text_width = "caption_channels"
    row_arguments = ("encoder_attention_mask",)
    usual_rate = 25
    no_effect = ("guidance_rescale", "decode_timestep", "decode_noise_scale")

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_temporal_compression_ratio)
        super().__init__(pipe, frames=frames, defaults=defaults)

    @property
    def decoder_latency(self) -> int:
        return self.decoder().latency

    def usual(self) -> dict[str, Any]:
        return super().usual() | {"fps": self.usual_rate}

    @property
    def factor(self) -> int:
        return self.pipe.vae_spatial_compression_ratio

    @property
    def size_multiple(self) -> int:
        return max(32, self.factor)  # the pipeline insists on 32

    def check_denoisers(self) -> None:
        super().check_denoisers()
        config = self.pipe.transformer.config
        if (config.patch_size, config.patch_size_t) != (1, 1):
            raise ValueError("pipe.transformer joins several latents to one token, which no published model does")

    def check_autoencoder(self) -> None:
        if self.pipe.vae.config.patch_size_t != 1:
            raise ValueError("pipe.vae makes patches of several frames, which no published model does")

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        frames, height, width = size
        tokens = frames * (height // self.factor) * (width // self.factor)
        return {"sigmas": linear_sigmas(count), "mu": shift_by_length(self.pipe.scheduler, tokens)}

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows, shape = len(latents_RCFHW), latents_RCFHW.shape[2:]
        size = dict(zip(("num_frames", "height", "width"), shape, strict=True))
        output = self.pipe.transformer(
            hidden_states=latents_RCFHW.flatten(2).transpose(1, 2),
            encoder_hidden_states=condition.rows(rows),
            timestep=timestep_RF.repeat_interleave(shape[1] * shape[2], 1),
            **condition.arguments | condition.row_arguments(rows) | size,
        )[0]
        return output.transpose(1, 2).unflatten(2, shape)

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def offload(self, way: str, device: torch.device) -> None:
        # These ways bring the weights of layers; those beside layers come with a module's own forward, which the
        # streaming decoder does not call.
        blocks = (m for m in self.pipe.vae.decoder.modules() if next(m.children(), None) is not None)
        if way != "model" and any(next(block.parameters(recurse=False), None) is not None for block in blocks):
            told = 'this autoencoder is told a time and noise by weights that do not come alone: give "model"'
            raise ArgumentError("offload", way, told)
        super().offload(way, device)

    def decoder(self) -> LTXDecoder:
        return LTXDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        if output_type == "latent":  # (B, C, F, H, W) here, (B, tokens, C) there
            frames_BFCHW = frames_BFCHW.flatten(2).transpose(1, 2)
        return super().output(frames_BFCHW, output_type)
