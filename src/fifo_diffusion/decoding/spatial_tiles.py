"""Tiles over height and width, as the autoencoders of diffusers cut a picture where `enable_tiling()` was called: less
memory while a latent is decoded, other pixels where tiles meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Place = tuple[slice, slice]
Pair = tuple[int, int]


@dataclass(frozen=True)
class SpatialTiles:
    """Overlapping tiles, each of which is faded into those above and to the left of it.

    Attributes:
        size, stride: of tiles, in latents: (along height, along width).
        blend: over how many pixels a tile is faded in.
        shown: how many pixels of a tile are shown, those being faded in included.
    """

    size: Pair
    stride: Pair
    blend: Pair
    shown: Pair

    def places(self, latents_BCFHW: Tensor) -> list[list[Place]]:
        """Where tiles lie in these latents, row by row; a single place where they are no larger than a tile."""
        height, width = latents_BCFHW.shape[-2:]
        if height <= self.size[0] and width <= self.size[1]:
            return [[(slice(None), slice(None))]]
        return [
            [(slice(y, y + self.size[0]), slice(x, x + self.size[1])) for x in range(0, width, self.stride[1])]
            for y in range(0, height, self.stride[0])
        ]

    def joined(self, rows: Sequence[Sequence[Tensor]], latents_BCFHW: Tensor) -> Tensor:
        """One picture of the decoded tiles (B, C, F, H, W), which are written to."""
        if len(rows) == 1 == len(rows[0]):
            return rows[0][0]
        shown = []
        for i, row in enumerate(rows):
            for j, tile in enumerate(row):
                if i:
                    _fade(rows[i - 1][j], tile, 3, self.blend[0])
                if j:
                    _fade(row[j - 1], tile, 4, self.blend[1])
            shown.append(torch.cat([tile[..., : self.shown[0], : self.shown[1]] for tile in row], 4))
        pixels = rows[0][0].shape[3] // min(self.size[0], latents_BCFHW.shape[3])
        height, width = (pixels * side for side in latents_BCFHW.shape[-2:])
        return torch.cat(shown, 3)[..., :height, :width]


def tiles_of(vae: Any, patch: int | None = None) -> SpatialTiles | None:
    """The tiles of an autoencoder that has them as most do; None where they are off.

    Args:
        patch: pixels along a side that its decoder gives as channels of one.
    """
    if not vae.use_tiling:
        return None
    size = vae.tile_sample_min_height, vae.tile_sample_min_width
    stride = vae.tile_sample_stride_height, vae.tile_sample_stride_width
    (high, wide), (down, right) = ([side // (patch or 1) for side in sides] for sides in (size, stride))
    of_size, of_stride = ([side // vae.spatial_compression_ratio for side in sides] for sides in (size, stride))
    blend = high - down, wide - right
    return SpatialTiles((of_size[0], of_size[1]), (of_stride[0], of_stride[1]), blend, (down, right))


def _fade(before: Tensor, tile: Tensor, axis: int, extent: int) -> None:
    """From the end of the tile before into the beginning of this one."""
    extent = min(before.shape[axis], tile.shape[axis], extent)
    if not extent:
        return
    shape = [-1 if k == axis else 1 for k in range(tile.dim())]
    weight = (torch.arange(extent, device=tile.device, dtype=torch.float32) / extent).to(tile.dtype).view(shape)
    end, begin = before.narrow(axis, before.shape[axis] - extent, extent), tile.narrow(axis, 0, extent)
    begin.copy_(end * (1 - weight) + begin * weight)
