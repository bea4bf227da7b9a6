"""What is measured of one long video: plain numbers, and the features of its sliding windows."""

from typing import Any

import numpy as np

from fifo_diffusion.evaluation import measures, motion
from fifo_diffusion.toybox import checker

SLICE = 32
"""Frames of a slice in which the checker reads a toybox video."""


def measure_video(frames_FHWC: np.ndarray, caption: str | None = None) -> dict[str, Any]:
    """Motion, flicker, evenness and cuts of a video of any kind; with a caption of toybox's world also the checker's.

    Args:
        frames_FHWC: uint8.
        caption: where it is one that `checker` can read; others are left alone.
    """
    magnitudes = motion.flow_magnitudes(frames_FHWC)
    found = {
        "frames": len(frames_FHWC),
        "motion": float(magnitudes.mean()),
        "flicker": measures.flicker(frames_FHWC),
        "jerk": motion.jerk(frames_FHWC),
        "cuts": motion.cuts(frames_FHWC),
    }
    return found | (_read_toybox(frames_FHWC, caption) if caption and _readable(frames_FHWC, caption) else {})


def _readable(frames: np.ndarray, caption: str) -> bool:
    if frames.shape[1:3] != (checker.SIZE, checker.SIZE) or len(frames) < SLICE:
        return False
    try:
        checker.parse(caption)
    except ValueError:
        return False
    return True


def _read_toybox(frames: np.ndarray, caption: str) -> dict[str, Any]:
    slices = measures.drift(frames, caption, SLICE)
    return {
        "score": float(np.mean([row["score"] for row in slices])),
        "score_slices": [row["score"] for row in slices],
        "score_last": slices[-1]["score"],
        "speed": float(np.mean([row["speed"] for row in slices])),
        "jitter": float(np.mean([row["jitter"] for row in slices])),
    }


def summary(videos: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over videos of everything that is a number, with standard errors in NAME_se, and slices as a curve."""
    result: dict[str, Any] = {"videos": len(videos)}
    for name, first in videos[0].items():
        values = [video[name] for video in videos if name in video]
        if isinstance(first, list):
            length = min(map(len, values))
            result[name] = np.mean([value[:length] for value in values], 0).round(4).tolist()
        elif isinstance(first, int | float):
            result[name] = round(float(np.mean(values)), 4)
            if len(values) > 1 and name != "frames":
                result[f"{name}_se"] = round(float(np.std(values, ddof=1) / len(values) ** 0.5), 4)
    return result
