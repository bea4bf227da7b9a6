"""What the writers of all formats share: their interface, and the care for the output's path."""

import os
import shlex
from pathlib import Path
from typing import Protocol

import numpy as np

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.in_use import being_read


class Sink(Protocol):
    """One format's writer. It trusts its frames: `FrameWriter` has checked and scaled them and counts them."""

    lag: int
    """Frames at the end of the file that a killed process would lose."""
    size: tuple[int, int] | None
    """(height, width) of what is in the output already, None for a new output."""

    def write(self, frame: np.ndarray) -> None:
        """Append one uint8 (height, width, 3) frame."""

    def close(self) -> None:
        """Complete the file; where nothing was written, leave the path as it was found."""

    def discard(self) -> None:
        """Before the first frame: leave the output as it was found, also one that was to be continued."""

    def abandon(self) -> int:
        """After a failed `write` or `close`: keep what plays, and return how many frames that is. Never raises."""


class ScaledSink:
    """Frames enlarged by a whole number, each pixel to a square, on their way to another sink."""

    def __init__(self, sink: Sink, scale: int) -> None:
        self._sink, self._scale, self.size = sink, scale, sink.size
        self.close, self.discard, self.abandon = sink.close, sink.discard, sink.abandon

    @property
    def lag(self) -> int:
        return self._sink.lag

    def write(self, frame: np.ndarray) -> None:
        self._sink.write(frame.repeat(self._scale, axis=0).repeat(self._scale, axis=1))


def check_folder(path: Path) -> None:
    """The folder that `path` goes into must exist."""
    if not path.parent.is_dir():
        raise VideoFileError(
            f"cannot write {path}: there is no folder {path.parent}; "
            f"make it with: mkdir -p {shlex.quote(str(path.parent))}"
        )


def taken(path: os.PathLike | str) -> VideoFileError:
    """The error for an output that exists already."""
    overwrite = Setting("overwrite", True)
    return VideoFileError(Message(f"{path} exists already: add ", overwrite, " or choose another name"))


def check_not_read(path: Path) -> None:
    """An output must not take the place of a file that frames are still read from."""
    source = being_read(path)
    if source is not None:
        raise VideoFileError(
            f"{path} is what the video is made from ({source}), and writing there would destroy it: "
            "choose another name for the output, or close the stream that reads it"
        )


def too_short(path: os.PathLike | str, found: int, wanted: int) -> VideoFileError:
    """The error for an output that does not hold the frames that it is to be continued from."""
    return VideoFileError(
        f"{path} holds {found} frames and cannot be continued from frame {wanted}: "
        f"continue from at most {found}, or start again"
    )
