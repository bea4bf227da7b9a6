"""The paper's queue: latent partitioning and lookahead."""

from dataclasses import dataclass
from functools import cached_property

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Bands, Layout, Step, Window


@dataclass(frozen=True)
class QueueLayout(Layout):
    """Shape of the queue: n partitions of f frames, `frames_per_level` (b) neighbours sharing one noise level.

    Args:
        frames: f >= 2, the window length: what the base model was trained on.
        partitions: n >= 1 (latent partitioning, section 3.2, Algorithm 3). n = 1 is diagonal denoising (Algorithm 1).
        lookahead: keep only the noisier half of each window's output (section 3.3, Eq. 8, Algorithm 4).
        frames_per_level: b >= 1; the paper has b = 1. n f must be a multiple of b.

    Raises:
        ValueError: a value out of range, or n f not a multiple of b.
    """

    frames: int
    partitions: int = 4
    lookahead: bool = True
    frames_per_level: int = 1

    def __post_init__(self) -> None:
        # Named as the arguments of `FIFO.stream`, which is where people meet them.
        limits = {"window": (self.frames, 2), "num_partitions": (self.partitions, 1)}
        limits["frames_per_level"] = (self.frames_per_level, 1)
        for name, (value, least) in limits.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(name, value, f"give a whole number of at least {least}")
        if not isinstance(self.lookahead, bool):
            raise ArgumentError("lookahead", self.lookahead, "give True, False or 'banded'")
        if self.slots % self.frames_per_level:
            divisors = [b for b in range(1, self.slots + 1) if self.slots % b == 0]
            raise ArgumentError(
                *("frames_per_level", self.frames_per_level),
                f"it does not divide the queue of {self.partitions} x {self.frames} = {self.slots} slots; use one of "
                f"{', '.join(map(str, divisors))}",
            )

    @property
    def summary(self) -> str:
        return f"n = {self.partitions} partitions, b = {self.frames_per_level} frames per level"

    @property
    def title(self) -> str:
        return f"{self.partitions} x {self.frames} frames, {self.levels} steps" + ", lookahead" * self.lookahead

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

    def step(self, iteration: int) -> Step:
        """The same in every iteration: each slot goes one level down, and b of them leave."""
        return self._step

    @cached_property
    def _step(self) -> Step:
        targets = [level - (p >= self.context) for p, level in enumerate(self.slot_levels)]
        return Step(self.slot_levels, tuple(targets), self.windows, self.frames_per_level)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows of an iteration, cleanest first. Their `writes` cover every slot exactly once."""
        return self._windows

    @cached_property
    def _windows(self) -> tuple[Window, ...]:
        f, half = self.frames, self.frames // 2
        if not self.lookahead:
            return tuple(Window(part, part) for part in (f_from(k * f, f) for k in range(self.partitions)))
        windows = []
        for r in range(2 * self.partitions):
            start = (r // 2) * f + (r % 2) * half
            # An odd f has no exact half: even windows keep one slot more than odd ones, so that they still tile.
            windows.append(Window(f_from(start, f), range(start + half + (r % 2) * (f % 2), start + f)))
        return tuple(windows)

    @cached_property
    def bands(self) -> Bands:
        """For each padded slot those that its window reads: one pass with these bands does what the windows do. The
        context is written by no window, and sees what the head sees."""
        return tuple([self._windows[0].reads] * self.context + [w.reads for w in self._windows for _ in w.writes])


def f_from(start: int, f: int) -> range:
    """f neighbouring slots."""
    return range(start, start + f)
