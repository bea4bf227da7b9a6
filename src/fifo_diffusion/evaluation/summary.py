"""Means over videos of what was measured of each."""

from typing import Any

import numpy as np


def summary(videos: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over videos of everything that is a number, with standard errors in NAME_se, and slices as a curve."""
    result: dict[str, Any] = {"videos": len(videos)}
    for name in dict.fromkeys(name for video in videos for name in video):
        values = [video[name] for video in videos if name in video]
        first = values[0]
        if isinstance(first, list):
            length = min(map(len, values))
            result[name] = np.mean([value[:length] for value in values], 0).round(4).tolist()
        elif isinstance(first, int | float):
            result[name] = round(float(np.mean(values)), 4)
            if len(values) > 1 and name != "frames":
                result[f"{name}_se"] = round(float(np.std(values, ddof=1) / len(values) ** 0.5), 4)
    return result
