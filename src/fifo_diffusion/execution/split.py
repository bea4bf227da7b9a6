"""Which windows of an iteration each rank computes, or which pass of one. Integers only."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Split:
    """The windows of one iteration, divided among ranks: neighbours to each, by the passes that they take. Where these
    do not come out even, the first ranks have the smaller shares.

    Args:
        ranks: how many.
        passes: that each window takes, 1 or 2; 0 where it reuses what was predicted, unless passes go apart.
        apart: each pass has a rank of its own; there are ranks enough for it.
    """

    ranks: int
    passes: tuple[int, ...]
    apart: bool = False

    def of(self, rank: int) -> slice:
        """The windows that a rank computes, or has a pass of."""
        if self.apart:
            window, _ = self._taken(rank)
            return slice(0) if window is None else slice(window, window + 1)
        return slice(self._border(rank), self._border(rank + 1))

    def half(self, rank: int) -> int | None:
        """The only pass that a rank computes of its window; None: all."""
        window, number = self._taken(rank) if self.apart else (None, None)
        return None if window is None or self.passes[window] == 1 else number

    def partner(self, rank: int) -> int:
        """The rank that computes the other pass of this one's window."""
        window, _ = self._taken(rank)
        return next(r for r in range(self.ranks) if r != rank and self._taken(r)[0] == window)

    @property
    def swaps(self) -> bool:
        """Whether ranks swap the outputs of passes, in which all of them take part."""
        return self.apart and 2 in self.passes

    def spans(self, written: Sequence[Sequence[int]]) -> list[list[int]]:
        """The slots that each rank's windows write. Where two ranks have a window, it is the first's."""
        shares = [[] if self.half(rank) == 1 else written[self.of(rank)] for rank in range(self.ranks)]
        return [[slot for slots in share for slot in slots] for share in shares]

    @cached_property
    def _work(self) -> list[int]:
        """Passes before each window."""
        return [0, *accumulate(self.passes)]

    def _border(self, rank: int) -> int:
        """The first window of a rank."""
        if rank in (0, self.ranks):  # also of windows at the ends that take no pass
            return len(self.passes) if rank else 0
        return bisect_right([done * self.ranks for done in self._work], rank * self._work[-1]) - 1

    def _taken(self, rank: int) -> tuple[int | None, int]:
        """The window of which a rank computes a pass, and which pass."""
        whole = self._work[-1]
        first, following = (r * whole // self.ranks for r in (rank, rank + 1))
        if first == following:
            return None, 0
        window = bisect_right(self._work, first) - 1
        return window, first - self._work[window]
