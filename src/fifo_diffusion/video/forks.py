"""FFmpeg's encoders and converters have threads, which a forked child has not: freed there, they wait for ever."""

import ctypes
import os
from typing import Any
from weakref import WeakKeyDictionary

_NATIVE: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()
"""Process-wide, since Python tells of a fork in one place only."""


def never_freed_in_children(owner: Any, *objects: Any) -> None:
    """A child that is forked while `owner` lives keeps these to its end."""
    _NATIVE[owner] = objects


def _forked() -> None:
    for objects in list(_NATIVE.values()):
        for each in objects:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
