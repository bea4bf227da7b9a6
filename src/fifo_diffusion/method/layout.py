"""What one iteration of the queue does with which slots, as data. Integers only.

Padded coordinates count the context slots first: padded slot `context + s` is slot s, slot 0 is the head.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Bands = tuple[range, ...]
"""For each frame of a run of frames, the f frames of that run that it may see (itself among them)."""


@dataclass(frozen=True)
class Window:
    """Slots that go through the model together.

    Attributes:
        reads: padded slots given to the model, in the order in which it sees them; a range or a tuple.
        writes: those of them that take the model's result, in the same order.
        reuse: whether they go on with what was predicted of them before, where all of them have it (`cached.py`).
    """

    reads: Sequence[int]
    writes: Sequence[int]
    reuse: bool = False

    @cached_property
    def read(self) -> slice | list[int]:
        """`reads`, to index with."""
        return index_of(self.reads)

    @cached_property
    def write(self) -> slice | list[int]:
        """`writes`, to index with."""
        return index_of(self.writes)

    @cached_property
    def kept(self) -> slice | list[int]:
        """The places of `writes` among `reads`, to index with."""
        return index_of([self.reads.index(slot) for slot in self.writes])


@dataclass(frozen=True)
class Step:
    """One iteration of a full queue.

    Attributes:
        levels: noise level of each padded slot before it.
        targets: its level after it, lower by one or more; -1 is clean. The same for slots that no window writes.
        windows: every slot is written by at most one, and all of them read the queue as it was before the iteration.
        leave: how many slots leave at the head afterwards; as many enter at the tail, as noise.
    """

    levels: tuple[int, ...]
    targets: tuple[int, ...]
    windows: tuple[Window, ...]
    leave: int


class Layout(ABC):
    """Shape of a queue and what its iterations do: Diffusion Forcing's scheduling matrix (Chen et al., arXiv
    2407.01392), with windows. A layout is one class with `step`; the loop, costs, ranks and errors read it.

    Attributes:
        frames: f, the window length of the base model.
        slots: of the queue.
        context: slots in front of the head that are read but not written, and hold frames that have left.
        levels: number of noise levels L. New frames enter as noise of the highest one.
        period: after how many iterations the steps repeat.
    """

    frames: int
    period: int = 1

    @property
    @abstractmethod
    def slots(self) -> int: ...

    @property
    @abstractmethod
    def context(self) -> int: ...

    @property
    @abstractmethod
    def levels(self) -> int: ...

    @abstractmethod
    def step(self, iteration: int) -> Step:
        """What iteration number `iteration` (modulo `period`) does."""

    @property
    def size(self) -> int:
        """Number of padded slots."""
        return self.context + self.slots

    @property
    def title(self) -> str:
        """In a few words, for the line that opens a run."""
        return f"{self.slots} slots, {self.levels} steps"

    @property
    def summary(self) -> str:
        """Its parameters beside f, for the dry run."""
        return ""

    @property
    def plain(self) -> "Layout":
        """The same without a cache."""
        return self

    @property
    def anchors(self) -> int:
        """How many anchors every window has in its first places; their padded slots are beyond `size`."""
        return 0

    @property
    def anchors_every(self) -> int | None:
        """As `AnchoredLayout.every`."""
        return None

    @property
    def level_by_level(self) -> bool:
        """Whether every slot goes down by one level in each iteration: then a queue may start as pure noise."""
        steps = [self.step(k) for k in range(self.period)]
        return all(s.leave and s.levels[p] - s.targets[p] == 1 for s in steps for w in s.windows for p in w.writes)

    @cached_property
    def holds(self) -> bool:
        """Whether some slots of the queue are not written in every iteration: their frames wait."""
        steps = [self.step(k) for k in range(self.period)]
        return any(s.levels[p] == s.targets[p] for s in steps for p in range(self.context, self.context + self.slots))

    @property
    def descents(self) -> tuple[int, ...]:
        """Steps of each descent of a clip that given frames begin (`complete_clip`)."""
        return descents_of(self.levels)

    @property
    def banded(self) -> bool:
        """Whether windows are longer than f, each slot seeing a band of f slots: then there are `bands` and
        `last_bands`."""
        return False

    @cached_property
    def _leaves(self) -> list[int]:
        return [self.step(k).leave for k in range(self.period)]

    def left(self, iterations: int) -> int:
        """How many slots have left after this many iterations."""
        periods, rest = divmod(iterations, self.period)
        return periods * sum(self._leaves) + sum(self._leaves[:rest])

    @property
    def entering(self) -> int:
        """How many slots enter before the first iteration, as after the last one of a period."""
        return self._leaves[-1]

    def windows_from(self, front: int, iteration: int = 0) -> tuple[Window, ...]:
        """The windows of an iteration that write padded slot `front` or a later one: the others hold known frames
        only."""
        return tuple(w for w in self.step(iteration).windows if max(w.writes) >= front)

    def front(self, iteration: int) -> int:
        """First padded slot with a frame to be computed where a start from known frames is this many iterations old."""
        return max(self.context, self.size - self.entering - self.left(iteration))

    @property
    def frame_forwards(self) -> float:
        """Frames sent through the model in one iteration, without guidance; the mean over a period."""
        return sum(_computed(self.step(k).windows) for k in range(self.period)) / self.period

    @property
    def frame_forwards_per_frame(self) -> float:
        """The same for one frame of video."""
        return self.frame_forwards * self.period / sum(self._leaves)

    @property
    def most_windows(self) -> int:
        """Windows of the iteration that has most."""
        return max(len(self.step(k).windows) for k in range(self.period))

    def filled_forwards(self, iterations: int) -> int:
        """Frame-forwards of the first iterations of a start from known frames."""
        return sum(_computed(self.windows_from(self.front(k), k)) for k in range(iterations))

    @cached_property
    def fill_iterations(self) -> int:
        """Iterations until the first new frame leaves, starting from known frames."""
        iterations = 1
        while self.left(iterations) <= self.slots - self.entering:
            iterations += 1
        return iterations

    @property
    def fill_forwards(self) -> int:
        """Frame-forwards until the first new frame leaves, starting from known frames: about half a queue of them."""
        return self.filled_forwards(self.fill_iterations)


def _computed(windows: Sequence[Window]) -> int:
    """Frame-forwards of some windows of an iteration."""
    return sum(len(w.reads) for w in windows if not w.reuse)


def index_of(slots: Sequence[int]) -> slice | list[int]:
    """Slots to index a tensor with: a slice, which copies nothing, where they are neighbours."""
    neighbours = len(slots) > 0 and list(slots) == list(range(slots[0], slots[0] + len(slots)))
    return slice(slots[0], slots[-1] + 1) if neighbours else list(slots)


def descents_of(levels: int) -> tuple[int, ...]:
    """From how many of L levels a clip comes down that given frames begin: from all, then twice from two thirds."""
    return levels, 2 * levels // 3, 2 * levels // 3
