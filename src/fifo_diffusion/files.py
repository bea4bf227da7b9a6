"""Files that are there whole or not at all."""

import errno
import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def beside(path: Path) -> Path:
    """Where a file is written before it takes its name: hidden, in the same folder, with the same ending."""
    return path.with_name(f".partial-{path.name}")


REPLACE_SECONDS = 1.0 if os.name == "nt" else 0.0
"""How long the system is asked again: on Windows no file can be replaced while somebody reads it."""

LEFT_SECONDS = 3600
"""After which what somebody wrote beside a file is of a process that was killed."""


@contextmanager
def written_whole(path: str | Path, *, lasting: bool = True, alone: bool = True) -> Iterator[Path]:
    """A path to write to; at the end of the block what is there takes the name `path`, in the place of an older file.

    After a crash of the process or of the machine there is the old file or the new one. A block that fails leaves the
    old one.

    Args:
        path: the file.
        lasting: wait until it is on the disk. False is for what is written several times a second: after a crash of the
            machine (not of the process) the file may be damaged.
        alone: nobody else writes this file now, because of a lock say. Else the last of those who do has it.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    partial = beside(path) if alone else beside(path.with_name(f"{secrets.token_hex(6)}-{path.name}"))
    try:
        partial.unlink(missing_ok=True)  # of a process that was killed
        for left in () if alone else path.parent.glob(f".partial-*-{glob.escape(path.name)}"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    left.unlink()
        yield partial
        if lasting:
            make_last(partial)
        _replace(partial, path)
        if lasting:
            with suppress(OSError):  # Windows opens no folders
                make_last(path.absolute().parent, os.O_RDONLY)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    until = time.monotonic() + REPLACE_SECONDS
    while True:
        try:
            return os.replace(partial, path)
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)


def is_possible(path: str | Path) -> bool:
    """Whether a file could have this name, whether it is there or not."""
    try:
        os.lstat(path)
    except OSError as error:
        return bool(str(path)) and error.errno != errno.ENAMETOOLONG
    except ValueError:  # a null character
        return False
    return True


def make_last(path: str | Path, flags: int = os.O_RDWR) -> None:
    """Wait until a file is on the disk, so that it lasts through a power cut; with `os.O_RDONLY` a folder, where a
    file was renamed. (Windows does it only for files that are open for writing.)"""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
