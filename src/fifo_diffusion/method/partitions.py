"""The paper's queue: latent partitioning and lookahead."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method.layout import Bands, Layout, Step, Window


@dataclass(frozen=True)
class QueueLayout(Layout):
    """Shape of the queue: n partitions of f frames, `frames_per_level` (b) neighbours sharing one noise level.

    Where n f is no multiple of b, the neighbours that share a level are b at most and as many as they can be alike: 21
    slots at b = 6 are 5, 5, 5 and 6. A group keeps together on its way down, so the groups' order moves round from
    iteration to iteration, and frames leave in bursts of their sizes.

    Args:
        frames: f >= 2, the window length: what the base model was trained on.
        partitions: n >= 1 (latent partitioning, section 3.2, Algorithm 3). n = 1 is diagonal denoising (Algorithm 1).
        lookahead: keep only the noisier half of each window's output (section 3.3, Eq. 8, Algorithm 4).
        frames_per_level: b from 1 to n f; the paper has b = 1.

    Raises:
        ValueError: a value out of range.
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
        if self.frames_per_level > self.slots:
            what = f"the queue has {self.partitions} x {self.frames} = {self.slots} slots; give no more"
            raise ArgumentError("frames_per_level", self.frames_per_level, what)

    @property
    def summary(self) -> str:
        few, many = min(self.groups), max(self.groups)
        return f"n = {self.partitions} partitions, b = {few if few == many else f'{few} or {many}'} frames per level"

    @property
    def title(self) -> str:
        return f"{self.partitions} x {self.frames} frames, {self.levels} steps" + ", lookahead" * self.lookahead

    @property
    def slots(self) -> int:
        """Number of slots, n f."""
        return self.partitions * self.frames

    @property
    def levels(self) -> int:
        """Number of noise levels L = n f / b, rounded up, which is the number of denoising steps of every frame."""
        return -(-self.slots // self.frames_per_level)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """How many neighbours share a level, from the head on, in iteration 0."""
        borders = [level * self.slots // self.levels for level in range(self.levels + 1)]
        return tuple(b - a for a, b in pairwise(borders))

    @property
    def even(self) -> bool:
        """Whether all groups have one size."""
        return self.slots % self.frames_per_level == 0

    @property
    def period(self) -> int:  # type: ignore[override]
        return 1 if self.even else self.levels

    @property
    def context(self) -> int:
        """Slots in front of the head that are read but not written: f' = f // 2 with lookahead, else 0."""
        return self.frames // 2 if self.lookahead else 0

    @property
    def slot_levels(self) -> tuple[int, ...]:
        """Level of each padded slot in iteration 0; the context is at the lowest level."""
        return self.step(0).levels

    def step(self, iteration: int) -> Step:
        """Each slot goes one level down, and those of the lowest level leave."""
        return self._plain_steps[iteration % len(self._plain_steps)]

    @cached_property
    def _plain_steps(self) -> tuple[Step, ...]:
        """Of all orders that the groups come to stand in; one where they are alike. The context is at the lowest
        level."""
        steps = []
        for turn in range(1 if self.even else self.levels):
            groups = (*self.groups[turn:], *self.groups[:turn])
            of_slots = [level for level, count in enumerate(groups) for _ in range(count)]
            context = (0,) * self.context
            levels, targets = (*context, *of_slots), (*context, *(level - 1 for level in of_slots))
            steps.append(Step(levels, targets, self.windows, groups[0]))
        return tuple(steps)

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
