"""One run per output: a lock that the system takes away with the process, however that ends."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import beside
from fifo_diffusion.jobs.request import Request

if os.name == "nt":
    import msvcrt

    _BYTE = 1 << 30  # beyond what is read: on Windows a locked byte is unreadable

    def _take(descriptor: int) -> bool:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """The lock of a file that stays: whoever has it owns what the file stands for, until the process ends, however that
    happens.

    Args:
        path: the file; it is made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it; False where another has it, in this process or elsewhere.

        Raises:
            OSError: the file cannot be opened for writing, or its file system has no locks.
        """
        assert self._descriptor is None
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _take(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back; without effect where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether somebody has the lock of a file (see `FileLock`)."""
    if not path.exists():
        return False
    with FileLock(path) as lock:
        return not lock.take()


@contextmanager
def locked(output: str | Path) -> Iterator[None]:
    """While in force, other processes that want the lock of the same file or folder are refused.

    The lock is on a small hidden file beside it, which goes when the block ends (after `kill -9`: when the next one
    does). Where no such file can be made there is no lock.

    Args:
        output: a file or folder; it need not exist. "-", standard output, is nobody else's.

    Raises:
        UserError: another process has it.
    """
    if str(output) == "-":
        yield
        return
    target = Path(os.path.realpath(output))
    file = target.with_name(f".{target.name}.lock")
    descriptor = _open(file, output)
    try:
        yield
    finally:
        if descriptor is not None:
            if os.name != "nt":  # there open files cannot be removed
                file.unlink(missing_ok=True)
            os.close(descriptor)
            if os.name == "nt":
                with suppress(OSError):
                    file.unlink()


@contextmanager
def locked_for(request: Request) -> Iterator[None]:
    """While in force, other processes are refused the request's outputs and its state.

    Raises:
        UserError: another process has one of them, or has just begun or ended with the state.
    """
    with ExitStack() as locks:
        state = request.state_file
        if state is not None:
            locks.enter_context(locked(state))
            if not request.batch and state.exists() != (request.continues is not None):
                raise UserError(f"another process has just begun or ended with {state}: type the same again")
            beside(state).unlink(missing_ok=True)  # of a process that was killed
        for output in [request.batch] if request.batch else [video.output for video in request.videos]:
            locks.enter_context(locked(output))
        yield


def _open(file: Path, output: str | Path) -> int | None:
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            taken = _take(descriptor)
        except OSError:  # a file system without locks: no worse than before
            taken = True
        if not taken:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise UserError(f"another process{holder} is at work on {output}: wait for it, or choose another name")
        if _is_current(file, descriptor):
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, b"%d\n" % os.getpid())
            return descriptor
        os.close(descriptor)  # the one who had it has removed it meanwhile


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return f" (pid {int(os.read(descriptor, 20))})"
    except (OSError, ValueError):
        return ""


def _is_current(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except OSError:
        return False
