"""Ordinary sampling of a clip, and of one that given frames begin."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fifo_diffusion.method.fifo import Predict
from fifo_diffusion.method.layout import descents_of
from fifo_diffusion.method.levels import NoiseLevels, phi
from fifo_diffusion.method.noise import Noise, noise_of

HISTORY_GUIDANCE = 2.0
"""Weight of given frames in `complete_clip`; 1 would be the plain prediction."""


def sample_clip(
    levels: NoiseLevels, predict: Predict, noise: Noise, frames: Sequence[int], like_BCFHW: Tensor, use: str = "clip"
) -> Iterator[Tensor]:
    """Ordinary sampling (Eq. 2): all frames at one level, from the noisiest level down.

    Args:
        frames: frame numbers of the clip.
        like_BCFHW: a tensor of the clip's shape and device.
        use: of the noise; see `Noise`.

    Yields:
        the latents after each of the L steps; the last are the clean clip.
    """
    latents = levels.blank(noise_of(noise, frames, len(levels), like_BCFHW, use))
    channels = latents.shape[1] // levels.planes
    for index in reversed(range(len(levels))):
        level = torch.full((len(frames),), index)
        rows = level.expand(len(latents), -1)
        prediction = predict(latents[:, :channels], levels.told(rows), [frames])
        latents = phi(levels, latents, prediction, level, level - 1, frames, noise, use)
        yield latents[:, :channels]


def clip_after(
    levels: NoiseLevels, predict: Predict, noise: Noise, frames: Sequence[int], first_BCKHW: Tensor
) -> Iterator[Tensor]:
    """Ordinary sampling of a clip that begins with given frames, by a model that was trained on such clips: it is told
    timestep 0 in their place, and sees them as they are.

    Args:
        frames: frame numbers of the clip.
        first_BCKHW: clean latents of its first K frames.

    Yields:
        the latents after each of the L steps, beginning with the given ones; the last are the clean clip.
    """
    given, new = first_BCKHW.shape[2], frames[first_BCKHW.shape[2] :]
    latents = levels.blank(noise_of(noise, new, len(levels), first_BCKHW, "clip"))
    channels = first_BCKHW.shape[1]
    for index in reversed(range(len(levels))):
        level = torch.full((len(new),), index)
        told = levels.told(level[None])
        told = torch.cat([torch.zeros_like(told[:, :1]).expand(-1, given, *told.shape[2:]), told], 1)
        clip = torch.cat([first_BCKHW, latents[:, :channels]], 2)
        prediction = predict(clip, told.expand(len(clip), *told.shape[1:]), [frames])[:, :, given:]
        latents = phi(levels, latents, prediction, level, level - 1, new, noise, "clip")
        yield torch.cat([first_BCKHW, latents[:, :channels]], 2)


def complete_clip(
    levels: NoiseLevels,
    predict: Predict,
    noise: Noise,
    frames: Sequence[int],
    first_BCKHW: Tensor,
    *,
    descents: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """Sampling of a clip that begins with given frames: the others see them at the lowest level all the way down.

    A model that was never taught to heed cleaner frames follows them too little. So each step is computed twice, the
    second time with noise in their place, and the prediction is moved away from that (history guidance, Song et al.,
    arXiv 2502.06764). And what came out is noised again, part of the way, and denoised with the given frames in sight
    (resampling, as in RePaint, Lugmayr et al., arXiv 2201.09865). Solvers step without history here.

    Args:
        noise: used for "clip" in the first descent, for "clip-r" in those after it.
        frames: frame numbers of the clip.
        first_BCKHW: clean latents of its first K frames.
        descents: from how many levels to come down; all, and twice two thirds of them, unless said otherwise.

    Yields:
        the latents after each step, beginning with the given ones; the last are the clean clip.
    """
    levels, given = levels.without_memory(), first_BCKHW.shape[2]
    unseen = noise_of(noise, frames[:given], len(levels), first_BCKHW, "clip")
    seen = levels.renoise(first_BCKHW, unseen, torch.zeros(1, given, dtype=torch.long))
    unseen = levels.blank(unseen)
    latents = levels.blank(noise_of(noise, frames[given:], len(levels), first_BCKHW, "clip"))
    steps = [(r, top, j) for r, top in enumerate(descents or descents_of(len(levels))) for j in reversed(range(top))]
    for descent, top, index in steps:
        use = f"clip-{descent}" if descent else "clip"
        if descent and index == top - 1:
            fresh = noise_of(noise, frames[given:], len(levels), first_BCKHW, use)
            latents = levels.renoise(latents, fresh, torch.full((1, len(frames) - given), index))
        level, predictions = torch.full((len(frames),), index), []
        for past, past_level in ((seen, 0), (unseen, len(levels) - 1)):
            level[:given] = past_level
            rows = level.expand(len(latents), -1)
            prediction = predict(torch.cat([past, latents], 2), levels.told(rows), [frames])
            predictions.append(prediction[:, :, given:])
        with_past, without = predictions
        prediction = without + HISTORY_GUIDANCE * (with_past - without)
        latents = phi(levels, latents, prediction, level[given:], level[given:] - 1, frames[given:], noise, use)
        yield torch.cat([first_BCKHW, latents], 2)
