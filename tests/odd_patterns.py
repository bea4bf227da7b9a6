"""The usual picture of odd media files, and what must come of one.

A usual picture is 64x48 with a red, a green, a blue and a yellow quarter (left to right, top to bottom). In videos the
blue quarter's red rises by 5 from frame to frame, so that frames can be told apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RED, GREEN, BLUE, YELLOW, WHITE, GREY = (
    (210, 40, 40),
    (40, 170, 60),
    (40, 60, 200),
    (220, 200, 50),
    (255, 255, 255),
    (128, 128, 128),
)
USUAL = (RED, GREEN, BLUE, YELLOW)
STEP = 5


@dataclass(frozen=True)
class Case:
    """A file and what must come of it.

    Attributes:
        make: writes it at a path.
        name: of the file.
        quarters: colours of the first frame as it is seen.
        frames: how many; None: not known beforehand, but every way of reading must agree.
        size: (width, height) as it is seen.
        numbers: which of the written frames these are; None: not looked at.
        fps: None: not looked at.
        tolerance: of each colour, in levels of 255.
        note: in what is said while it is read; None: nothing is said.
        refused: in the one line with which it is refused; None: it is read.
        made_here: whether the libraries that are installed can make it.
    """

    make: Callable[[Path], None]
    name: str
    quarters: tuple = USUAL
    frames: int | None = 1
    size: tuple[int, int] = (64, 48)
    numbers: list[int] | None = None
    fps: float | None = None
    tolerance: int = 8
    note: str | None = None
    refused: str | None = None
    made_here: bool = True


def pattern(width: int = 64, height: int = 48, number: int = 0, quarters: tuple = USUAL) -> np.ndarray:
    """uint8 (height, width, channels) of four quarters."""
    picture = np.zeros((height, width, len(quarters[0])), np.uint8)
    top, left = height // 2, width // 2
    for colour, rows, columns in zip(quarters, "TTBB", "LRLR", strict=True):
        down = slice(0, top) if rows == "T" else slice(top, None)
        right = slice(0, left) if columns == "L" else slice(left, None)
        picture[down, right] = colour
    if number:
        picture[top:, :left, 0] += STEP * number
    return picture


def number_of(frame: np.ndarray) -> int:
    """Which frame of a video this is."""
    height, width = frame.shape[:2]
    level = frame[height * 5 // 8 : height * 7 // 8, width // 8 : width * 3 // 8, 0].mean()
    return round((level - BLUE[0]) / STEP)


HALF_YELLOW = tuple(round((c + 255) / 2) for c in YELLOW)
CLEAR = (RED, GREEN, WHITE, HALF_YELLOW)
"""The usual picture with the blue quarter transparent and the yellow one half so."""
