"""Which level each slot of the queue holds, which windows read and write which slots, and which slots each slot may
see. Integers only.

Padded coordinates count the context slots first: padded slot `context + s` is slot s, slot 0 is the head.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Lookahead = bool | Literal["banded"]
Bands = tuple[range, ...]
"""For each frame of a run of frames, the f frames of that run that it may see (itself among them)."""


@dataclass(frozen=True)
class Window:
    """f consecutive padded slots that go through the model together, and the part of them that is kept."""

    start: int
    stop: int
    write_start: int
    write_stop: int

    @property
    def reads(self) -> range:
        """Padded slots given to the model."""
        return range(self.start, self.stop)

    @property
    def writes(self) -> range:
        """Padded slots that take the model's result."""
        return range(self.write_start, self.write_stop)

    @property
    def read(self) -> slice:
        """`reads`, to index with."""
        return slice(self.start, self.stop)

    @property
    def write(self) -> slice:
        """`writes`, to index with."""
        return slice(self.write_start, self.write_stop)


@dataclass(frozen=True)
class QueueLayout:
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
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.slots % self.frames_per_level:
            divisors = [b for b in range(1, self.slots + 1) if self.slots % b == 0]
            raise ValueError(
                f"frames_per_level={self.frames_per_level} does not divide the queue of {self.partitions} x "
                f"{self.frames} = {self.slots} slots: use one of {', '.join(map(str, divisors))}"
            )
        if self.lookahead not in (True, False, "banded"):
            raise ValueError(f'lookahead must be True, False or "banded", not {self.lookahead!r}')
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

    @property
    def size(self) -> int:
        """Number of padded slots."""
        return self.context + self.slots

    @property
    def descents(self) -> tuple[int, ...]:
        """Steps of each descent of a clip that given frames begin (`complete_clip`)."""
        return descents_of(self.levels)

    @cached_property
    def slot_levels(self) -> tuple[int, ...]:
        """Level of each padded slot; the context is at the lowest level."""
        return (0,) * self.context + tuple(s // self.frames_per_level for s in range(self.slots))

    @property
    def banded(self) -> bool:
        """Whether all slots go through the model at once."""
        return self.lookahead == "banded"

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows of an iteration, cleanest first. Their `writes` cover every slot exactly once."""
        if self.banded:
            return (Window(0, self.size, self.context, self.size),)
        return self._windows

    @cached_property
    def _windows(self) -> tuple[Window, ...]:
        """The windows of f slots."""
        f, half = self.frames, self.frames // 2
        if not self.lookahead:
            return tuple(Window(k * f, (k + 1) * f, k * f, (k + 1) * f) for k in range(self.partitions))
        windows = []
        for r in range(2 * self.partitions):
            start = (r // 2) * f + (r % 2) * half
            # An odd f has no exact half: even windows keep one slot more than odd ones, so that they still tile.
            windows.append(Window(start, start + f, start + half + (r % 2) * (f % 2), start + f))
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

    def windows_from(self, front: int) -> tuple[Window, ...]:
        """Windows that write padded slot `front` or a later one (the others hold only known frames)."""
        if self.banded:
            # As with windows, no more than f - 1 known frames are read.
            first = max(front, self.context)
            return (Window(max(0, first - self.frames + 1), self.size, first, self.size),)
        return tuple(w for w in self.windows if w.write_stop > front)

    @property
    def frame_forwards(self) -> int:
        """Frames sent through the model in one iteration, without guidance: n f, 2 n f with lookahead, n f + f' when
        that is banded."""
        return sum(len(w.reads) for w in self.windows)

    @property
    def frame_forwards_per_frame(self) -> float:
        """The same for one frame of video."""
        return self.frame_forwards / self.frames_per_level

    def filled_forwards(self, iterations: int) -> int:
        """Frame-forwards of the first iterations of a start from known frames."""
        b = self.frames_per_level
        fronts = (max(self.context, self.size - b - i * b) for i in range(iterations))
        return sum(len(w.reads) for front in fronts for w in self.windows_from(front))

    @property
    def fill_forwards(self) -> int:
        """Frame-forwards until the first new frame leaves, starting from known frames: about half a queue of them."""
        return self.filled_forwards(self.levels)


def _f_from(start: int, f: int) -> range:
    return range(start, start + f)


def descents_of(levels: int) -> tuple[int, ...]:
    """From how many of L levels a clip comes down that given frames begin: from all, then twice from two thirds."""
    return levels, 2 * levels // 3, 2 * levels // 3
