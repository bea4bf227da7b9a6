"""Streaming decoder and encoder of `AutoencoderKLAllegro`, which works in tiles of time and space only: 24 frames of
320 x 320 pixels as published, fading into each other."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import bring_to_device
from fifo_diffusion.decoding.tiles import TileDecoder
from fifo_diffusion.decoding.timing import LatentTiming


def allegro_decoder(vae: Any, timing: LatentTiming) -> TileDecoder:
    """Tiles of time as they come; within each the autoencoder's own tiles of space."""
    size, stride = (frames // vae.config.temporal_compression_ratio for frames in (vae.kernel[0], vae.stride[0]))

    @torch.no_grad()
    def decode(latents_BCFHW: Tensor) -> Tensor:
        bring_to_device(vae)
        count = latents_BCFHW.shape[2]
        last = latents_BCFHW[:, :, -1:].expand(-1, -1, max(0, size - count), -1, -1)  # a tile is cut off at the end
        z = (torch.cat([latents_BCFHW, last], 2) / vae.config.scaling_factor).to(vae.dtype)
        videos = [vae.tiled_decode(video).transpose(1, 2) for video in z.split(1)]  # it takes one at a time
        return torch.cat(videos)[:, :, : timing.frames(count)]

    return TileDecoder(decode, timing, size=size, stride=stride)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, four for each latent, to the mean latents, (1, C, F, H, W) float32. Before the first frame it is
    repeated, as often as whole tiles need."""
    bring_to_device(vae)
    count, (size, stride) = len(frames_FHWC), (vae.kernel[0], vae.stride[0])
    missing = size - count if count < size else (size - count) % stride
    pixels = torch.from_numpy(np.concatenate([frames_FHWC[:1]] * missing + [frames_FHWC])).permute(3, 0, 1, 2)[None]
    moments = vae.tiled_encode((pixels.to(device).float() / 127.5 - 1).to(vae.dtype))
    latents = count // vae.config.temporal_compression_ratio
    return moments.chunk(2, 1)[0][:, :, -latents:].float() * vae.config.scaling_factor


def tiled_sizes(vae: Any, height: int, width: int) -> tuple[int, int]:
    """The nearest height and width that its tiles cover to the edge; outside of them it leaves frames grey."""
    return (
        max(0, round((height - vae.kernel[1]) / vae.stride[1])) * vae.stride[1] + vae.kernel[1],
        max(0, round((width - vae.kernel[2]) / vae.stride[2])) * vae.stride[2] + vae.kernel[2],
    )
