"""Whether a video leaves what it was given by a leap: most text-to-video models do not keep a picture that is none of
their own."""

import numpy as np

AFTER = 12
"""Steps between new frames that the first one is compared with."""
TIMES, LEAST = 2.0, 4.0
"""A leap is larger than so many times the largest of them, and than so many of 255 grey levels."""


class FirstStep:
    """Sees the frames of a video as they are made.

    Args:
        given: how many given frames it begins with; 0: none, and there is nothing to see.
    """

    def __init__(self, given: int) -> None:
        self._wanted = range(given - 1, given + AFTER + 1) if given else range(0)
        self._last: np.ndarray | None = None
        self._steps: list[float] = []

    def frame(self, number: int, frame: np.ndarray) -> str:
        """What to say after this frame; mostly nothing.

        Args:
            number: of the frame, which come in order.
            frame: uint8 (H, W, 3), or (B, H, W, 3).
        """
        if number not in self._wanted:
            return ""
        if self._last is not None:
            self._steps.append(float(np.abs(frame.astype(np.int16) - self._last).mean()))
        self._last = frame.astype(np.int16)
        if number < self._wanted[-1] or len(self._steps) <= AFTER:
            return ""
        self._last, (first, *later) = None, self._steps
        if first <= max(LEAST, TIMES * max(later)):
            return ""
        return (
            f"the first new frame differs from the given one by {first:.0f} of 255 grey levels, later ones from each "
            f"other by {max(later):.0f} at most: this model does not go on from this picture, it makes another one"
        )
