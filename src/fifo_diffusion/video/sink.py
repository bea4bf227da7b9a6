"""What the writers of all formats share: their interface, and the care for the output's path."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from .errors import VideoFileError


class Sink(Protocol):
    """One format's writer. It trusts its frames: `FrameWriter` has checked and scaled them and counts them."""

    lag: int
    """Frames at the end of the file that a killed process would lose."""
    size: tuple[int, int] | None
    """(height, width) of what is in the output already, None for a new output."""

    def write(self, frame: np.ndarray) -> None:
        """Append one uint8 (height, width, 3) frame. Raises `OSError` or `av.FFmpegError` if that fails."""

    def close(self) -> None:
        """Complete the file; where nothing was written, leave the path as it was found."""

    def abandon(self) -> int:
        """After a failed `write` or `close`: keep what plays, and return how many frames that is. Never raises."""


def as_rate(fps: float) -> Fraction:
    """Frames per second as the fraction that files store."""
    try:
        rate = Fraction(fps).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError):
        rate = Fraction(0)
    if rate <= 0:
        raise ValueError(f"fps must be a positive number, not {fps!r}: for example fps=8")
    return rate


def check_folder(path: Path) -> None:
    """The folder that `path` goes into must exist."""
    if not path.parent.is_dir():
        raise VideoFileError(
            f"cannot write {path}: there is no folder {path.parent}; make it with: mkdir -p {path.parent}"
        )


def taken(path: os.PathLike | str) -> VideoFileError:
    """The error for an output that exists already."""
    return VideoFileError(f"{path} exists already: add --overwrite (in Python: overwrite=True) or choose another name")


def claim(path: Path, overwrite: bool) -> bool:
    """Make sure now, before hours of work, that the file `path` can be written; True if it did not exist before.

    What an existing file holds stays until the first frame is written.
    """
    check_folder(path)
    if path.is_dir():
        raise VideoFileError(f'{path} is a folder: for numbered PNGs in it, type "{path}/"')
    is_new = not path.exists()
    if not is_new and not overwrite:
        raise taken(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | (0 if overwrite else os.O_EXCL), 0o666))
    except FileExistsError:
        raise taken(path) from None
    except OSError as error:
        raise VideoFileError(f"cannot write {path}: {error.strerror}; choose another place") from error
    return is_new


def replace_durably(new: Path, old: Path) -> None:
    """Put the file `new` in the place of `old`; a crash leaves one of the two, whole."""
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, old)


def too_short(path: os.PathLike | str, found: int, wanted: int) -> VideoFileError:
    """The error for an output that does not hold the frames that it is to be continued from."""
    return VideoFileError(
        f"{path} holds {found} frames and cannot be continued from frame {wanted}: "
        f"continue from at most {found}, or start again"
    )
