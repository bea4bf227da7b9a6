"""Bands as index tensors, for the part of the queue that one process computes.

Legend: F frames of the queue, f frames of a band, N blocks of q queries and k keys.
"""

from itertools import pairwise

import torch
from torch import Tensor

from fifo_diffusion.execution.frame_shard import FrameShard
from fifo_diffusion.method import Bands


class BandTable:
    """Bands as index tensors on a device, for the frames that this process computes.

    Args:
        bands: for each of F frames the f frames that it may see, in ascending order of their starts.
        device: of the tensors.
        own: which frames are computed here; None: all.

    Attributes:
        own: the same.
        frames: f.
        starts: the first frame that each own frame may see.
        seen: (own frames, f) the frames that each own frame may see.
        reach: the frames that any of them may see.
        runs: lengths of the stretches of own frames between which no frame sees across: convolutions are cut there.
        joined: whether frames before the own ones, and after them, are of the same stretch.
        queries, keys, mask: attention in blocks of neighbouring frames, so that nothing far outside the bands is
            computed: frames of a block's queries (N, q) and of its keys (N, k), and which of these each query may see
            (N, q, k), or None for all. The last block may repeat the last frame.
    """

    def __init__(self, bands: Bands, device: torch.device, own: FrameShard | None = None) -> None:
        self._bands, self.frames = bands, len(bands[0])
        self.own = own or FrameShard(len(bands))
        mine = self.own.range
        self.starts = torch.tensor([bands[p].start for p in mine], device=device)
        self.seen = torch.tensor([list(bands[p]) for p in mine], device=device)
        self.reach = range(bands[mine[0]].start, bands[mine[-1]].stop)
        cuts = [k for k, (before, after) in enumerate(pairwise(bands), 1) if after.start >= before.stop]
        ends = [mine.start, *(k for k in cuts if mine.start < k < mine.stop), mine.stop]
        self.runs = [after - before for before, after in pairwise(ends)]
        self.joined = mine.start not in (0, *cuts), mine.stop not in (len(bands), *cuts)
        self.queries, self.keys, self.mask = (
            x if x is None else torch.tensor([*map(list, x)], device=device) for x in self._blocks()
        )

    @property
    def in_band(self) -> Tensor:
        """(N, q, k) at which place of a query's band a key stands; 0 for those that it does not see."""
        starts = self.starts[self.queries - self.own.range.start]
        return (self.keys[:, None] - starts[..., None]).clamp(0, self.frames - 1)

    @property
    def own_place(self) -> Tensor:
        """At which place of its own band each own frame stands."""
        return torch.tensor([*self.own.range], device=self.starts.device) - self.starts

    @property
    def distance(self) -> Tensor:
        """(N, q, k) by how many frames a key comes after a query."""
        return self.keys[:, None] - self.queries[..., None]

    def _blocks(self) -> tuple[list[list[int]], list[range], list[list[list[bool]]] | None]:
        mine, bands = self.own.range, self._bands
        last = mine[-1]
        # Blocks of one and a half windows are fastest: of short ones the bands overlap more, and kernels idle.
        q = -(-len(mine) // max(1, 2 * len(mine) // (3 * self.frames)))
        queries = [[min(p, last) for p in range(first, first + q)] for first in range(mine.start, mine.stop, q)]
        spans = [range(bands[block[0]].start, bands[block[-1]].stop) for block in queries]
        k = max(map(len, spans))
        keys = [range(start, start + k) for start in (min(span.start, self.reach.stop - k) for span in spans)]
        mask = [[[j in bands[p] for j in own] for p in block] for block, own in zip(queries, keys, strict=True)]
        everything = all(all(row) for block in mask for row in block)
        return queries, keys, None if everything else mask
