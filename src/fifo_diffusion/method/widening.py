"""A queue whose levels are narrow at the noisy end and as wide as a window at the clean end: two stages as one stream.
Not in FIFO-Diffusion's paper; MIGA (arXiv 2605.18233) has a second stage at one level, over the finished video."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Step, Window
from fifo_diffusion.method.partitions import QueueLayout


@dataclass(frozen=True)
class WideningLayout(QueueLayout):
    """Bursts of f frames enter and leave together, every P = f / b iterations. In a burst, groups of b frames set out
    one iteration after the other, so at the noisy levels b frames share one, as in a queue with b frames per level.
    Each group waits above the `clean_levels` for the last of its burst; then all f frames come down these side by side.

    Windows read f slots that end with those that they write, f // 2 but at the ends. So of a burst that is nearly clean
    the first half is seen beside the last frames of the burst before it, which are further down by P levels or are
    context, at level 0; the second half beside the first alone, all at one level.

    Args:
        clean_levels: e, 1 to L - 1; None: about a sixth of the levels.

    Raises:
        ValueError: as `QueueLayout`; b that does not divide f, or e out of range.
    """

    clean_levels: int | None = None

    def __post_init__(self) -> None:
        QueueLayout(self.frames, self.partitions, True, self.frames_per_level)  # refuses what it would refuse
        if self.frames % self.frames_per_level:
            divisors = [b for b in range(1, self.frames + 1) if self.frames % b == 0]
            what = f"bursts are as long as a window of {self.frames}, which it does not divide; use one of "
            raise ArgumentError("frames_per_level", self.frames_per_level, what, ", ".join(map(str, divisors)))
        if self.levels < 2:
            raise ArgumentError("num_partitions", self.partitions, "there must be two levels at least; give more")
        if not 1 <= self.wide < self.levels:
            raise ArgumentError("clean_levels", self.clean_levels, f"give a whole number from 1 to {self.levels - 1}")

    @property
    def wide(self) -> int:
        """e, the levels that a burst comes down as one."""
        return max(1, round(self.levels / 6)) if self.clean_levels is None else self.clean_levels

    @property
    def levels(self) -> int:
        return self.partitions * self.frames // self.frames_per_level

    @property
    def period(self) -> int:  # type: ignore[override]
        return self.frames // self.frames_per_level

    @cached_property
    def bursts(self) -> int:
        """How many bursts are in the queue: a frame stays until its burst leaves, at the end of a period."""
        return -(-(self.period - 1 + self.levels) // self.period)

    @property
    def slots(self) -> int:
        return self.bursts * self.frames

    @property
    def context(self) -> int:
        return self.frames // 2

    @property
    def title(self) -> str:
        return f"{self.bursts} x {self.frames} frames, {self.levels} steps, the last {self.wide} in whole windows"

    @property
    def summary(self) -> str:
        b = self.frames_per_level
        return f"n = {self.partitions}, b = {b} frames per level, {self.frames} at the lowest {self.wide}"

    def step(self, iteration: int) -> Step:
        return self._steps[iteration % self.period]

    @cached_property
    def slot_levels(self) -> tuple[int, ...]:
        return self.step(0).levels

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.step(0).windows

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        levels = [self._levels(k) for k in range(self.period + 1)]
        return tuple(self._between(levels[k], levels[k + 1], k == self.period - 1) for k in range(self.period))

    def _between(self, now: tuple[int, ...], then: tuple[int, ...], last: bool) -> Step:
        return Step(now, then, tuple(self._windows_of(now, then)), self.frames * last)

    def _levels(self, iterations: int) -> tuple[int, ...]:
        """Level of each padded slot so many iterations after the start of a period."""
        found = [0] * self.context
        for burst in range(self.bursts):
            age = iterations + (self.bursts - 1 - burst) * self.period
            # The burst leaves at this age; before, it comes down the clean levels without a stop.
            clean = max(0, age - (self.bursts * self.period - self.wide))
            for slot in range(self.frames):
                noisy = min(max(0, age - slot // self.frames_per_level), self.levels - self.wide)
                found.append(self.levels - 1 - noisy - clean)
        return tuple(found)

    def _windows_of(self, now: tuple[int, ...], then: tuple[int, ...]) -> Iterator[Window]:
        """Windows over what changes its level: half by half in bursts that come down together, and so in what else goes
        down, from its cleanest slot on."""
        f, half = self.frames, self.frames // 2
        moving = [p for p in range(self.context, self.size) if now[p] != then[p]]
        wide = [p for p in moving if now[p] < self.wide]
        for first in wide[::f]:
            yield self._ending(first, first + half)
            yield self._ending(first + half, first + f)
        narrow = [p for p in moving if now[p] >= self.wide]
        for k in range(0, len(narrow), half):
            part = narrow[k : k + half]
            yield self._ending(part[0], part[-1] + 1)

    def _ending(self, first: int, stop: int) -> Window:
        """The window that writes these slots, and reads f that end with them."""
        start = max(0, stop - self.frames)
        return Window(range(start, start + self.frames), range(first, stop))
