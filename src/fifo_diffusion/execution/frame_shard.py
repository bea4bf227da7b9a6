"""The frames of a queue that this process computes, where several share a pass over all of it."""

from typing import Protocol

import torch
from torch import Tensor


class FrameGroup(Protocol):
    """The processes that send one queue through the model together."""

    rank: int
    size: int

    def gather_parts(self, mine: Tensor) -> list[Tensor]:
        """Every process's tensor, all of one shape, by rank."""
        ...


class FrameShard:
    """The frames of the queue that this process computes: neighbours, as many as others have, or one less.

    Args:
        frames: F.
        together: who else computes; None: nobody. Processes beyond the number of frames do as the last one does.

    Attributes:
        range: the numbers of the frames.
    """

    def __init__(self, frames: int, together: FrameGroup | None = None) -> None:
        self._together = together
        parts = 1 if together is None else min(together.size, frames)
        self._parts = [range(frames * k // parts, frames * (k + 1) // parts) for k in range(parts)]
        self._number = 0 if together is None else min(together.rank, parts - 1)
        self.range = self._parts[self._number]

    def gather(self, own: Tensor, axis: int) -> Tensor:
        """What all have computed, F long on this axis."""
        if self._together is None:
            return own
        longest = max(map(len, self._parts))
        missing = own.new_zeros([longest - len(self.range) if k == axis else n for k, n in enumerate(own.shape)])
        found = self._together.gather_parts(torch.cat([own, missing], axis))
        return torch.cat([x.narrow(axis, 0, len(part)) for x, part in zip(found, self._parts, strict=False)], axis)

    def halo(self, own: Tensor, axis: int, count: int) -> tuple[Tensor, Tensor]:
        """The last frames of the part before and the first of the part after, `count` of each (none at the ends of the
        queue). No part may be shorter than that."""
        nothing = own.narrow(axis, 0, 0)
        if self._together is None or not count:
            return nothing, nothing
        ends = torch.cat([own.narrow(axis, 0, count), own.narrow(axis, own.shape[axis] - count, count)], axis)
        found = self._together.gather_parts(ends)
        before, after = self._number - 1, self._number + 1
        return (
            found[before].narrow(axis, count, count) if before >= 0 else nothing,
            found[after].narrow(axis, 0, count) if after < len(self._parts) else nothing,
        )
