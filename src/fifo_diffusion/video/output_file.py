"""A file in the making, which takes the place of what is there only once it holds something that plays."""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.sink import check_folder, check_not_read, taken


class OutputFile:
    """Where a sink puts its bytes. FFmpeg writes to it too: it asks for `write`, `seek` and `tell`.

    The bytes go to a hidden file beside (`.NAME.part`). `place` gives it its name: whatever had that name before is
    whole until then, also for programs that have it open, and a process that is killed leaves the old file or a new
    one that plays. In a forked child nothing is written: the file is its parent's.

    Args:
        path: the output; a link is followed.
        overwrite: whether a file there may be replaced. One without a byte is no file.
        continues: what is there goes into the new file first, so that it may also be what frames are made from.

    Attributes:
        placed: whether the file has its name.
        failed: whether the system has refused to take bytes.

    Raises:
        VideoFileError: it is there already, is being read, is no ordinary file, or cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool, continues: bool = False) -> None:
        self.path, self._overwrite, self._continues = path, overwrite or continues, continues
        check_folder(path)
        try:
            self._old = _ordinary_file(path)
            if self._old is not None and not self._overwrite:
                raise taken(path)
            if not continues:
                check_not_read(path)
            self._target = Path(os.path.realpath(path))
            self._name = self._target.with_name(_part_name(self._target.name))
            self._name.unlink(missing_ok=True)  # of a process that was killed
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            self._raw = os.fdopen(os.open(self._name, flags, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise VideoFileError(f"cannot write {path}: {error.strerror}; choose another place") from error
        self.placed = self.failed = self._frozen = False
        self._good = self._end = 0
        self._process = os.getpid()

    # ------------------------------------------------------------------ bytes

    def write(self, data: bytes) -> int:
        """All of the data, here."""
        view = memoryview(data)
        if self._frozen or os.getpid() != self._process:
            return len(view)
        taken_in = 0
        try:
            while taken_in < len(view):  # an unbuffered file may take only a part
                taken_in += self._raw.write(view[taken_in:]) or 0
        except BaseException:
            self.failed = True
            raise
        self._end = max(self._end, self._raw.tell())
        return taken_in

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def copy_from(self, source: Path, length: int) -> None:
        """The first bytes of another file."""
        with open(source, "rb") as file:
            while length and (data := file.read(min(length, 1 << 20))):
                self.write(data)
                length -= len(data)

    def cut(self) -> None:
        """Go back to the end of what plays."""
        self._raw.seek(self._good)
        self._raw.truncate()

    # ------------------------------------------------------------------ its life

    def mark(self) -> None:
        """What is written so far plays, and stays whatever comes."""
        self._good = self._end

    def place(self) -> None:
        """Give the file its name, or see that it still has it. After a crash of the machine, too, there is the old file
        or this one.

        Raises:
            MovedError: it was renamed, removed or replaced.
        """
        self._check_there()
        if self.placed:
            return
        os.fsync(self._raw.fileno())
        if not self._continues:
            check_not_read(self.path)
        if not self._overwrite:  # somebody else may have been faster
            with suppress(OSError):
                if _ordinary_file(self._target) is not None:
                    raise taken(self.path)
        if self._old is not None:
            with suppress(OSError):
                os.chmod(self._name, stat.S_IMODE(self._old.st_mode))
        position = self._raw.tell()
        self._raw.close()  # Windows renames no open file
        os.replace(self._name, self._target)
        self._name, self.placed = self._target, True
        self._raw = open(self._target, "r+b", buffering=0)  # noqa: SIM115
        self._raw.seek(position)

    def complete(self) -> None:
        """The file is whole: give it its name and close it."""
        if os.getpid() == self._process:
            self.place()
        self.close()

    def close(self) -> None:
        """Without a word on what is in it; a file that has no name yet is removed."""
        self._frozen = True
        self._raw.close()
        if not self.placed and os.getpid() == self._process:
            with suppress(OSError):
                self._name.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Cut off what was not marked; from here on nothing is written. Never raises."""
        self._frozen = True
        if os.getpid() == self._process:
            with suppress(OSError, ValueError):  # ValueError: it is closed already
                self._raw.truncate(self._good)

    def _check_there(self) -> None:
        """Others may rename and remove files while they are written."""
        try:
            mine = there = os.fstat(self._raw.fileno())
            there = os.stat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError:  # that a network folder does not answer says nothing about the file
            return
        if there is None or not os.path.samestat(mine, there):
            raise moved(self.path, self._whereabouts())

    def _whereabouts(self) -> str | None:
        """The file's new name, where the system tells it."""
        with suppress(OSError):
            if os.fstat(self._raw.fileno()).st_nlink:
                name = os.readlink(f"/proc/self/fd/{self._raw.fileno()}")
                return os.path.relpath(name) if os.path.exists(name) else None
        return None


class MovedError(VideoFileError):
    """The output was renamed, removed or replaced by somebody else."""


def moved(path: os.PathLike | str, new_name: str | None) -> MovedError:
    """The error for an output that is no longer where it was."""
    what = f"renamed to {new_name}" if new_name else "renamed, removed or replaced"
    return MovedError(f"{path} was {what} while it was being written")


def _ordinary_file(path: Path) -> os.stat_result | None:
    """What is there under this name; None for nothing, or a file without a byte, which nobody misses."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise VideoFileError(f'{path} is a folder: for numbered PNGs in it, type "{path}/"')
    if not stat.S_ISREG(found.st_mode):
        raise VideoFileError(
            f"{path} is a pipe or a device, and {path.suffix} needs a file: name a file, or write raw video (y4m) to "
            "standard output with -"
        )
    if not os.access(path, os.W_OK):
        raise PermissionError(13, "Permission denied")
    return found if found.st_size else None


def _part_name(name: str) -> str:
    """Hidden, and no longer than file systems allow."""
    if len(os.fsencode(name)) > 240:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}.part"
