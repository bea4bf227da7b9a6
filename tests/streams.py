"""What the tests of streams share."""

import numpy as np

SMALL = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 3.0}


def pictures(count, value=128):
    """Random pictures, uint8 (count, 16, 16, 3)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, value, (count, 16, 16, 3), dtype=np.uint8)
