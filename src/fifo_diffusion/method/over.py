"""Layouts that are made of another one: what they leave as it is there."""

from abc import abstractmethod
from dataclasses import dataclass

from fifo_diffusion.method.layout import Layout, Step


@dataclass(frozen=True)
class LayoutOver(Layout):
    """Another layout with something added to its steps, which `_steps` are: those of a period.

    Args:
        layout: the other one.
    """

    layout: Layout

    @property
    @abstractmethod
    def _steps(self) -> tuple[Step, ...]: ...

    @property
    def frames(self) -> int:  # type: ignore[override]
        return self.layout.frames

    @property
    def period(self) -> int:  # type: ignore[override]
        return self.layout.period

    @property
    def slots(self) -> int:
        return self.layout.slots

    @property
    def context(self) -> int:
        return self.layout.context

    @property
    def levels(self) -> int:
        return self.layout.levels

    @property
    def level_by_level(self) -> bool:
        return self.layout.level_by_level

    @property
    def descents(self) -> tuple[int, ...]:
        return self.layout.descents

    def step(self, iteration: int) -> Step:
        return self._steps[iteration % self.period]

    def _with(self, summary: str) -> str:
        """The other layout's summary, and what is added."""
        return ", ".join([*filter(None, [self.layout.summary]), summary])
