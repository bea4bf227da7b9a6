"""A layout of its own in one class and one entry: two noise levels, half a window each."""

from dataclasses import dataclass
from typing import Any

from fifo_diffusion import FIFO
from fifo_diffusion.layout_list import LAYOUTS, LayoutEntry
from fifo_diffusion.method import Layout, Step, Window


@dataclass(frozen=True)
class TwoLevels(Layout):
    """f slots, of which the cleaner half leaves in each iteration; every half sees the half before it. What the paper's
    layout is with one partition, lookahead and f / 2 frames per level."""

    frames: int
    levels = 2
    slots = property(lambda self: self.frames)
    context = property(lambda self: self.frames // 2)

    def step(self, iteration: int) -> Step:
        half = self.context
        first, second = (Window(range(k, k + 2 * half), range(k + half, k + 2 * half)) for k in (0, half))
        return Step((0,) * 2 * half + (1,) * half, (0,) * half + (-1,) * half + (0,) * half, (first, second), half)


TOY = LayoutEntry("two levels", lambda settings: TwoLevels(settings.window))
SAME = {"num_partitions": 1, "frames_per_level": 2}
"""The arguments that make the paper's layout the same one, for a window of four frames."""


def toy_video(fifo: FIFO, _rank: int, arguments: dict[str, Any]) -> list[Any]:
    """Seven frames of a stream with this layout, on one rank."""
    LAYOUTS["toy"] = TOY
    with fifo.stream("a cat", layout="toy", **arguments) as stream:
        return [next(stream) for _ in range(7)]
