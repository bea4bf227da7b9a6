"""How fast frames come."""

import time
from collections import deque

NEWEST = 20
"""Frames that a rate is of."""


class Rate:
    """Frames per second, by the newest twenty."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=NEWEST)

    def came(self) -> float:
        """A frame is there now; frames per second, 0 where that is not known yet."""
        self._times.append(time.monotonic())
        passed = self._times[-1] - self._times[0]
        return round((len(self._times) - 1) / passed, 3) if passed > 0 else 0.0
