"""Spurious cuts as PySceneDetect finds them, where it is installed."""

from typing import Any

import numpy as np


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """`scene_cuts` of a video."""
    return {"scene_cuts": scene_cuts(frames_FHWC)}


def scene_cuts(frames_FHWC: np.ndarray) -> int:
    """Cuts that PySceneDetect's content detector finds in uint8 frames, with its defaults: a change of hue, saturation
    and lightness by 27 in the mean, and 15 frames at least from one cut to the next.

    Raises:
        ImportError: it is not installed.
    """
    from scenedetect import ContentDetector, FrameTimecode

    detector, found, time = ContentDetector(), 0, FrameTimecode(0, 10.0)
    for number, frame in enumerate(frames_FHWC):
        time = FrameTimecode(number, 10.0)  # the rate plays no part: lengths are in frames
        found += len(detector.process_frame(time, np.ascontiguousarray(frame[..., ::-1])))  # it reads BGR
    return found + len(detector.post_process(time))
