"""The layout that settings describe."""

from types import SimpleNamespace
from typing import Any, Protocol

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.layout_list import LAYOUTS
from fifo_diffusion.method.anchored import AnchoredLayout
from fifo_diffusion.method.banded import BandedLayout
from fifo_diffusion.method.cached import CachedLayout
from fifo_diffusion.method.layout import Layout
from fifo_diffusion.method.memory import MemoryLayout
from fifo_diffusion.method.partitions import QueueLayout
from fifo_diffusion.method.rotating import RotatingLayout
from fifo_diffusion.method.widening import WideningLayout


class QueueSettings(Protocol):
    """What every layout is made from; `LayoutEntry.takes` says which of it one reads."""

    layout: str
    window: int
    num_partitions: int
    lookahead: Any
    frames_per_level: int
    cache: int
    anchors: int
    anchors_every: int | None
    anchor_level: str
    clean_levels: int | None


def layout_of(settings: QueueSettings) -> Layout:
    """The layout that these settings name and describe.

    Raises:
        ArgumentError: there is none of that name, or the other settings do not fit it.
    """
    entry = LAYOUTS.get(settings.layout)
    if entry is None:
        raise ArgumentError("layout", settings.layout, f"there is none of this name; use one of {', '.join(LAYOUTS)}")
    f, m = settings.window, settings.anchors
    if m > max(0, f - 2):
        raise ArgumentError(
            "anchors", m, f"there are {f} places in a window; use ", Setting("anchors", f - 2), " or less"
        )
    layout = entry(SimpleNamespace(**vars(settings) | {"window": f - m}) if m else settings)
    layout = layout if settings.cache == 1 else CachedLayout(layout, settings.cache)
    return layout if m == 0 else AnchoredLayout(layout, m, settings.anchors_every, settings.anchor_level == "lowest")


def partitions(settings: QueueSettings) -> QueueLayout:
    """The paper's layout, or with banded lookahead ours."""
    frames, n, b = settings.window, settings.num_partitions, settings.frames_per_level
    if settings.lookahead == "banded":
        return BandedLayout(frames, n, frames_per_level=b)
    return QueueLayout(frames, n, settings.lookahead, b)


def rotating(settings: QueueSettings) -> RotatingLayout:
    """The paper's layout with a grid that moves."""
    frames, n, b = settings.window, settings.num_partitions, settings.frames_per_level
    if settings.lookahead == "banded":
        raise ArgumentError(
            "lookahead", "banded", "it has no windows that could move; leave ", Setting("layout"), " out"
        )
    return RotatingLayout(frames, n, settings.lookahead, b)


def widening(settings: QueueSettings) -> WideningLayout:
    """Two stages as one stream."""
    frames, n, b = settings.window, settings.num_partitions, settings.frames_per_level
    return WideningLayout(frames, n, frames_per_level=b, clean_levels=settings.clean_levels)


def memory(settings: QueueSettings) -> MemoryLayout:
    """MIGA's windows."""
    return MemoryLayout(settings.window, settings.num_partitions, frames_per_level=settings.frames_per_level)
