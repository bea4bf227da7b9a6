"""The paper's queue: latent partitioning and lookahead; and banded lookahead, which is ours."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Bands, Layout, Step, Window

Lookahead = bool | Literal["banded"]


@dataclass(frozen=True)
class QueueLayout(Layout):
    """Shape of the queue: n partitions of f frames, `frames_per_level` (b) neighbours sharing one noise level.

    Args:
        frames: f >= 2, the window length: what the base model was trained on.
        partitions: n >= 1 (latent partitioning, section 3.2, Algorithm 3). n = 1 is diagonal denoising (Algorithm 1).
        lookahead: keep only the noisier half of each window's output (section 3.3, Eq. 8, Algorithm 4). "banded": all
            slots go through the model once, and each sees only its band of them (see `bands`); not in the paper.
        frames_per_level: b >= 1; the paper has b = 1. n f must be a multiple of b.
        band: which band, if `lookahead` is "banded". A number 0 ... f - 1: that many cleaner slots, the slot itself and
            noisier ones, f in all. "windows": those of the lookahead window that writes the slot. None: f // 8 noisier
            slots, at least one: for f = 16 that is 13 cleaner and 2 noisier, which made the steadiest videos.

    Raises:
        ValueError: a value out of range, or n f not a multiple of b.
    """

    frames: int
    partitions: int = 4
    lookahead: Lookahead = True
    frames_per_level: int = 1
    band: int | Literal["windows"] | None = None

    def __post_init__(self) -> None:
        # Named as the arguments of `FIFO.stream`, which is where people meet them.
        limits = {"window": (self.frames, 2), "num_partitions": (self.partitions, 1)}
        limits["frames_per_level"] = (self.frames_per_level, 1)
        for name, (value, least) in limits.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(name, value, f"give a whole number of at least {least}")
        if self.slots % self.frames_per_level:
            divisors = [b for b in range(1, self.slots + 1) if self.slots % b == 0]
            raise ArgumentError(
                *("frames_per_level", self.frames_per_level),
                f"it does not divide the queue of {self.partitions} x {self.frames} = {self.slots} slots; use one of "
                f"{', '.join(map(str, divisors))}",
            )
        if not isinstance(self.lookahead, bool | int | str) or self.lookahead not in (True, False, "banded"):
            raise ArgumentError("lookahead", self.lookahead, "give True, False or 'banded'")
        if self.band not in (None, "windows", *range(self.frames)):
            raise ValueError(f'band must be "windows" or a number from 0 to {self.frames - 1}, not {self.band!r}')

    @property
    def slots(self) -> int:
        """Number of slots, n f."""
        return self.partitions * self.frames

    @property
    def levels(self) -> int:
        """Number of noise levels L = n f / b, which is the number of denoising steps of every frame."""
        return self.slots // self.frames_per_level

    @property
    def context(self) -> int:
        """Slots in front of the head that are read but not written: f' = f // 2 with lookahead, else 0."""
        return self.frames // 2 if self.lookahead else 0

    @cached_property
    def slot_levels(self) -> tuple[int, ...]:
        """Level of each padded slot; the context is at the lowest level."""
        return (0,) * self.context + tuple(s // self.frames_per_level for s in range(self.slots))

    @property
    def banded(self) -> bool:
        """Whether all slots go through the model at once."""
        return self.lookahead == "banded"

    def step(self, iteration: int) -> Step:
        """The same in every iteration: each slot goes one level down, and b of them leave."""
        return self._step

    @cached_property
    def _step(self) -> Step:
        targets = [level - (p >= self.context) for p, level in enumerate(self.slot_levels)]
        return Step(self.slot_levels, tuple(targets), self.windows, self.frames_per_level)

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows of an iteration, cleanest first. Their `writes` cover every slot exactly once."""
        if self.banded:
            return (Window(range(self.size), range(self.context, self.size)),)
        return self._windows

    @cached_property
    def _windows(self) -> tuple[Window, ...]:
        """The windows of f slots."""
        f, half = self.frames, self.frames // 2
        if not self.lookahead:
            return tuple(Window(part, part) for part in (_f_from(k * f, f) for k in range(self.partitions)))
        windows = []
        for r in range(2 * self.partitions):
            start = (r // 2) * f + (r % 2) * half
            # An odd f has no exact half: even windows keep one slot more than odd ones, so that they still tile.
            windows.append(Window(_f_from(start, f), range(start + half + (r % 2) * (f % 2), start + f)))
        return tuple(windows)

    @cached_property
    def bands(self) -> Bands:
        """For each padded slot the f padded slots that it may see: those of its window or, where the band slides, its
        neighbours. At both ends of the queue a band stops moving, so that it always has f slots."""
        f = self.frames
        if self.banded and self.band != "windows":
            cleaner = f - 1 - max(1, f // 8) if self.band is None else self.band
            return tuple(_f_from(min(max(0, p - cleaner), self.size - f), f) for p in range(self.size))
        # The context is written by no window: it sees what the head sees.
        bands = [self._windows[0].reads] * self.context
        return tuple(bands + [w.reads for w in self._windows for _ in w.writes])

    def last_bands(self, count: int) -> Bands:
        """The bands of the last `count` >= f padded slots among themselves, counted from the first of them."""
        first = self.size - count
        return tuple(_f_from(max(0, band.start - first), self.frames) for band in self.bands[first:])

    def windows_from(self, front: int, iteration: int = 0) -> tuple[Window, ...]:
        """As in `Layout`; of a banded queue the part from f - 1 slots before the first new frame on, as in windows."""
        if not self.banded:
            return super().windows_from(front, iteration)
        first = max(front, self.context)
        return (Window(range(max(0, first - self.frames + 1), self.size), range(first, self.size)),)


def _f_from(start: int, f: int) -> range:
    return range(start, start + f)
