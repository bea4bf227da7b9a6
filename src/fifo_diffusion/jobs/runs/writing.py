"""The video of a run in parts: ordinary files, each of which ends where a state is taken."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.files import make_last
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.video import FrameWriter, VideoFileError


class PartsWriter:
    """As a `FrameWriter`, but into a new file whenever a part was ended.

    Args:
        run: whose folder takes the parts.
        frames: that are there already.
        open_file: opens a file by its name; keywords go into its metadata.

    Attributes:
        path: the run's folder.
        frames: of the video so far.
    """

    def __init__(self, run: RunFolder, frames: int, open_file: Callable[..., FrameWriter]) -> None:
        self.path, self.frames = str(run.folder), frames
        self._run, self._open_file, self._first = run, open_file, frames
        self._part: FrameWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """As `FrameWriter.write`."""
        if self._part is None:
            self._first = self.frames
            self._part = self._open_file(str(self._run.part_path(self._first)), first_frame=str(self._first))
        try:
            self._part.write(frame)
        except VideoFileError:
            self._drop()
            raise
        self.frames += 1

    def end_part(self) -> None:
        """Close the part that grows, and wait until it is on the disk: from here on it never changes.

        Raises:
            VideoFileError: that failed (disk full); `frames` are those that were kept.
        """
        if self._part is None:
            return
        try:
            self._part.close()
        except VideoFileError:
            self._drop()
            raise
        path, self._part = Path(self._part.path), None
        make_last(path)
        with suppress(OSError):  # Windows opens no folders
            make_last(path.parent, os.O_RDONLY)

    def close(self) -> None:
        """As `end_part`."""
        self.end_part()

    def _drop(self) -> None:
        assert self._part is not None
        self.frames, self._part = self._first + self._part.frames, None

    def __enter__(self) -> "PartsWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.close()
        else:
            with suppress(VideoFileError, OSError):  # the first error is the one to tell
                self.close()
