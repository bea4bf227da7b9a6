"""Short videos to test files with."""

import numpy as np

FORMATS = ["clip.mp4", "clip.webm", "clip.gif", "clip/"]
METADATA = {"settings": '{"prompt": "Ein Ball \\u2014 球", "seed": 3}', "note": "x" * 600}


def clip(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that can be told apart: a blue-green gradient under a red that rises from frame to frame."""
    down, right = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[..., 0] = (np.arange(count) * 7 % 256)[:, None, None]
    frames[..., 1] = right * 255 // max(1, width - 1)
    frames[..., 2] = down * 255 // max(1, height - 1)
    return frames


def error_of(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest mean absolute error of any frame, in levels of 255."""
    assert got.shape == wanted.shape
    return float(np.abs(got.astype(int) - wanted).mean((1, 2, 3)).max())
