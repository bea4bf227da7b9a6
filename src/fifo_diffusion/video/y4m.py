"""YUV4MPEG2 on standard output: raw frames that ffmpeg, mpv and most encoders read from a pipe.

The format says nothing about the colour matrix, and its readers take BT.601. It has no room for metadata either:
readers refuse a long header line.
"""

import os
import sys
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.forks import never_freed_in_children


class Y4mSink:
    """Frames to standard output; 4:2:0, or 4:4:4 for odd sizes, which not every reader halves in the same way."""

    lag = 0
    size = None

    def __init__(self, *, rate: Fraction) -> None:
        if sys.stdout is not None and sys.stdout.isatty():
            raise VideoFileError('"-" writes raw video, which a terminal cannot show: add "| mpv -", or name a file')
        if not hasattr(sys.stdout, "buffer"):
            raise VideoFileError('"-" writes raw video to standard output, and there is none here: name a file')
        self.rate = rate
        self._out = sys.stdout.buffer
        self._index = 0
        self._reformatter = VideoReformatter()
        never_freed_in_children(self, self._reformatter)

    def write(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        even = height % 2 == 0 and width % 2 == 0
        if self._index == 0:
            fps = f"{self.rate.numerator}:{self.rate.denominator}"
            chroma = "420jpeg" if even else "444"
            header = f"YUV4MPEG2 W{width} H{height} F{fps} Ip A1:1 C{chroma} XCOLORRANGE=LIMITED\n"
            self._out.write(header.encode())
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p" if even else "yuv444p",
            dst_colorspace="itu601",
            dst_color_range="MPEG",
        )
        self._out.write(b"FRAME\n" + picture.to_ndarray().tobytes())
        self._out.flush()
        self._index += 1

    def close(self) -> None:
        pass

    def discard(self) -> None:
        pass

    def abandon(self) -> int:
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # else Python tries, at exit, to write what is left
            os.dup2(nowhere.fileno(), self._out.fileno())
        return self._index
