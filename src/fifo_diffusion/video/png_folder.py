"""A folder of numbered PNGs: frame_000000.png, frame_000001.png, ..."""

import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.metadata import PNG_KEY, read_metadata, to_comment
from fifo_diffusion.video.output_file import moved
from fifo_diffusion.video.sink import check_folder, check_not_read, taken, too_short
from fifo_diffusion.video.stills import opened_image

NAME = re.compile(r"frame_(\d{6,})\.png")


class PngFolderSink:
    """Frames into a folder, each one whole or not there."""

    lag = 0

    def __init__(self, path: str, *, metadata: dict[str, str], overwrite: bool, continue_from: int) -> None:
        self.path = Path(path)
        self.size: tuple[int, int] | None = None
        self._index = self._continued = continue_from
        if self.path.resolve() == Path(self.path.resolve().anchor):
            raise VideoFileError(f"{path} is the root of the file system: name a folder in it for the PNGs")
        if self.path.exists() and not self.path.is_dir():
            raise VideoFileError(
                f"{path} is a file, and a name without a suffix means a folder of PNGs: choose another name"
            )
        check_folder(self.path)
        if not continue_from:
            check_not_read(self.path)
        self._old = self._frames_there()
        if continue_from:
            found = next((n for n in range(continue_from) if n not in self._old), continue_from)
            if found < continue_from:
                raise too_short(path, found, continue_from)
            with opened_image(self._old[0]) as image:
                self.size = (image.height, image.width)
            metadata = read_metadata(self._old[0])
        elif self._old and not overwrite:
            raise taken(path)
        self._info = PngInfo()
        if metadata:
            self._info.add_itxt(PNG_KEY, to_comment(metadata))
        self._is_new = not self.path.exists()
        self._part = self.path / ".frame.part"
        try:
            self.path.mkdir(exist_ok=True)
            self._part.touch()
            self._part.unlink()
        except OSError as error:
            raise VideoFileError(f"cannot write into {path}: {error.strerror}; choose another place") from error

    def write(self, frame: np.ndarray) -> None:
        try:
            Image.fromarray(frame).save(self._part, format="PNG", pnginfo=self._info)
            self._remove_old()  # not before the first new frame is there, so that a failed start loses nothing
            os.replace(self._part, self.path / f"frame_{self._index:06d}.png")
        except FileNotFoundError as error:
            raise moved(self.path, None) from error
        self._index += 1

    def close(self) -> None:
        if self._continued:
            self._remove_old()
        self.discard()

    def discard(self) -> None:
        self._part.unlink(missing_ok=True)  # of an interrupted `write`
        if self._is_new and not self._index:
            self.path.rmdir()

    def abandon(self) -> int:
        with suppress(OSError):
            self.close()
        return self._index

    def _frames_there(self) -> dict[int, Path]:
        names = self.path.iterdir() if self.path.is_dir() else ()
        return {int(match[1]): path for path in names if (match := NAME.fullmatch(path.name))}

    def _remove_old(self) -> None:
        """Drop the old frames from here on."""
        if self._old and not self._continued:
            check_not_read(self.path)
        for number, path in self._old.items():
            if number >= self._index:
                path.unlink(missing_ok=True)
        self._old = {}
