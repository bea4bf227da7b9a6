"""Windows that also see frames which stay: anchors. Not in FIFO-Diffusion's paper; docs/method.md says more."""

from dataclasses import dataclass, replace
from functools import cached_property

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.method.layout import Layout, Step, Window
from fifo_diffusion.method.over import LayoutOver


@dataclass(frozen=True)
class AnchoredLayout(LayoutOver):
    """Another layout, each window of which has m anchors in its first places: clean latents that the queue keeps
    (`Queue.anchors_BCFHW`), read only. They are noised anew for every window.

    So every window has slots of its own for them, padded slots beyond the last of the queue. Nothing is stored there:
    `Queue.read` fills them in each iteration.

    Args:
        layout: of windows that are m frames shorter than those of the model.
        count: m.
        every: each time that so many new frames have left, the last of them becomes an anchor in place of the oldest;
            None: never.
        lowest: anchors are at the lowest level, not at that of the cleanest frame in the window.

    Raises:
        ValueError: a banded layout.
    """

    count: int
    every: int | None = None
    lowest: bool = False

    def __post_init__(self) -> None:
        if self.layout.banded:
            what = "it has no windows whose first places anchors could take; use "
            raise ArgumentError(
                "lookahead", "banded", what, Setting("lookahead", True), ", or leave ", Setting("anchors"), " out"
            )

    @property
    def plain(self) -> Layout:
        plain = self.layout.plain
        return self if plain is self.layout else replace(self, layout=plain)

    @property
    def anchors(self) -> int:
        return self.count

    @property
    def anchors_every(self) -> int | None:
        return self.every

    @property
    def frames(self) -> int:  # type: ignore[override]
        return self.layout.frames + self.count

    @property
    def title(self) -> str:
        return f"{self.layout.title}, {self.count} anchors"

    @property
    def summary(self) -> str:
        return self._with(f"{self.count} anchors in every window")

    @cached_property
    def _steps(self) -> tuple[Step, ...]:  # type: ignore[override]
        return tuple(self._with_anchors(self.layout.step(k)) for k in range(self.period))

    def _with_anchors(self, step: Step) -> Step:
        m, levels, windows = self.count, list(step.levels), list[Window]()
        for window in step.windows:
            own = range(len(levels), len(levels) + m)
            levels += [0 if self.lowest else min(step.levels[p] for p in window.reads)] * m
            windows.append(replace(window, reads=(*own, *window.reads)))
        targets = (*step.targets, *levels[len(step.levels) :])
        return Step(tuple(levels), targets, tuple(windows), step.leave)
