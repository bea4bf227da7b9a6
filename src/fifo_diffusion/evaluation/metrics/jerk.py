"""How unevenly pictures change."""

from typing import Any

import numpy as np


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """`jerk` of a video."""
    return {"jerk": jerk(frames_FHWC)}


def jerk(frames_FHWC: np.ndarray) -> float:
    """How unevenly pictures change: root mean square of the second difference in time over that of the first. About 0
    for what fades evenly, 1.73 for frames that have nothing to do with each other; 0 for a still."""
    frames = frames_FHWC.astype(np.float32)
    first = np.diff(frames, axis=0)
    change = float(np.sqrt((first**2).mean()))
    return float(np.sqrt((np.diff(first, axis=0) ** 2).mean())) / change if change else 0.0
