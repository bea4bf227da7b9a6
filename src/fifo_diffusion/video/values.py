"""Numbers as people pass them to readers and writers, from Python or NumPy."""

import operator
from collections.abc import Sequence
from fractions import Fraction

from fifo_diffusion.errors import ArgumentError

FASTEST = 1000
"""Frames per second."""


def as_rate(fps: float) -> Fraction:
    """Frames per second as the fraction that files store.

    Raises:
        ValueError: it is none, or none that files store.
    """
    value = fps.item() if getattr(fps, "shape", None) == () else fps
    try:
        rate = Fraction(value).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise ArgumentError("fps", fps, "give a positive number, 8 for example")
    if rate > FASTEST:
        raise ArgumentError("fps", fps, f"give at most {FASTEST}")
    return rate


def whole(name: str, value: int, least: int) -> int:
    """A whole number of at least so much.

    Raises:
        ValueError: it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ArgumentError(name, value, f"give a whole number of at least {least}")
    return number


def as_size(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of frames.

    Raises:
        ValueError: it is none.
    """
    try:
        height, width = size
    except (TypeError, ValueError):
        raise ArgumentError("size", size, "give (height, width)") from None
    return whole("height", height, 1), whole("width", width, 1)
