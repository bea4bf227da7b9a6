"""Open-Sora Plan v1.1.0: the Latte family with a video autoencoder, where a latent is four frames."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import to_unit_range
from fifo_diffusion.decoding.pieces import STEADY_LATENCY, PieceDecoder
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.method import Layout, Noise, NoiseLevels, Queue, Step, Window
from fifo_diffusion.models.latte.model import LatteModel
from fifo_diffusion.models.shared.schedulers import read_levels

logger = logging.getLogger(__name__)

LATENT_SCALE = 0.18215
TEXT_TOKENS = 300


class LateQueue(Queue):
    """The queue of the published FIFO code for Open-Sora Plan: its context holds finished latents, and the oldest of
    them are handed out, after one more step as if they were at the lowest level."""

    @classmethod
    def from_clip_published(cls, layout: Layout, levels: NoiseLevels, noise: Noise, clip_BCFHW: Tensor) -> "Queue":
        if layout.context and layout.frames % 2 == 0:
            logger.warning(
                Message(
                    Setting("compat", "published"),
                    f" is not the published video here: with lookahead and {layout.frames} latents per window the "
                    "published loop skips a slot in every other window, and this one does not",
                )
            )
        return super().from_clip_published(layout, levels, noise, clip_BCFHW)

    def step(self, layout: Layout) -> Step:
        now, c = super().step(layout), layout.context
        windows = tuple(Window(w.reads, w.reads) if w.reads[0] == 0 else w for w in now.windows)
        return replace(now, windows=windows, targets=(-1,) * c + now.targets[c:])

    def advance(
        self, x_BCFHW: Tensor, y_BCFHW: Tensor, layout: Layout, levels: NoiseLevels, noise: Noise
    ) -> tuple[int, Tensor]:
        c, b, first = layout.context, layout.step(self.iteration).leave, self.frames(layout)[layout.context]
        past = torch.cat([x_BCFHW[:, :, :c], y_BCFHW[:, :, c : c + b]], 2)[:, :, b:]
        self._shift(past, y_BCFHW, layout, levels, noise)
        return first, levels.latent(y_BCFHW[:, :, :b])

    def needed(self, layout: Layout) -> range:
        return range(layout.context + layout.step(self.iteration).leave)


class OpenSoraPlanModel(LatteModel):
    """`OpenSoraPlanPipeline`, for 65 frames (17 latents) or 221 frames (56 latents).

    Args:
        pipe, frames, defaults: as in `LatteModel`; `frames` are latents.
    """

    family = "Open-Sora Plan v1.1.0"
    text_tokens = TEXT_TOKENS
    published_queue = LateQueue
    decoder_latency = STEADY_LATENCY

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae.temporal_factor)
        super().__init__(pipe, frames=frames, defaults={"fps": 24} | (defaults or {}))

    def check_autoencoder(self) -> None:
        """Its own mixes frames, and `decoder` knows how."""

    def autoencoder_kind(self) -> Any:
        return self.pipe.vae.temporal_factor, self.pipe.vae.spatial_factor

    @property
    def factor(self) -> int:
        return self.pipe.vae.spatial_factor

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False, **steps: Any
    ) -> NoiseLevels:
        """`published`: diffusers' `DDPMScheduler` as it comes, which clips clean latents to -1 ... 1 and begins below
        timestep 1000."""
        if not published:
            return super().levels(count, eta=eta, scheduler_exact=scheduler_exact, **steps)
        from diffusers import DDPMScheduler

        return read_levels(DDPMScheduler(), count)

    def decoder(self) -> PieceDecoder:
        return PieceDecoder(self._decode, self.timing)

    @torch.no_grad()
    def _decode(self, latents_BCFHW: Tensor) -> Tensor:
        """A clip of latents to frames (B, F', 3, H, W) in [0, 1], in the autoencoder's precision; video by video."""
        vae = self.pipe.vae
        clips = (latents_BCFHW / LATENT_SCALE).to(vae.dtype).split(1)
        frames = torch.cat([vae.decode(clip) for clip in clips]).transpose(1, 2)
        return to_unit_range(frames)

    @torch.no_grad()
    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        """The mean latents of the last 1 + 4 k frames as one clip, (1, C, k + 1, H, W) float32."""
        count = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        frames = torch.from_numpy(np.ascontiguousarray(frames_FHWC[-count:])).to(self.device)
        pixels = frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        mean, _ = self.pipe.vae.encode(pixels.to(self.pipe.vae.dtype))
        return mean.float() * LATENT_SCALE
