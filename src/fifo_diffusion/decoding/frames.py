"""Streaming decoders: clean latents in, frames out, as they come."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class StreamingDecoder(Protocol):
    """Turns a stream of clean latents into frames.

    Attributes:
        latency: latent frames that must have been pushed after one before its frames come out.
        exact: whether the stream equals decoding the whole clip at once.
        tiling: whether it decodes in tiles of height and width where the autoencoder's tiling is on.
    """

    latency: int
    exact: bool
    tiling: bool

    def push(self, latents_BCFHW: Tensor) -> Tensor:
        """Clean latents to the frames that are ready: (B, F', 3, H, W) float32 in [0, 1]; F' may be 0."""
        ...

    def skip(self, latents_BCFHW: Tensor) -> int:
        """Go past latents whose frames nobody will see, remembering what later frames need of them. How many frames
        `push` would have given."""
        ...

    def flush(self) -> Tensor:
        """The frames still held back, at the end of a video."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the decoder remembers of the past, to be saved with a run."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved `state()`."""
        ...


TOGETHER, PIXELS = 4, 2**14
"""Frames that a `FrameDecoder` decodes at once, which is quicker than one by one, where they have so few pixels in all
that memory does not count: four of 64 x 64, but never two of a model that makes pictures."""


class FrameDecoder:
    """For autoencoders of single images (Stable Diffusion's and relatives): every latent is one frame.

    Args:
        vae: an `AutoencoderKL`; decoded a few small frames or one large frame at a time, so that memory
            does not depend on how many are pushed.
    """

    latency = 0
    exact = tiling = True

    def __init__(self, vae: Any) -> None:
        self.vae = vae

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        z = (latents_BCFHW / self.vae.config.scaling_factor).to(self.vae.dtype)
        return to_unit_range(torch.cat([self._decode(some) for some in z.split(self.at_once(z), 2)], 1))

    def at_once(self, latents_BCFHW: Tensor) -> int:
        """How many latents of this size are decoded in one batch."""
        videos, _, _, height, width = latents_BCFHW.shape
        pixels = videos * height * width * pixels_per_latent(self.vae) ** 2
        return max(1, min(TOGETHER, PIXELS // pixels))

    def _decode(self, z_BCFHW: Tensor) -> Tensor:
        """(B, F, 3, H, W), in one batch."""
        frames = self.vae.decode(z_BCFHW.transpose(1, 2).flatten(0, 1), return_dict=False)[0]
        return frames.float().unflatten(0, (-1, z_BCFHW.shape[2]))

    def skip(self, latents_BCFHW: Tensor) -> int:
        return latents_BCFHW.shape[2]

    def flush(self) -> Tensor:
        return torch.empty(0)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        if state:
            raise ValueError("the state is damaged, or of another model: it holds a past, which this decoder has not")


@torch.no_grad()
def encode_frames(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames through an image autoencoder, one by one: the mean latents, (1, C, F, H, W) float32."""
    latents = []
    for frame in frames_FHWC:
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].to(device)
        posterior = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist
        latents.append(posterior.mode().float() * vae.config.scaling_factor)
    return torch.stack(latents, 2)


def pixels_per_latent(vae: Any) -> int:
    """How many pixels of an image autoencoder's pictures one of its latents stands for, along each side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def decoded(decoder: StreamingDecoder, latents_BCFHW: Tensor) -> Tensor:
    """All frames of a whole clip, (B, F', 3, H, W), by a fresh decoder."""
    frames = [decoder.push(latents_BCFHW), decoder.flush()]
    return torch.cat([part for part in frames if part.numel()] or frames[:1], 1)


def to_unit_range(frames: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]. What lies outside is cut off, but inf becomes NaN: a white frame would hide it."""
    return (frames / 2 + 0.5).clamp(0, 1) + (frames - frames)


def to_pictures(frames_BCHW: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """One frame of each video as `to_uint8` gives it, and whether it is finite, (B,): in one transfer to the host."""
    pixels = (frames_BCHW * 255).round().to(torch.uint8).movedim(-3, -1)
    finite = frames_BCHW.isfinite().flatten(1).all(1, keepdim=True).to(torch.uint8)
    both = torch.cat([pixels.flatten(1), finite], 1).cpu().numpy()
    return both[:, :-1].reshape(pixels.shape), both[:, -1].astype(bool)


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames (..., 3, H, W) in [0, 1] to uint8 (..., H, W, 3) on the host."""
    return (frames * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()
