"""Streaming decoders of causal video autoencoders, whose layers look back at a few frames and keep them in caches."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import to_unit_range
from fifo_diffusion.decoding.spatial_tiles import SpatialTiles
from fifo_diffusion.decoding.timing import LatentTiming


class CausalDecoder(ABC):
    """Exactly what decoding the whole clip gives, a group of latents at a time.

    The caches are large. So a saved state holds latents instead: as many as the next frames depend on, from which the
    caches are made anew after `load_state` or `skip`.

    Args:
        vae: the autoencoder.
        timing: its frames per latent.
        reach: how many groups of latents before its own a frame depends on.
        group: how many latents the autoencoder decodes together; those that do not fill a group wait.
        first_group: the same at the beginning of a video; less than twice `group`.
        tiles: by which a picture is decoded, each with caches of its own; None: whole.
    """

    exact = True
    tiling = True

    def __init__(
        self,
        vae: Any,
        timing: LatentTiming,
        reach: int,
        *,
        group: int = 1,
        first_group: int | None = None,
        tiles: SpatialTiles | None = None,
    ) -> None:
        self.vae, self.timing, self.group, self.first_group = vae, timing, group, first_group or group
        self._tiles, self._slicing = tiles, bool(getattr(vae, "use_slicing", False))
        self.latency = self.first_group - 1
        self._past: deque[Tensor] = deque(maxlen=reach + 1)  # the oldest group is decoded as if it began a video
        self._waiting: Tensor | None = None
        self._caches: Any = None
        self._stale = False  # the caches are not those of the past

    @abstractmethod
    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        """One group, or a tile of it, to its frames (B, C', F', H, W), and the caches for the next. `caches` is None at
        the beginning of a video."""

    def finished(self, frames_BCFHW: Tensor) -> Tensor:
        """What `decode` gives as frames (B, 3, F', H, W) in [-1, 1]; the same, unless a decoder says otherwise."""
        return frames_BCFHW

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        if self._stale:
            self._caches, self._stale = None, False
            for group in self._past:
                _, self._caches = self._decoded(group, self._caches)
        frames, before = [], (list(self._past), self._waiting)
        try:
            for group in self._groups(latents_BCFHW):
                video, self._caches = self._decoded(group, self._caches)
                frames.append(to_unit_range(self.finished(video).float().transpose(1, 2)))
                self._past.append(group)
        except BaseException:  # out of memory, say: these latents may be given again
            self._past.clear()
            self._past.extend(before[0])
            self._waiting, self._caches, self._stale = before[1], None, bool(before[0])
            raise
        return torch.cat(frames, 1) if frames else latents_BCFHW.new_empty(len(latents_BCFHW), 0, 3, 1, 1)

    def skip(self, latents_BCFHW: Tensor) -> int:
        timing = self.timing.continued() if self._past else self.timing
        groups = self._groups(latents_BCFHW)
        self._past.extend(groups)
        self._stale = True
        return timing.frames(sum(group.shape[2] for group in groups))

    def flush(self) -> Tensor:
        """Nothing: latents that wait at the end of a video make no group."""
        return torch.empty(0)

    def state(self) -> dict[str, Tensor]:
        state = {"past": torch.cat([*self._past], 2)} if self._past else {}
        return state | ({} if self._waiting is None else {"waiting": self._waiting})

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._past.clear()
        self._caches, self._stale, self._waiting = None, "past" in state, state.get("waiting")
        if "past" in state:
            latents = state["past"]
            first = self.group + latents.shape[2] % self.group
            groups = [latents[:, :, :first], *latents[:, :, first:].split(self.group, 2)]
            self._past.extend(group for group in groups if group.shape[2])

    def _decoded(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        """`decode`, video by video where the autoencoder's slicing is on, and tile by tile."""
        if not self._slicing or len(latents_BCFHW) == 1:
            return self._by_tiles(latents_BCFHW, caches)
        each = [
            self._by_tiles(video, of_video)
            for video, of_video in zip(latents_BCFHW.split(1), caches or [None] * len(latents_BCFHW), strict=True)
        ]
        return torch.cat([frames for frames, _ in each]), [of_video for _, of_video in each]

    def _by_tiles(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        if self._tiles is None:
            return self.decode(latents_BCFHW, caches)
        rows, kept = [], []
        places = self._tiles.places(latents_BCFHW)
        before = iter(caches or [None] * sum(map(len, places)))
        for row in places:
            rows.append([])
            for down, right in row:
                tile, cache = self.decode(latents_BCFHW[..., down, right], next(before))
                rows[-1].append(tile)
                kept.append(cache)
        return self._tiles.joined(rows, latents_BCFHW), kept

    def _groups(self, latents_BCFHW: Tensor) -> list[Tensor]:
        """The groups that are complete with these latents; the others wait."""
        latents = latents_BCFHW if self._waiting is None else torch.cat([self._waiting, latents_BCFHW], 2)
        groups, begins = [], not self._past
        while latents.shape[2] >= (size := self.first_group if begins and not groups else self.group):
            groups.append(latents[:, :, :size])
            latents = latents[:, :, size:]
        self._waiting = latents if latents.shape[2] else None
        return groups


def bring_to_device(module: torch.nn.Module) -> None:
    """Where offloading brings a module to the GPU in its own public methods, do it as they do."""
    hook = getattr(module, "_hf_hook", None)
    if hasattr(hook, "pre_forward"):
        hook.pre_forward(module)
