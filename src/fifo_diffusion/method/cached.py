"""Windows that are not computed in every iteration: between two times their frames go on with what was predicted of
them. Not in FIFO-Diffusion's paper; docs/method.md says what is kept, and why."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import lcm

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.method.layout import Layout, Step, Window
from fifo_diffusion.method.over import LayoutOver

CLEANEST = 2
"""Levels at the clean end in which every frame is computed."""
NOISIEST = 0.8
"""Share of the levels, from the clean end, beyond which every frame is computed."""


@dataclass(frozen=True)
class CachedLayout(LayoutOver):
    """Another layout, of which a window in the middle of the queue is computed in every k-th iteration.

    The middle is cut into k parts, one beside the other. In iteration i the windows of part p are computed if i + p is
    a multiple of k: so every iteration computes about as many windows. A frame is computed in every k-th iteration, but
    that on its way from one part to the next it waits for one more, or for one alone.

    Args:
        layout: the layout without a cache.
        every: k >= 2.

    Raises:
        ValueError: a banded layout, or one that has no window in the middle.
    """

    every: int

    def __post_init__(self) -> None:
        if self.layout.banded:
            what = "it computes the queue as one, of which no window could be left out; use "
            raise ArgumentError(
                "lookahead", "banded", what, Setting("lookahead", True), ", or leave ", Setting("cache"), " out"
            )
        if not any(window.reuse for step in self._steps for window in step.windows):
            what = "no window of this queue lies between its noisiest and its cleanest levels; use "
            raise ArgumentError("cache", self.every, what, Setting("cache", 1), ", or a longer queue")

    @property
    def plain(self) -> Layout:
        return self.layout

    @property
    def period(self) -> int:  # type: ignore[override]
        return lcm(self.layout.period, self.every)

    @property
    def title(self) -> str:
        return f"{self.layout.title}, cache {self.every}"

    @property
    def summary(self) -> str:
        return self._with(f"windows in the middle every {self.every} iterations")

    @cached_property
    def _steps(self) -> tuple[Step, ...]:  # type: ignore[override]
        steps = [self.layout.step(i) for i in range(self.layout.period)]
        spans = [span for step in steps for span in map(partial(self._span, step), step.windows) if span is not None]
        low, high = min(spans, default=(0, 0))[0], max(high for _, high in [(0, 1), *spans])

        def reused(step: Step, window: Window, iteration: int) -> bool:
            span = self._span(step, window)
            if span is None:
                return False
            part = self.every * (sum(span) / 2 - low) // (high - low)
            return (iteration + int(part)) % self.every != 0

        return tuple(
            replace(step, windows=tuple(replace(w, reuse=reused(step, w, i)) for w in step.windows))
            for i, step in enumerate(steps * (self.period // self.layout.period))
        )

    def _span(self, step: Step, window: Window) -> tuple[int, int] | None:
        """From which level up to which one, that one not included, a window in the middle writes. None: it is none."""
        levels = [step.levels[p] for p in window.writes]
        low, high = min(levels), max(levels) + 1
        return (low, high) if low >= CLEANEST and high <= NOISIEST * self.levels else None
