"""GIFs, written frame by frame; Pillow's own `save` keeps every frame in memory until the last."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image

from fifo_diffusion.video.gif_blocks import frame_ends
from fifo_diffusion.video.metadata import to_comment
from fifo_diffusion.video.output_file import OutputFile
from fifo_diffusion.video.sink import too_short

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
        self._index = self._continued = continue_from
        self._file = OutputFile(self.path, overwrite=overwrite, continues=continue_from > 0)
        if continue_from:
            try:
                self._take_over(continue_from)
            except BaseException:
                self._file.close()
                raise

    def write(self, frame: np.ndarray) -> None:
        image = _with_palette(frame)
        parts = GifImagePlugin.getdata(image, duration=self._delay() * 10, include_color_table=True)
        if not self._index:
            info = {"loop": 0, "comment": to_comment(self._metadata) if self._metadata else ""}
            parts = GifImagePlugin.getheader(image.copy(), info=info)[0] + parts
        self._file.cut()
        self._file.write(b"".join(parts))
        self._file.mark()
        self._index += 1
        self._file.place()

    def close(self) -> None:
        if not self._index:
            self._file.close()
            return
        self._file.cut()
        self._file.write(TRAILER)
        self._file.complete()

    def discard(self) -> None:
        self._file.freeze()
        self._file.close()

    def abandon(self) -> int:
        self._file.freeze()  # players do not miss the trailer
        placed = self._file.placed
        self._file.close()
        return self._index if placed else self._continued

    def _delay(self) -> int:
        """Hundredths of a second; their sum, not each of them, follows the frame rate."""
        return round((self._index + 1) * 100 / self.rate) - round(self._index * 100 / self.rate)

    def _take_over(self, frames: int) -> None:
        """Begin with the first `frames` frames of what is there."""
        with open(self.path, "rb") as file:
            ends = list(islice(frame_ends(file, self.path), frames))
            file.seek(6)
            width, height = int.from_bytes(file.read(2), "little"), int.from_bytes(file.read(2), "little")
        if len(ends) < frames:
            raise too_short(self.path, len(ends), frames)
        self._file.copy_from(self.path, ends[-1])
        self._file.mark()
        self.size = (height, width)


def _with_palette(frame: np.ndarray) -> Image.Image:
    """The frame in its best 256 colours, which are found in a reduced copy: for large frames much faster."""
    image = Image.fromarray(frame)
    factor = max(1, round((image.width * image.height / PALETTE_PIXELS) ** 0.5))
    sample = image.resize((-(-image.width // factor), -(-image.height // factor)), Image.Resampling.NEAREST)
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    return palette if factor == 1 else image.quantize(palette=palette, dither=Image.Dither.NONE)
