"""What the tests of streams share."""

from itertools import islice

import numpy as np

SMALL = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 3.0}


def frames(stream, count=None):
    """The next `count` frames, or all, as one array."""
    return np.stack(list(islice(stream, count)))


def same(a, b, tolerance=1):
    """Equal up to rounding to 8 bits."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= tolerance


def pictures(count, value=128):
    """Random pictures, uint8 (count, 16, 16, 3)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, value, (count, 16, 16, 3), dtype=np.uint8)
