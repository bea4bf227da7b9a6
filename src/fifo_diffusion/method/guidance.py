"""How the passes without and with the text become one prediction, frame by frame: classifier-free guidance and what
came after it. Not in FIFO-Diffusion's paper.

Frames of a window have levels of their own, so whatever is measured here (norms, deviations, projections) is measured
of each frame, over C, H and W. All of it acts on what the model predicts, as in diffusers' guiders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Protocol

import torch
from torch import Tensor

from fifo_diffusion.method.layout import Window
from fifo_diffusion.method.levels import NoiseLevels

OF_A_FRAME = (1, 3, 4)
"""The axes of (B, C, F, H, W) that one frame of one video has."""


class GuidanceSettings(Protocol):
    """What guidance is made from."""

    guidance_interval: Sequence[float]
    guidance_rescale: float
    guidance_method: str
    apg_eta: float
    apg_norm_threshold: float


@dataclass(frozen=True)
class Guidance:
    """A rule of guidance.

    Args:
        interval: from which share of the L steps of a frame on, and up to which, it is guided; in the other steps the
            pass with the text alone counts (guidance interval, Kynkäänniemi et al., arXiv 2404.07724).
        rescale: how far the deviation of the guided prediction is brought to that of the one with the text, 0 to 1
            (Lin et al., arXiv 2305.08891, section 3.4).
        method: "plain"; "apg", which scales down what guidance adds along the prediction itself (Sadat et al., arXiv
            2410.02416, without its momentum); "cfg-zero", which first scales the pass without the text to come
            nearest to the one with it (Fan et al., arXiv 2503.18886, without its zero steps).
        eta: of "apg": how much is kept of what lies along the prediction with the text.
        norm_threshold: of "apg": the longest that the difference of the passes may be; 0: as long as it is.
        timesteps: the lowest and the highest of the timesteps that are guided; None: all are.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    method: str = "plain"
    eta: float = 0.0
    norm_threshold: float = 0.0
    timesteps: tuple[float, float] | None = None

    @classmethod
    def of(cls, settings: GuidanceSettings) -> "Guidance":
        """That which the settings of a stream describe."""
        first, last = settings.guidance_interval
        method = settings.guidance_method, settings.apg_eta, settings.apg_norm_threshold
        return cls((first, last), settings.guidance_rescale, *method)

    @property
    def everywhere(self) -> bool:
        """Whether all steps are guided."""
        return self.interval == (0.0, 1.0)

    @property
    def ordinary(self) -> bool:
        """Whether it is the classifier-free guidance of the paper, e_0 + w (e_text - e_0), for all frames."""
        return self.everywhere and self.rescale == 0 and self.method == "plain"

    def levels(self, count: int) -> range:
        """The guided ones of so many levels. The first step of a frame is the one from the highest level."""
        first, last = (floor(share * count + 1e-9) for share in self.interval)
        return range(count - last, count - first)

    def at(self, levels: NoiseLevels) -> "Guidance":
        """The same, knowing the timesteps of these levels."""
        if self.everywhere:
            return self
        guided = self.levels(len(levels))
        ends = levels.timestep[[guided.start, guided.stop - 1]].tolist()
        return replace(self, timesteps=(min(ends), max(ends)))  # some models are told the highest level as 0

    def guides(self, window: Window, slot_levels: Sequence[int], count: int) -> bool:
        """Whether a window needs the pass without the text: whether it writes a frame that is guided.

        Args:
            slot_levels: of the padded slots, before the iteration.
            count: of levels.
        """
        guided = self.levels(count)
        return any(slot_levels[slot] in guided for slot in window.writes)

    def combined(self, without: Tensor, with_text: Tensor, weight: float | Tensor, timestep_BF: Tensor) -> Tensor:
        """The prediction after guidance, (B, C, F, H, W).

        Args:
            without, with_text: predictions of both passes.
            weight: of guidance, or (B, 1, F, 1, 1) of them.
            timestep_BF: of each frame, as `NoiseLevels.told` has it.
        """
        if self.method == "apg":
            result = with_text + (weight - 1) * self._projected(with_text - without, with_text)
        else:
            base = without if self.method == "plain" else _nearest(without, with_text) * without
            result = base + weight * (with_text - base)
        if self.rescale:
            of_text, found = (x.std(OF_A_FRAME, keepdim=True) for x in (with_text, result))
            result = result * (1 + self.rescale * (of_text / _above_zero(found) - 1))
        if self.timesteps is None:
            return result
        time, (low, high) = beginnings(timestep_BF).to(result.device)[:, None, :, None, None], self.timesteps
        return torch.where((time >= low) & (time <= high), result, with_text)

    def _projected(self, difference: Tensor, with_text: Tensor) -> Tensor:
        if self.norm_threshold:
            difference = difference * (self.norm_threshold / _above_zero(_norm(difference))).clamp_max(1)
        along = with_text / _above_zero(_norm(with_text))
        return difference - (1 - self.eta) * (difference * along).sum(OF_A_FRAME, keepdim=True) * along


def beginnings(timestep_BF: Tensor) -> Tensor:
    """Of what a model is told of each frame (`NoiseLevels.told`), where its step begins, (B, F)."""
    return timestep_BF if timestep_BF.dim() == 2 else timestep_BF[..., 0]


def _nearest(without: Tensor, with_text: Tensor) -> Tensor:
    """The factor by which the one comes nearest to the other, of each frame."""
    product, square = ((x * without).sum(OF_A_FRAME, keepdim=True) for x in (with_text, without))
    return product / _above_zero(square)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=OF_A_FRAME, keepdim=True)


def _above_zero(x: Tensor) -> Tensor:
    """To divide by: a prediction that is zero stays so."""
    return x.clamp_min(torch.finfo(x.dtype).tiny)
