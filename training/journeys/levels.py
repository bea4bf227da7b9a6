"""Noise levels of the frames of a training clip, (B, F) numbers of timesteps: uniform, rising, or in blocks.

The queue for which the model is made has few levels: with n = 1 and f = 16, its frames stand in blocks of
f / LEVELS frames of one level each, the head block nearly clean and the entry block pure noise. With lookahead the
window that gives the noisiest frames sees cleaner ones before them.
"""

from __future__ import annotations

import torch

STEPS = 1000
LEVELS = 4
GRID = tuple(STEPS * k // LEVELS - 1 for k in range(1, LEVELS + 1))
"""Timesteps of the few-step queue (trailing spacing): 249, 499, 749, 999."""


def uniform(count: int, frames: int) -> torch.Tensor:
    """One level per clip."""
    return torch.randint(0, STEPS, (count, 1)).expand(count, frames)


def rising(count: int, frames: int) -> torch.Tensor:
    """Rising along the frames at any slope; one clip in six has an almost clean first half."""
    span = STEPS / 2 ** (torch.rand(count) * 3)
    first = torch.rand(count) * (STEPS - 0.9 * span) - 0.05 * span
    level = first[:, None] + span[:, None] * (torch.arange(frames) + torch.rand(count, 1)) / frames
    clean = (torch.rand(count) < 1 / 6)[:, None] & (torch.arange(frames) < frames // 2)[None]
    return torch.where(clean, torch.randint(0, 30, (count, 1)), level.clamp(0, STEPS - 1).long())


def blocks(count: int, frames: int, jitter: int = 30) -> torch.Tensor:
    """Windows of a queue with few levels: stairs of 1 to 8 frames, from anywhere between clean and pure noise."""
    length = 2 ** torch.randint(0, 4, (count, 1))
    stairs = (torch.arange(frames)[None] + (torch.rand(count, 1) * length).long()) // length
    lowest = torch.randint(-LEVELS, LEVELS, (count, 1))  # below 0: frames that are clean already
    index = (stairs + lowest).clamp(-1, LEVELS - 1)
    level = torch.tensor((0, *GRID))[index + 1] - torch.randint(0, jitter + 1, (count, 1))
    return level.clamp(0, STEPS - 1)


def draw(count: int, frames: int, share_rising: float, share_blocks: float) -> torch.Tensor:
    """A mixture of the three kinds, (count, frames)."""
    kind = torch.rand(count, 1)
    level = torch.where(kind < share_rising, rising(count, frames), uniform(count, frames))
    return torch.where(kind > 1 - share_blocks, blocks(count, frames), level)
