"""Where random numbers come from: a pure function of the seed, the frame and the level."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Noise(Protocol):
    """Standard normal noise for one frame.

    Called with the frame (0 is the first that the viewer sees, earlier ones are negative) and the level: levels
    0..L-1 are the fresh noise of the step *from* that level (used where eta > 0), level L is the noise with which the
    frame entered the queue. Levels above L are the draws of the clip that opens a video: L + 1 + j for its step from
    level j, 2 L + 1 for the noise that it is sampled from; more of the same follow where it is completed from given
    frames in several rounds. Returns (C, H, W), the same for every video, or
    (B, C, H, W).
    """

    def __call__(self, frame: int, level: int) -> Tensor: ...


class SeededNoise:
    """The default: a counter-based generator (Philox) keyed by seed and frame, so that a video depends neither on the
    order of the draws nor on batching, ranks or interruptions.

    Args:
        seeds: one per video of the batch, each in 0 .. 2**64 - 1.
        shape: (C, H, W) of one latent frame.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int]) -> None:
        self.seeds = tuple(seeds)
        self.shape = tuple(shape)

    def __call__(self, frame: int, level: int) -> Tensor:
        """(B, C, H, W) float32 on the CPU."""
        draws = [self._draw(seed, frame, level) for seed in self.seeds]
        return torch.from_numpy(np.stack(draws))

    def _draw(self, seed: int, frame: int, level: int) -> np.ndarray:
        key = np.array([seed, frame % 2**64], dtype=np.uint64)
        bits = np.random.Philox(key=key, counter=np.array([0, 0, level, 0], dtype=np.uint64))
        return np.random.Generator(bits).standard_normal(self.shape, dtype=np.float32)


def noise_of(noise: Noise, frames: Sequence[int], level: int, like_BCFHW: Tensor) -> Tensor:
    """Noise of several frames at one level, (B, C, F, H, W) float32 on the device of `like`."""
    draws = torch.stack([noise(g, level) for g in frames], -3)
    shape = (like_BCFHW.shape[0], draws.shape[-4], len(frames), *like_BCFHW.shape[-2:])
    return to_device(draws.float(), like_BCFHW.device).expand(shape).contiguous()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """From the host's memory to a device, without waiting for what a GPU is computing: so the next kernels are on
    their way before it is done. (CUDA copies ordinary memory away before the call returns, other devices may not.)"""
    return tensor.to(device, non_blocking=device.type == "cuda")
