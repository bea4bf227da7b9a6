"""Relative error of diagonal denoising (arXiv 2405.11473, Eq. 7 and Fig. 5) on any base model, from known clips.

The paper does not say where the true noise comes from, which videos are used or whether guidance is on. The protocol
here: one known clip of n f + f' consecutive frames, every frame noised with known noise. Diagonal: the windows of the
layout, every frame at the level of its slot. Reference for slot i, the same for every setting: the partition of f
frames that holds slot i, all of them at the level of slot i. The error is that of the predicted noise.

Legend: B clips, C channels, F frames, H and W latent height and width, S slots (n f).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.method import Layout, NoiseLevels, QueueLayout


class Predicts(Protocol):
    """What is needed of a model; `fifo_diffusion.models.VideoModel` has it. Turn guidance off in the condition. For
    banded layouts it must be a `BandedModel` too."""

    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any) -> Tensor: ...


@dataclass(frozen=True)
class RelativeError:
    """Mean squared noise errors of each clip and slot, diagonal and reference, both (B, S)."""

    diagonal_BS: Tensor
    reference_BS: Tensor

    @classmethod
    def over_clips(cls, results: Sequence["RelativeError"]) -> "RelativeError":
        """Results on different clips as one."""
        return cls(*(torch.cat(values) for values in zip(*map(_tensors, results), strict=True)))

    def ratio_of_norms(self) -> tuple[float, float]:
        """Eq. 7: mean over slots of the ratio of norms, and its standard error over clips."""
        return _mean_of(self._norms_B)

    def difference_of_norms(self, other: "RelativeError") -> tuple[float, float]:
        """How much larger Eq. 7 is than in another setting on the same clips and noise, and the standard error of the
        difference: it is much smaller than that of either, because clips differ more than settings."""
        return _mean_of(self._norms_B - other._norms_B)

    def difference_of_errors(self, other: "RelativeError") -> tuple[float, float]:
        """The same for `ratio_of_errors`."""
        return _mean_of((self.diagonal_BS - other.diagonal_BS).mean(1) / self.reference_BS.mean())

    @property
    def _norms_B(self) -> Tensor:
        return (self.diagonal_BS / self.reference_BS).sqrt().mean(1)

    def ratio_of_errors(self) -> tuple[float, float]:
        """Mean squared error of all slots over that of the reference, and its standard error over clips."""
        top, bottom = self.diagonal_BS.mean(1), self.reference_BS.mean(1)
        ratio = float(top.mean() / bottom.mean())
        return ratio, _standard_error((top - ratio * bottom) / bottom.mean())

    def curve(self) -> list[float]:
        """Eq. 7 for each slot (Fig. 5), the mean over clips; windows begin every f slots."""
        return (self.diagonal_BS / self.reference_BS).sqrt().mean(0).tolist()


def _tensors(result: RelativeError) -> tuple[Tensor, Tensor]:
    return result.diagonal_BS, result.reference_BS


def _mean_of(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), _standard_error(values)


def _standard_error(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")


def _noise_error(
    predict: Callable[[Tensor, Tensor, Any], Tensor],
    levels: NoiseLevels,
    noisy: Tensor,
    noise: Tensor,
    level_BF: Tensor,
    condition: Any,
) -> Tensor:
    """Mean squared error of the predicted noise (B, F)."""
    prediction = predict(noisy, levels.told(level_BF), condition)
    return (levels.split(noisy, prediction, level_BF)[1] - noise).pow(2).mean((1, 3, 4))


@torch.no_grad()
def reference_errors(
    model: Predicts, levels: NoiseLevels, layout: Layout, clips: Tensor, noise: Tensor, condition: Any
) -> Tensor:
    """Errors (B, S) of every slot when its whole partition is at its level.

    Args:
        clips, noise: (B, C, f' + S, H, W) clean latents and standard normal noise, f' = f // 2 frames in front of the
            queue's head; f' frames are there for every layout, so that all settings use the same clip.
    """
    b, f, before = len(clips), layout.frames, clips.shape[2] - layout.slots
    errors = []
    for slot in range(layout.slots):
        first = before + slot // f * f
        part, xi = clips[:, :, first : first + f], noise[:, :, first : first + f]
        level_BF = torch.full((b, f), layout.step(0).levels[layout.context + slot])
        error = _noise_error(model.predict, levels, levels.renoise(part, xi, level_BF), xi, level_BF, condition)
        errors.append(error[:, slot % f].cpu())
    return torch.stack(errors, 1)


@torch.no_grad()
def diagonal_errors(
    model: Predicts, levels: NoiseLevels, layout: Layout, clips: Tensor, noise: Tensor, condition: Any
) -> Tensor:
    """Errors (B, S) of every slot in the layout's own windows, the mean over the iterations of a period that write it;
    arguments as for `reference_errors`."""
    skip, count = clips.shape[2] - layout.size, len(clips)
    if skip < 0:
        raise ValueError(f"the clips need {layout.size} frames, not {clips.shape[2]}")
    clean, xi = clips[:, :, skip:], noise[:, :, skip:]
    total, times = torch.zeros(count, layout.size), torch.zeros(layout.size)
    predict = partial(model.predict_banded, bands=layout.bands) if layout.banded else model.predict
    for step in map(layout.step, range(layout.period)):
        level = torch.tensor(step.levels).expand(count, -1)
        noisy = levels.renoise(clean, xi, level)
        for w in step.windows:
            part = noisy[:, :, w.read], xi[:, :, w.read], level[:, w.read]
            total[:, w.write] += _noise_error(predict, levels, *part, condition)[:, w.kept].cpu()
            times[w.write] += 1
    return (total / times)[:, layout.context :]


@torch.no_grad()
def moving_errors(
    model: Predicts,
    levels: NoiseLevels,
    layout: Layout,
    clips: Tensor,
    noise: Tensor,
    condition: Any,
    *,
    first: int,
    count: int,
) -> Tensor:
    """Errors (B, S) of every slot of a queue that moves over the clips, so that windows may reuse what was predicted of
    their frames in iterations before (`CachedLayout`): the mean over some iterations. The frames are always the known
    ones at their levels, whatever was predicted of them. In the first iteration all windows are computed.

    Args:
        clips, noise: (B, C, F, H, W), with enough frames for all iterations (`frames_passed`).
        first, count: which iterations count.
    """
    total, kept, start = torch.zeros(len(clips), layout.size), torch.zeros_like(clips), 0
    for iteration in range(first + count):
        step = layout.step(iteration)
        part = slice(start, start + layout.size)
        level = torch.tensor(step.levels).expand(len(clips), -1)
        noisy, cleans = levels.renoise(clips[:, :, part], noise[:, :, part], level), kept[:, :, part]
        for w in step.windows:
            if (iteration == 0 or not w.reuse) and (iteration >= first or layout.plain is not layout):
                output = model.predict(noisy[:, :, w.read], levels.timestep[level[:, w.read]], condition)
                clean, _ = levels.split(noisy[:, :, w.read], output, level[:, w.read])
                cleans[:, :, w.write] = clean[:, :, w.kept]
        alpha, sigma = (
            value[level].float().to(noisy)[:, None, :, None, None] for value in (levels.alpha, levels.sigma)
        )
        if iteration >= first:
            total += ((noisy - alpha * cleans) / sigma - noise[:, :, part]).pow(2).mean((1, 3, 4)).cpu()
        start += step.leave
    return (total / count)[:, layout.context :]


def frames_passed(layout: Layout, iterations: int) -> int:
    """How many frames of a clip a queue sees that moves over it for so many iterations."""
    return layout.size + layout.left(iterations - 1)


def relative_error(
    model: Predicts,
    levels: NoiseLevels,
    layouts: Sequence[Layout],
    clips: Tensor,
    noise: Tensor,
    condition: Any,
) -> list[RelativeError]:
    """One result per layout. All layouts share the window and the levels of the queue's slots (they may differ in the
    windows that read and write them), hence one reference."""
    if len({(layout.frames, layout.step(0).levels[layout.context :]) for layout in layouts}) != 1:
        raise ValueError("the layouts must agree in the window and in the levels of their slots")
    reference = reference_errors(model, levels, layouts[0], clips, noise, condition)
    return [
        RelativeError(diagonal_errors(model, levels, layout, clips, noise, condition), reference) for layout in layouts
    ]


def measure(
    model: Any,
    clips: Iterable[tuple[np.ndarray, str]],
    partitions: Sequence[int],
    seed: int,
    *,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """The paper's table: for each n a row without and one with lookahead, over all clips, one draw of noise each.

    Args:
        model: a `VideoModel`; guidance is off.
        clips: uint8 frames (F, H, W, 3) of f max(n) + f // 2 latents, and captions. Every n uses the last n f + f // 2.
        progress: called with a line of text after each clip.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, list[list[RelativeError]]] = {n: [] for n in partitions}
    layouts = {n: [QueueLayout(model.frames, n, lookahead) for lookahead in (False, True)] for n in partitions}
    for number, (frames, text) in enumerate(clips, 1):
        latents = model.encode(frames)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        height, width = frames.shape[1:3]
        condition = model.condition([text], height=height, width=width, guidance_scale=1.0)
        for n, chosen in layouts.items():
            size, levels = n * model.frames + model.frames // 2, model.levels(n * model.frames)
            part = latents[:, :, -size:], noise[:, :, -size:]
            found[n].append(relative_error(model, levels, chosen, *part, condition))
        progress(f"clip {number}")
    results = {n: [RelativeError.over_clips(same) for same in zip(*found[n], strict=True)] for n in partitions}
    return [
        {
            "partitions": n,
            "lookahead": bool(layout.lookahead),
            "clips": len(result.reference_BS),
            "ratio_of_norms": result.ratio_of_norms(),
            "ratio_of_errors": result.ratio_of_errors(),
            "norms_above_lookahead": result.difference_of_norms(results[n][1]),
            "curve": result.curve(),
        }
        for n in partitions
        for layout, result in zip(layouts[n], results[n], strict=True)
    ]
