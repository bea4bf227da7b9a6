"""Banded lookahead: the whole queue in one pass of the model, in which each slot sees its own f neighbours. Not in the
paper; docs/method.md says why and what it costs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Bands, Window
from fifo_diffusion.method.partitions import QueueLayout, f_from


@dataclass(frozen=True)
class BandedLayout(QueueLayout):
    """The paper's queue with lookahead, all slots of which go through the model at once.

    Args:
        band: which slots each one sees. A number 0 ... f - 1: that many cleaner slots, the slot itself and noisier
            ones, f in all. "windows": those of the lookahead window that writes the slot. None: f // 8 noisier slots,
            at least one: for f = 16 that is 13 cleaner and 2 noisier, which made the steadiest videos.

    Raises:
        ValueError: a value out of range, or no lookahead.
    """

    band: int | Literal["windows"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lookahead is not True:
            raise ArgumentError("lookahead", self.lookahead, "a banded queue has it: give True")
        if self.band not in (None, "windows", *range(self.frames)):
            raise ArgumentError("band", self.band, f"give 'windows' or a number from 0 to {self.frames - 1}")

    @property
    def banded(self) -> bool:
        return True

    @property
    def title(self) -> str:
        return f"{self.partitions} x {self.frames} frames, {self.levels} steps, banded lookahead"

    @property
    def windows(self) -> tuple[Window, ...]:
        """The one window of an iteration."""
        return (Window(range(self.size), range(self.context, self.size)),)

    @cached_property
    def bands(self) -> Bands:
        """For each padded slot the f padded slots that it may see: those of its window or, where the band slides, its
        neighbours. At both ends of the queue a band stops moving, so that it always has f slots."""
        if self.band == "windows":
            return super().bands
        f = self.frames
        cleaner = f - 1 - max(1, f // 8) if self.band is None else self.band
        return tuple(f_from(min(max(0, p - cleaner), self.size - f), f) for p in range(self.size))

    def last_bands(self, count: int) -> Bands:
        """The bands of the last `count` >= f padded slots among themselves, counted from the first of them."""
        first = self.size - count
        return tuple(f_from(max(0, band.start - first), self.frames) for band in self.bands[first:])

    def windows_from(self, front: int, iteration: int = 0) -> tuple[Window, ...]:
        """As in `Layout`: the part from f - 1 slots before the first new frame on, as in windows."""
        first = max(front, self.context)
        return (Window(range(max(0, first - self.frames + 1), self.size), range(first, self.size)),)
