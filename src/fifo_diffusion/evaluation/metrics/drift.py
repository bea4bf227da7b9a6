"""How much frames still have in common when they are far apart, and how colours run away."""

from typing import Any

import numpy as np

from fifo_diffusion.evaluation.drift import Drift


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """`coherence` of a video, in the mean and by distance, and `colour_trend`."""
    drift = Drift(motion=False)
    for frame in frames_FHWC:
        drift.add(frame)
    found = drift.summary()
    curve = [*found.get("coherence_at", {}).values()]
    means = {"coherence": found["coherence"], "coherence_curve": curve} if curve else {}
    return means | {"colour_trend": round(float(np.linalg.norm(found["colour_trend"])), 4)}
