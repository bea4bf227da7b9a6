"""Abrupt changes from one frame to the next."""

from typing import Any

import numpy as np

CUT_RATIO, CUT_LEAST = 6.0, 8.0


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """`cuts` of a video."""
    return {"cuts": cuts(frames_FHWC)}


def cuts(frames_FHWC: np.ndarray) -> int:
    """Abrupt changes: steps whose mean absolute difference is 6 times the median step, and 8 grey levels at least."""
    frames = frames_FHWC.astype(np.float32)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    return int((steps > max(CUT_LEAST, CUT_RATIO * float(np.median(steps)))).sum())
