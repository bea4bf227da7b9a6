"""Where random numbers come from: a pure function of the seed, the frame, the level and the use."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """Standard normal noise for one frame.

    Called with the frame (0 is the first that the viewer sees, earlier ones are negative), the level and what the draw
    is used for: levels 0..L-1 are the fresh noise of the step *from* that level (used where eta > 0), level L is the
    noise that the frame begins with. Uses are "queue" (level L: the noise with which the frame entered it), "clip" (the
    clip that opens a video) and, where given frames begin that clip, "clip-1", "clip-2", ... for the further rounds in
    which it is completed; "tail-1", "tail-2", ... at level L are further draws of what a frame may enter with, where
    one of several is chosen. Returns (C, H, W), the same for every video, or (B, C, H, W).
    """

    def __call__(self, frame: int, level: int, use: str = "queue") -> Tensor: ...


def level_number(level: int, use: str, levels: int) -> int:
    """One number for level and use, which two-argument noise is given: level + k (L + 1), with k = 0 for "queue", 1 for
    "clip", 1 + r for "clip-r" and for "tail-r": a frame is one of a clip or enters the queue, never both.

    Raises:
        ValueError: no such use.
    """
    kind, _, turn = use.partition("-")
    if use not in ("queue", "clip") and (kind not in ("clip", "tail") or not turn.isdecimal()):
        raise ValueError(f'use must be "queue", "clip", "clip-1" and so on, or "tail-1" and so on, not {use!r}')
    return level + (0 if use == "queue" else 1 + int(turn or 0)) * (levels + 1)


def with_uses(noise: Callable[..., Tensor], levels: int) -> Noise:
    """Noise of the user's own as `Noise`: where it takes two arguments, it is given the `level_number` for the level.

    It takes `use` where it has a parameter of that name, or a third one without a default.
    """
    if isinstance(noise, SeededNoise):
        return SeededNoise(noise.seeds, noise.shape, levels)
    try:
        parameters = [*signature(noise).parameters.values()]
    except (TypeError, ValueError):  # not to be known, of some built-in functions
        parameters = []
    named = next((p for p in parameters if p.name == "use"), None)
    if named is not None and named.kind is not named.POSITIONAL_ONLY:
        return lambda frame, level, use="queue": noise(frame, level, use=use)
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) > 2 and places[2].default is places[2].empty:
        return lambda frame, level, use="queue": noise(frame, level, use)
    return lambda frame, level, use="queue": noise(frame, level_number(level, use, levels))


class SeededNoise:
    """The default: a counter-based generator (Philox) keyed by seed and frame, so that a video depends neither on the
    order of the draws nor on batching, ranks or interruptions.

    Args:
        seeds: one per video of the batch, each in 0 .. 2**64 - 1.
        shape: (C, H, W) of one latent frame.
        levels: L; only needed for draws that are not for the queue.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int], levels: int | None = None) -> None:
        self.seeds = tuple(seeds)
        self.shape = tuple(shape)
        self.levels = levels

    def __call__(self, frame: int, level: int, use: str = "queue") -> Tensor:
        """(B, C, H, W) float32 on the CPU.

        Raises:
            ValueError: no such use, or the number of levels is not known.
        """
        if use != "queue":
            if self.levels is None:
                raise ValueError(f'noise for "{use}" needs the number of levels: SeededNoise(seeds, shape, levels)')
            level = level_number(level, use, self.levels)
        draws = [self._draw(seed, frame, level) for seed in self.seeds]
        return torch.from_numpy(np.stack(draws))

    def _draw(self, seed: int, frame: int, level: int) -> np.ndarray:
        key = np.array([seed, frame % 2**64], dtype=np.uint64)
        bits = np.random.Philox(key=key, counter=np.array([0, 0, level, 0], dtype=np.uint64))
        return np.random.Generator(bits).standard_normal(self.shape, dtype=np.float32)


def noise_of(noise: Noise, frames: Sequence[int], level: int, like_BCFHW: Tensor, use: str = "queue") -> Tensor:
    """Noise of several frames at one level, (B, C, F, H, W) float32 on the device of `like`."""
    draws = torch.stack([noise(g, level, use) for g in frames], -3)
    shape = (like_BCFHW.shape[0], draws.shape[-4], len(frames), *like_BCFHW.shape[-2:])
    return to_device(draws.float(), like_BCFHW.device).expand(shape).contiguous()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """From the host's memory to a device, without waiting for what a GPU is computing: so the next kernels are on
    their way before it is done. (CUDA copies ordinary memory away before the call returns, other devices may not.)"""
    return tensor.to(device, non_blocking=device.type == "cuda")
