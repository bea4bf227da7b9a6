"""A streaming decoder for autoencoders whose own decoding cuts a video into tiles of time and fades each into the next.

Tile i holds latents i S ... i S + N - 1 (S stride, N size), decoded as a clip of its own, and the frames that two tiles
share are faded from one to the other. Where the first latent of a clip is one frame, all tiles but the first leave that
out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import to_unit_range
from fifo_diffusion.decoding.timing import LatentTiming


class TileDecoder:
    """Exactly what the autoencoder's own decoding of the whole video gives.

    Args:
        decode: latents (B, C, F, H, W) of a tile, as they come out of the queue, to frames (B, 3, F', H, W) in [-1, 1].
        timing: of the autoencoder.
        size, stride: N and S, with S < N - 1.
    """

    exact = tiling = True  # by `decode`

    def __init__(self, decode: Callable[[Tensor], Tensor], timing: LatentTiming, *, size: int, stride: int) -> None:
        self._decode, self._timing, self._size, self._stride = decode, timing, size, stride
        self._left_out = timing.first if timing.first < timing.further else 0  # frames of a tile, but of the first one
        self._blend = (size - stride - (self._left_out > 0)) * timing.further
        self.latency = size - 1
        self._count = 0  # latents so far
        self._latents: Tensor | None = None  # the last of them
        self._before: Tensor | None = None  # the last tile whose frames were given

    def push(self, latents_BCFHW: Tensor) -> Tensor:
        before = self._count, self._latents, self._before
        try:
            first, stop = self._tiles(), self._accept(latents_BCFHW)
            frames = [self._frames_of(tile) for tile in range(first, stop)]
        except BaseException:  # out of memory, say: these latents may be given again
            self._count, self._latents, self._before = before
            raise
        self._forget()
        return torch.cat(frames, 1) if frames else latents_BCFHW.new_empty(len(latents_BCFHW), 0, 3, 1, 1)

    def skip(self, latents_BCFHW: Tensor) -> int:
        first, stop = self._tiles(), self._accept(latents_BCFHW)
        if stop > first:
            self._before = None
        self._forget()
        return self._frames_to(stop) - self._frames_to(first)

    def flush(self) -> Tensor:
        """The frames still held back, from tiles that are cut off. The decoder stays as it was."""
        if self._latents is None:
            return torch.empty(0)
        before, first = self._before, self._tiles()
        shared = 0 if self._left_out else self._size - self._stride  # a tile of no more than these adds nothing
        stop = max(1, -(-(self._count - shared) // self._stride))
        frames = [self._frames_of(tile, last=tile == stop - 1) for tile in range(first, stop)]
        if first == stop:  # the last tile is whole: what it shares with a next one is not faded
            frames = [self._shown(self._decoded(first - 1)[:, :, self._stride * self._timing.further :])]
        self._before = before
        wanted = self._timing.frames(self._count) - self._frames_to(first)
        return torch.cat(frames, 1)[:, :wanted] if frames else torch.empty(0)

    def state(self) -> dict[str, Tensor]:
        """The latents of the last tile: it is decoded again when needed."""
        return {} if self._latents is None else {"latents": self._latents, "count": torch.tensor(self._count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._before, self._latents = None, state.get("latents")
        self._count = int(state["count"]) if state else 0

    # ------------------------------------------------------------------ inside

    def _tiles(self) -> int:
        """How many tiles are complete."""
        return max(0, (self._count - self._size) // self._stride + 1)

    def _frames_to(self, tiles: int) -> int:
        """Number of frames in this many tiles."""
        return self._timing.frames(tiles * self._stride + (self._left_out > 0)) if tiles else 0

    def _accept(self, latents_BCFHW: Tensor) -> int:
        known = [] if self._latents is None else [self._latents]
        self._latents = torch.cat([*known, latents_BCFHW], 2)
        self._count += latents_BCFHW.shape[2]
        return self._tiles()

    @torch.no_grad()
    def _decoded(self, tile: int) -> Tensor:
        assert self._latents is not None
        begin = tile * self._stride - (self._count - self._latents.shape[2])
        frames = self._decode(self._latents[:, :, begin : begin + self._size])
        return frames[:, :, self._left_out :] if tile else frames

    def _frames_of(self, tile: int, *, last: bool = False) -> Tensor:
        """The frames that a tile adds, (B, F', 3, H, W) in [0, 1]; of the last all that it has."""
        new = self._decoded(tile)
        if tile:
            old = self._decoded(tile - 1) if self._before is None else self._before
            extent = min(self._blend, old.shape[2], new.shape[2])
            weight = (torch.arange(extent, device=new.device) / max(1, extent))[:, None, None].to(new.dtype)
            faded = old[:, :, old.shape[2] - extent :] * (1 - weight) + new[:, :, :extent] * weight
            new = torch.cat([faded, new[:, :, extent:]], 2)
        self._before = new
        stop = None if last else self._stride * self._timing.further + (self._left_out if tile == 0 else 0)
        return self._shown(new[:, :, :stop])

    @staticmethod
    def _shown(frames_BCFHW: Tensor) -> Tensor:
        return to_unit_range(frames_BCFHW.float().transpose(1, 2))

    def _forget(self) -> None:
        """Let go of all that no later frame needs."""
        assert self._latents is not None
        oldest = max(0, self._tiles() - 1) * self._stride
        begin = oldest - (self._count - self._latents.shape[2])
        self._latents = self._latents[:, :, max(0, begin) :].clone()
