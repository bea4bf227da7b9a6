"""The paper's queue with a window grid that moves: a frame does not meet the same window borders at the same levels as
every other, where a fixed grid leaves its trace. Not in the paper; MIGA (arXiv 2605.18233) moves its own windows so."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import lcm

from fifo_diffusion.method.layout import Step, Window
from fifo_diffusion.method.partitions import QueueLayout


@dataclass(frozen=True)
class RotatingLayout(QueueLayout):
    """In iteration i the borders between windows lie i slots further from the head, until the grid is back after f // 2
    iterations (f without lookahead). Two windows at the ends of the queue then share what was one, so an iteration has
    one window more than the paper's."""

    @property
    def stride(self) -> int:
        """Slots that a window writes, but at the ends of the queue: f // 2 with lookahead, else f."""
        return self.frames // 2 if self.lookahead else self.frames

    @property
    def period(self) -> int:  # type: ignore[override]
        return lcm(self.stride, super().period)

    @property
    def title(self) -> str:
        return f"{super().title}, rotating"

    def step(self, iteration: int) -> Step:
        return self._steps[iteration % self.period]

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        steps = []
        for iteration in range(self.period):
            fixed, moved = super().step(iteration), iteration % self.stride
            borders = [self.context, *range(self.context + moved, self.size, self.stride), self.size]
            parts = [range(a, b) for a, b in pairwise(borders) if a < b]
            # f slots that end with those written: with lookahead all written ones have f // 2 cleaner ones beside them.
            windows = [Window(self._reads(part.stop), part) for part in parts]
            steps.append(Step(fixed.levels, fixed.targets, tuple(windows), fixed.leave))
        return tuple(steps)

    def _reads(self, stop: int) -> range:
        start = max(0, stop - self.frames)
        return range(start, start + self.frames)
