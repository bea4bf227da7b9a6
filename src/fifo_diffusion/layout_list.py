"""Layouts of the queue by name, as data: what `layout=` and `--layout` take.

A layout is one class (`fifo_diffusion.method.layout.Layout`) and one entry of `LAYOUTS`. The command's options, its dry
run, streams, costs, ranks and saved states find it there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class LayoutEntry:
    """A layout of the queue.

    Attributes:
        about: what it is, in a few words, for `--help`.
        make: makes the layout of a run from its settings (`window`, `num_partitions`, ...), or "module:function".
            Raises `ArgumentError` where they do not fit.
        takes: the settings of the queue that it reads beside `window`; others are refused where they are given.
    """

    about: str
    make: Callable[[Any], Any] | str
    takes: tuple[str, ...] = ()

    def __call__(self, settings: Any) -> Any:
        """The layout that these settings describe."""
        make = self.make
        if isinstance(make, str):
            module, name = make.split(":")
            make = getattr(import_module(module), name)
        return make(settings)


LAYOUTS: dict[str, LayoutEntry] = {
    "partitions": LayoutEntry(
        "the paper's",
        "fifo_diffusion.method.layouts:partitions",
        ("num_partitions", "lookahead", "frames_per_level"),
    ),
    "rotating": LayoutEntry(
        "its windows move by a slot per iteration",
        "fifo_diffusion.method.layouts:rotating",
        ("num_partitions", "lookahead", "frames_per_level"),
    ),
    "widening": LayoutEntry(
        "a whole window at one level at the clean end",
        "fifo_diffusion.method.layouts:widening",
        ("num_partitions", "frames_per_level", "clean_levels"),
    ),
    "memory": LayoutEntry(
        "MIGA's windows, which also see frames further on",
        "fifo_diffusion.method.layouts:memory",
        ("num_partitions", "frames_per_level"),
    ),
}
"""Name -> layout. One that is added here, by a program too, is known everywhere."""


def about_layouts() -> str:
    """All of them in a line, for the help."""
    return "; ".join(f"{name} ({entry.about})" for name, entry in LAYOUTS.items())
