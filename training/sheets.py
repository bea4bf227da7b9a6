"""Contact sheets: one row of frames per video, as a small PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def save_sheet(
    videos: Sequence[np.ndarray], path: str | Path, columns: int = 16, every: int = 1, scale: int = 1
) -> None:
    """Write videos, each uint8 (F, H, W, 3), row by row; a video longer than `columns` takes several rows."""
    rows = []
    for video in videos:
        frames = list(video[::every])
        for start in range(0, len(frames), columns):
            row = frames[start : start + columns]
            row += [np.full_like(row[0], 255)] * (columns - len(row))
            rows.append(np.concatenate([np.pad(f, ((1, 1), (1, 1), (0, 0)), constant_values=255) for f in row], 1))
    image = Image.fromarray(np.concatenate(rows))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)  # a palette keeps the file small
