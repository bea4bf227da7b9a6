"""What toybox's checker reads in videos of its world: the caption's score, even motion, drift. Needs numpy only."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fifo_diffusion.evaluation.metrics.flicker import flicker
from fifo_diffusion.toybox import checker

SLICE = 32
"""Frames of a slice in which the checker reads a video."""
JUMP = 8.0
"""Pixels by which a step is off the usual one where what moves is said to jump: half the radius of a shape."""


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """Score against the caption, speed and jitter; nothing where the checker cannot read the caption or the frames."""
    if not _readable(frames_FHWC, prompt):
        return {}
    slices = drift(frames_FHWC, prompt, SLICE)
    return {
        "score": float(np.mean([row["score"] for row in slices])),
        "score_slices": [row["score"] for row in slices],
        "score_last": slices[-1]["score"],
        "speed": float(np.mean([row["speed"] for row in slices])),
        "jitter": float(np.mean([row["jitter"] for row in slices])),
        "jumps": smoothness(frames_FHWC)["jumps"],
    }


def _readable(frames: np.ndarray, caption: str) -> bool:
    if frames.shape[1:3] != (checker.SIZE, checker.SIZE) or len(frames) < SLICE:
        return False
    try:
        checker.parse(caption)
    except ValueError:
        return False
    return True


def smoothness(frames: np.ndarray) -> dict[str, float]:
    """How evenly a toybox video moves, in pixels per frame.

    `speed` is the mean length of the displacement, `jitter` the standard deviation of the displacements about their
    mean, `largest_jump` the largest change of displacement from one frame to the next. `jumps` counts, in 100 frames,
    steps that are more than `JUMP` pixels off the median one.
    """
    steps = checker.displacements(frames)
    off = np.linalg.norm(steps - np.median(steps, axis=0), axis=1)
    change = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    return {
        "speed": float(np.linalg.norm(steps.mean(0))),
        "jitter": float(np.sqrt(((steps - steps.mean(0)) ** 2).sum(1).mean())),
        "largest_jump": float(change.max(initial=0.0)),
        "jumps": 100 * float((off > JUMP).mean()),
    }


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
