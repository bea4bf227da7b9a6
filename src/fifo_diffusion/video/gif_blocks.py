"""Where the frames of a GIF end: the little of its structure that cutting and counting need."""

import os
from collections.abc import Iterator
from typing import BinaryIO

from fifo_diffusion.video.errors import VideoFileError


def frame_ends(file: BinaryIO, name: object) -> Iterator[int]:
    """The offset in a GIF after each of its whole frames."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = file.read(13)
    if header[:3] != b"GIF" or len(header) < 13:
        raise VideoFileError(f"{name} is not a GIF")
    _skip_palette(file, header[10])
    while (block := file.read(1)) in (b"!", b","):
        if block == b"!":
            file.seek(1, os.SEEK_CUR)  # which extension it is
        else:
            _skip_palette(file, (file.read(9) or b"\0")[-1])
            file.seek(1, os.SEEK_CUR)  # bits per symbol
        while (size := file.read(1)) not in (b"", b"\0"):
            file.seek(size[0], os.SEEK_CUR)
        if file.tell() > length or size == b"":
            return
        if block == b",":
            yield file.tell()


def _skip_palette(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)
