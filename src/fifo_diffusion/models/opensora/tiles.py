"""Clips that go through an autoencoder in pieces of time and space."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, length: int) -> Tensor:
    """A clip in chunks that share one frame, each as a clip of its own; of all but the first the first result, which
    the chunk before has given, is dropped."""
    starts = range(0, max(1, x.shape[2] - 1), length - 1)
    results = [function(x[:, :, start : start + length]) for start in starts]
    return torch.cat([results[0], *(result[:, :, 1:] for result in results[1:])], 2)


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, side: int, stride: int, ramp: int, kept: int) -> Tensor:
    """Tiles of `side` at every `stride`; of each result `kept` rows and columns, the first `ramp` of them blended with
    the end of its neighbour above, then of that to the left, as these are after their own blending."""
    rows: list[list[Tensor]] = []
    for top in range(0, x.shape[-2], stride):
        row: list[Tensor] = []
        for left in range(0, x.shape[-1], stride):
            tile = function(x[..., top : top + side, left : left + side])
            if rows:
                tile = _blended(rows[-1][len(row)], tile, ramp, -2)
            if row:
                tile = _blended(row[-1], tile, ramp, -1)
            row.append(tile)
        rows.append(row)
    return torch.cat([torch.cat([tile[..., :kept, :kept] for tile in row], -1) for row in rows], -2)


def _blended(before: Tensor, tile: Tensor, ramp: int, dim: int) -> Tensor:
    """`tile` with its beginning faded in over the end of `before`."""
    ramp = min(ramp, before.shape[dim], tile.shape[dim])
    weight = torch.arange(ramp, device=tile.device, dtype=tile.dtype) / ramp
    weight = weight if dim == -1 else weight[:, None]
    old, new = before.narrow(dim, before.shape[dim] - ramp, ramp), tile.narrow(dim, 0, ramp)
    rest = tile.narrow(dim, ramp, tile.shape[dim] - ramp)
    return torch.cat([old * (1 - weight) + new * weight, rest], dim)
