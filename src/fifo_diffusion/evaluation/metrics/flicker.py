"""Uneven changes of the mean colour."""

from typing import Any

import numpy as np


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """`flicker` of a video."""
    return {"flicker": flicker(frames_FHWC)}


def flicker(frames: np.ndarray) -> float:
    """Root mean square second difference of the mean colour of the frames, in levels of 255; 0 for even changes."""
    means = frames.astype(np.float64).mean((1, 2))
    return float(np.sqrt((np.diff(means, 2, axis=0) ** 2).mean()))
