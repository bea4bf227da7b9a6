"""Which windows take the pass without the text, and which are spared it."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from fifo_diffusion.execution.interfaces import SteeredModel
from fifo_diffusion.method import Guidance, Layout, NoiseLevels, Predict, Queue, Run, Window
from fifo_diffusion.method.guidance import beginnings


class GuidanceGate:
    """The rule of guidance of a stream, and whether what goes through the model now is guided: a window is if it writes
    a frame whose level lies in the rule's interval. Others take one pass.

    Args:
        model: whose conditions it changes.
        rule: of guidance.
        levels: of the queue.
    """

    def __init__(self, model: SteeredModel, rule: Guidance, levels: NoiseLevels) -> None:
        self._model, self._rule, self._levels = model, rule.at(levels), levels
        self._guided = True

    def condition(self, condition: Any) -> Any:
        """A condition under the rule, for what goes through the model now."""
        if not self._guided:
            return self._model.passes(condition)[-1]
        return condition if self._rule.ordinary else self._model.guided_by(condition, self._rule)

    def passes(self, windows: Sequence[Window], slot_levels: Sequence[int], both: int) -> list[int]:
        """How many passes each of these windows takes, where guided ones take `both`."""
        return [both if self._guides(window, slot_levels) else 1 for window in windows]

    def usual(self, layout: Layout, part: Callable[..., Sequence[Window]] | None) -> int:
        """How many windows like what goes through the model now are computed in an iteration of a full queue.

        Args:
            part: of the windows, given the levels of the padded slots, those that are computed here; None: all.
        """
        steps = [layout.step(k) for k in range(layout.period)]
        now = max(steps, key=lambda step: sum(not w.reuse for w in step.windows))
        windows = now.windows if part is None else part(now.windows, now.levels)
        return sum(not w.reuse and self._guides(w, now.levels) == self._guided for w in windows)

    def run(self, queue: Queue, layout: Layout, some: Run) -> Run:
        """The windows of an iteration by `some`, those that are guided apart from others."""
        if self._rule.everywhere:
            return some

        def run(windows: Sequence[Window], denoise: Callable[[Sequence[Window]], None], y_BCFHW: Tensor) -> None:
            slot_levels = queue.levels(layout)
            for guided, group in groupby(windows, lambda window: self._guides(window, slot_levels)):
                self._within(guided, some, list(group), denoise, y_BCFHW)

        return run

    def clip(self, predict: Predict) -> Predict:
        """`predict` for the clip that opens a video: all that is sampled of it is at one level, its last frame too."""
        if self._rule.everywhere:
            return predict
        guided = self._levels.timestep[list(self._rule.levels(len(self._levels)))]

        def one_level(latents_BCFHW: Tensor, timestep_BF: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
            return self._within(
                bool((beginnings(timestep_BF)[0, -1] == guided).any()), predict, latents_BCFHW, timestep_BF, frames
            )

        return one_level

    def _guides(self, window: Window, slot_levels: Sequence[int]) -> bool:
        return self._rule.everywhere or self._rule.guides(window, slot_levels, len(self._levels))

    def _within(self, guided: bool, work: Callable[..., Any], *arguments: Any) -> Any:
        self._guided = guided
        try:
            return work(*arguments)
        finally:
            self._guided = True
