"""Motion smoothness, flicker and drift of videos, uint8 frames (F, H, W, 3). Needs numpy only."""

from collections.abc import Callable

import numpy as np

from fifo_diffusion.toybox import checker


def smoothness(frames: np.ndarray) -> dict[str, float]:
    """How evenly a toybox video moves, in pixels per frame.

    `speed` is the mean length of the displacement, `jitter` the standard deviation of the displacements about their
    mean, `largest_jump` the largest change of displacement from one frame to the next.
    """
    steps = checker.displacements(frames)
    change = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    return {
        "speed": float(np.linalg.norm(steps.mean(0))),
        "jitter": float(np.sqrt(((steps - steps.mean(0)) ** 2).sum(1).mean())),
        "largest_jump": float(change.max(initial=0.0)),
    }


def flicker(frames: np.ndarray) -> float:
    """Root mean square second difference of the mean colour of the frames, in levels of 255; 0 for even changes."""
    means = frames.astype(np.float64).mean((1, 2))
    return float(np.sqrt((np.diff(means, 2, axis=0) ** 2).mean()))


def drift(frames: np.ndarray, caption: str, length: int = 100) -> list[dict[str, float]]:
    """The same measures in consecutive slices: score against the caption, speed, jitter, flicker, mean and spread.

    What is left over after the last whole slice is not measured. A video that stands still fails by `speed`.
    """
    rows = []
    for start in range(0, len(frames) - length + 1, length):
        part = frames[start : start + length]
        scores = checker.score(part, caption)
        row = {"start": start, "score": float(np.mean(list(scores.values()))), **scores}
        moved = smoothness(part)
        row |= {"speed": moved["speed"], "jitter": moved["jitter"], "flicker": flicker(part)}
        row |= {"mean": float(part.mean()), "spread": float(part.std())}
        rows.append(row)
    return rows


def change(rows: list[dict[str, float]], name: str, compare: Callable[[float, float], float] | None = None) -> float:
    """The last slice's value minus the first one's (or `compare(first, last)`)."""
    first, last = rows[0][name], rows[-1][name]
    return compare(first, last) if compare else last - first
