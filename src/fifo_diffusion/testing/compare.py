"""Comparing tensors and frames."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
from torch import Tensor

TOLERANCE = 1e-5
"""The relative distance in norm that rounding in float32 stays below."""


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative distance in norm."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


def frames(stream: Iterable[np.ndarray], count: int | None = None) -> np.ndarray:
    """The next `count` frames of a stream, or all that are left, as one array."""
    return np.stack(list(islice(stream, count)))


def same(a: np.ndarray, b: np.ndarray, tolerance: int = 1) -> bool:
    """Whether uint8 frames are equal up to rounding to 8 bits."""
    return bool(np.abs(a.astype(int) - b.astype(int)).max() <= tolerance)
