"""Files that frames are still to be read from. No output takes their place: it would destroy what it is made from."""

import inspect
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

_READERS: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()
"""What each reader that lives was given. Process-wide, since an output does not know where its frames come from."""


def begin_reading(reader: Any, *paths: str | os.PathLike) -> None:
    """As long as `reader` lives, and until `end_reading`, no writer of this process may replace these."""
    _READERS[reader] = [os.path.abspath(path) for path in paths]


def end_reading(reader: Any) -> None:
    """The reader wants no more."""
    _READERS.pop(reader, None)


def being_read(output: str | os.PathLike) -> str | None:
    """The path by which a living reader reads what `output` would replace, if there is one."""
    for reader, paths in list(_READERS.items()):
        over = inspect.isgenerator(reader) and inspect.getgeneratorstate(reader) == inspect.GEN_CLOSED
        if not over and (path := clash(output, paths)) is not None:
            return path
    return None


def clash(output: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> str | None:
    """The first input that writing to `output` would destroy: the same file or folder under whatever name, or a frame
    in that folder. Paths that do not exist are compared by name."""
    for path in map(os.fspath, inputs):
        if _same(output, path):
            return path
        folder, name = os.path.split(os.path.abspath(path))
        if name.startswith("frame_") and name.endswith(".png") and os.path.isdir(output) and _same(output, folder):
            return path
    return None


def _same(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    with suppress(OSError, ValueError):
        return os.path.samefile(one, other)
    with suppress(OSError, ValueError):
        return Path(os.path.realpath(one)) == Path(os.path.realpath(other))
    return False
