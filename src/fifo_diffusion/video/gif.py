"""GIFs, written frame by frame; Pillow's own `save` keeps every frame in memory until the last."""

import os
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from .gif_blocks import frame_ends
from .metadata import to_comment
from .sink import claim, too_short

TRAILER = b";"
FASTEST = 50  # frames/s; players show delays under 2/100 s as 10/100 s
PALETTE_PIXELS = 128 * 128  # pixels that a frame's palette is chosen from


class GifSink:
    """Frames into one looping GIF, each with its own 256 colours, undithered: dithering crawls from frame to frame."""

    lag = 0

    def __init__(
        self, path: str, *, rate: Fraction, metadata: dict[str, str], overwrite: bool, continue_from: int
    ) -> None:
        if rate > FASTEST:
            raise ValueError(f"a GIF shows at most {FASTEST} frames/s, not {float(rate):g}: lower fps or write .mp4")
        self.path, self.rate, self._metadata = Path(path), rate, metadata
        self.size: tuple[int, int] | None = None
        self._file: BinaryIO | None = None
        self._index = continue_from
        self._is_new = claim(self.path, overwrite or continue_from > 0)
        self._good_bytes = self._cut(continue_from) if continue_from else 0

    def write(self, frame: np.ndarray) -> None:
        image = _with_palette(frame)
        parts = GifImagePlugin.getdata(image, duration=self._delay() * 10, include_color_table=True)
        if self._file is None:
            self._file = open(self.path, "r+b" if self._good_bytes else "wb", buffering=0)  # noqa: SIM115
            self._file.seek(self._good_bytes)
            if not self._good_bytes:
                info = {"loop": 0, "comment": to_comment(self._metadata) if self._metadata else ""}
                parts = GifImagePlugin.getheader(image.copy(), info=info)[0] + parts
        _write_all(self._file, b"".join(parts))
        self._good_bytes = self._file.tell()
        self._index += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.seek(self._good_bytes)
            _write_all(self._file, TRAILER)
            self._file.truncate()
            self._file.close()
        elif self._is_new:
            self.path.unlink(missing_ok=True)

    def abandon(self) -> int:
        if self._file is not None:
            self._file.close()
        if self._index:
            with suppress(OSError):
                os.truncate(self.path, self._good_bytes)  # players do not miss the trailer
        elif self._file is not None or self._is_new:
            self.path.unlink(missing_ok=True)
        return self._index

    def _delay(self) -> int:
        """Hundredths of a second; their sum, not each of them, follows the frame rate."""
        return round((self._index + 1) * 100 / self.rate) - round(self._index * 100 / self.rate)

    def _cut(self, frames: int) -> int:
        with open(self.path, "rb") as file:
            ends = list(islice(frame_ends(file, self.path), frames))
            file.seek(6)
            width, height = int.from_bytes(file.read(2), "little"), int.from_bytes(file.read(2), "little")
        if len(ends) < frames:
            raise too_short(self.path, len(ends), frames)
        os.truncate(self.path, ends[-1])
        self.size = (height, width)
        return ends[-1]


def _with_palette(frame: np.ndarray) -> Image.Image:
    """The frame in its best 256 colours, which are found in a reduced copy: for large frames much faster."""
    image = Image.fromarray(frame)
    factor = max(1, round((image.width * image.height / PALETTE_PIXELS) ** 0.5))
    sample = image.resize((-(-image.width // factor), -(-image.height // factor)), Image.Resampling.NEAREST)
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    return palette if factor == 1 else image.quantize(palette=palette, dither=Image.Dither.NONE)


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # an unbuffered file may take only a part
        view = view[file.write(view) :]
