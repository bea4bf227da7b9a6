"""Windows that also see single frames further on towards the head: MIGA's window rule (arXiv 2605.18233, stage 1). Not
in FIFO-Diffusion's paper."""

from dataclasses import dataclass
from functools import cached_property

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Step, Window
from fifo_diffusion.method.partitions import QueueLayout


@dataclass(frozen=True)
class MemoryLayout(QueueLayout):
    """A window holds m = f // 4 memory frames and f - m neighbours. Memory frames are read only: one from the middle of
    each of the m groups of a common level before the window, each at its own level. Of the neighbours the cleaner
    f // 2 are written, and the noisier ones are context. The grid of windows moves by one slot from iteration to
    iteration.

    Where the window lies so near the head that there are not m groups before it, the memory frames are spread evenly
    over what there is; where there are not m slots, the window is f neighbours. The work is that of lookahead, and a
    window more at the ends of the queue. MIGA has 16 partitions with 4 frames per level, where all windows are flat
    (their levels differ little) and the queue is long.

    Raises:
        ValueError: as `QueueLayout`, for n f that is no multiple of b, and for lookahead, whose place this takes.
    """

    lookahead: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.even:
            divisors = [b for b in range(1, self.slots + 1) if self.slots % b == 0]
            what = f"memory frames need groups of one size, of {self.slots} slots; use one of "
            raise ArgumentError("frames_per_level", self.frames_per_level, f"{what}{', '.join(map(str, divisors))}")

    @property
    def memory(self) -> int:
        """m, the memory frames of a window."""
        return self.frames // 4

    @property
    def stride(self) -> int:
        """Slots that a window writes, but at the ends of the queue."""
        return self.frames // 2

    @property
    def period(self) -> int:  # type: ignore[override]
        return self.stride

    @property
    def title(self) -> str:
        return f"{super().title}, {self.memory} memory frames"

    def step(self, iteration: int) -> Step:
        return self._steps[iteration % self.period]

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        fixed = super().step(0)
        return tuple(Step(fixed.levels, fixed.targets, self._grid(moved), fixed.leave) for moved in range(self.period))

    def _grid(self, moved: int) -> tuple[Window, ...]:
        """The windows of an iteration whose grid begins at slot `moved`."""
        last = self.slots - (self.frames - self.memory)  # where the neighbours of the last window begin
        windows, start = [], 0
        while start < self.slots:
            stop = start + (moved if start < moved else self.stride)
            first = min(start, last)
            stop = self.slots if first == last else min(stop, self.slots)
            windows.append(Window(self._reads(first), range(start, stop)))
            start = stop
        return tuple(windows)

    def _reads(self, first: int) -> tuple[int, ...]:
        m, b = self.memory, self.frames_per_level
        if first >= m * b:
            before = [first - (b + 1) // 2 - j * b for j in reversed(range(m))]
        elif first >= m > 0:
            before = [first - first // m * k for k in range(m, 0, -1)]
        else:
            first, m, before = min(first, self.slots - self.frames), 0, []
        return (*before, *range(first, first + self.frames - m))
