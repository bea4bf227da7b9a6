"""Streaming decoder and encoder of `AutoencoderKLMiniMaxH3` (diffusers' `autoencoder_kl_minimax_h3.py`).

It encodes 17 frames at a time to five latents: one for the first frame, and one for every further four. It decodes
these five together with the first two of the next five, and blends the frames that two such decodings share. So its
decoding is a matter of neighbours, and what streams is what `decode` gives for the whole video.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import bring_to_device
from fifo_diffusion.method import to_device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, in whose terms the autoencoder has its pixels (`MiniMaxH3ModularPipeline.pixel_mean`, `.pixel_std`)."""


def together(latents_BCFHW: Tensor, group: int) -> Tensor:
    """Latents in groups that share a timestep, stacked as channels: (B, C, group F, H, W) to (B, group C, F, H, W)."""
    return latents_BCFHW.unflatten(2, (-1, group)).permute(0, 3, 1, 2, 4, 5).flatten(1, 2)


def apart(groups_BCFHW: Tensor, group: int) -> Tensor:
    """Back from `together`."""
    return groups_BCFHW.unflatten(1, (group, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


class MiniMaxH3Decoder:
    """Exactly what decoding the whole video gives, one group of latents later: a group's last frames are blended with
    what comes of the next. A saved state holds the two groups on which the next frames depend.

    Args:
        vae: an `AutoencoderKLMiniMaxH3`. It decodes in tiles of space where its tiling is on, which is its default.
    """

    exact = True
    latency = 1
    tiling = True

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self._groups: list[Tensor] = []  # the one whose frames are out, if any, and the one that waits
        self._overlap: Tensor | None = None  # frames of the former that the latter's begin with

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        before, frames = (list(self._groups), self._overlap), []
        try:
            for group in latents_BCFHW.split(1, 2):
                frames += [self._next(group)] if self._groups else []
                self._groups = [*self._groups[-1:], group]
        except BaseException:  # out of memory, say: these latents may be given again
            self._groups, self._overlap = before
            raise
        return torch.cat(frames, 1) if frames else latents_BCFHW.new_empty(len(latents_BCFHW), 0, 3, 1, 1)

    def skip(self, latents_BCFHW: Tensor) -> int:
        groups = [*self._groups, *latents_BCFHW.split(1, 2)]
        count = len(groups) - max(1, len(self._groups))
        self._groups, self._overlap = groups[-2:], None
        return count * self.vae.config.clip_length

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The frames of the last group, after which the autoencoder repeats its last latent. The decoder stays as it
        was."""
        if not self._groups:
            return torch.empty(0)
        last = apart(self._groups[-1], self.vae.tokens_chunk_size)[:, :, -1:]
        frames, _ = self._decoded(self._groups[-1], last.repeat(1, 1, self.vae.token_overlap, 1, 1))
        return self._shown(frames)

    def state(self) -> dict[str, Tensor]:
        return {"past": torch.cat(self._groups, 2)} if self._groups else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._groups = list(state["past"].split(1, 2)) if state else []
        self._overlap = None

    # ------------------------------------------------------------------ inside

    def _next(self, group: Tensor) -> Tensor:
        """The frames of the group that waits."""
        frames, self._overlap = self._decoded(self._groups[-1], self._beginning(group))
        return self._shown(frames)

    def _beginning(self, group: Tensor) -> Tensor:
        return apart(group, self.vae.tokens_chunk_size)[:, :, : self.vae.token_overlap]

    def _decoded(self, group: Tensor, beginning: Tensor) -> tuple[Tensor, Tensor]:
        """The frames (B, 3, F', H, W) of a group with the latents after it, and those that reach into the next group's;
        in the autoencoder's pixels."""
        if len(self._groups) == 2 and self._overlap is None:
            self._overlap = self._clip(self._groups[0], self._beginning(self._groups[1]))[1]
        frames, overlap = self._clip(group, beginning)
        if self._overlap is not None:
            frames = self.vae._blend(self._overlap, frames, self.vae.frame_overlap, dim=-3)
        return frames, overlap

    def _clip(self, group: Tensor, beginning: Tensor) -> tuple[Tensor, Tensor]:
        """One clip as the autoencoder's `_decode` has it, unblended."""
        vae = self.vae
        bring_to_device(vae)
        z = denormalized(vae, torch.cat([apart(group, vae.tokens_chunk_size), beginning], 2))
        clip = vae._decode_clip(z.to(vae.post_quant_conv.weight.dtype))
        own = vae.tokens_chunk_size * vae.temporal_compression_ratio
        return clip[:, :, vae.frame_pre_padding : own], clip[:, :, own + vae.frame_pre_padding :]

    def _shown(self, frames_BCFHW: Tensor) -> Tensor:
        """(B, F', 3, H, W) in [0, 1]; inf becomes NaN, which is noticed."""
        mean, std = _of_pixels(frames_BCFHW)
        frames = frames_BCFHW.float() * std + mean
        return (frames.clamp(0, 1) + (frames - frames)).transpose(1, 2)


def denormalized(vae: Any, latents_BCFHW: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those of the transformer."""
    mean, std = _of_latents(vae, latents_BCFHW)
    return latents_BCFHW * std + mean


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, whole clips of 17, to the mean latents of each in groups, (1, 5 C, F, H, W) float32. Where there
    are fewer the first frame is repeated before them."""
    length = vae.config.clip_length
    missing = -len(frames_FHWC) % length
    frames_FHWC = np.concatenate([np.repeat(frames_FHWC[:1], missing, 0), frames_FHWC])
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device).float() / 255
    mean, std = _of_pixels(pixels)
    bring_to_device(vae)
    clips = ((pixels - mean) / std).to(vae.quant_conv.weight.dtype).split(length, 2)
    moments = torch.cat([vae._encode_clip(clip) for clip in clips], 2)  # `encode` would drop the last three latents
    latents = moments.chunk(2, 1)[0].float()
    mean, std = _of_latents(vae, latents)
    return together((latents - mean) / std, vae.tokens_chunk_size)


def _of_latents(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(_table(vae.config[name], like) for name in ("latents_mean", "latents_std"))  # type: ignore[return-value]


def _of_pixels(like: Tensor) -> tuple[Tensor, Tensor]:
    return _table(MEAN, like.float()), _table(STD, like.float())


def _table(values: Any, like: Tensor) -> Tensor:
    return to_device(torch.tensor(values, dtype=like.dtype).view(1, -1, 1, 1, 1), like.device)
