"""Streaming decoder and encoder of `AutoencoderKLMagvit`.

The stock decoder goes latent by latent too, and keeps what it remembers in its layers, until a video ends. Here that is
put into them and taken out again for each latent, so that several videos may be decoded in turns, and with the
pipeline's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.spatial_tiles import tiles_of
from fifo_diffusion.decoding.timing import LatentTiming


class EasyAnimateDecoder(CausalDecoder):
    """One latent in, one frame (the first of a video) or four out.

    Args:
        vae: an `AutoencoderKLMagvit`, with its tiling and slicing as they are now.
    """

    def __init__(self, vae: Any) -> None:
        timing = LatentTiming(1, vae.temporal_compression_ratio)
        super().__init__(vae, timing, _reach(vae.decoder), tiles=tiles_of(vae))

    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        vae = self.vae
        bring_to_device(vae)
        z = (latents_BCFHW / vae.config.scaling_factor).to(vae.dtype)
        with _remembering(vae.decoder, caches) as kept:
            frames = vae.decoder(vae.post_quant_conv(z))
        return frames, kept


@contextmanager
def _remembering(decoder: Any, caches: list[Any] | None) -> Iterator[list[Any]]:
    """Within, the layers remember `caches`; what they do at its end is in the list, and they remember what they did
    before."""
    layers = [module for module in decoder.modules() if hasattr(module, "prev_features")]
    before, kept = [layer.prev_features for layer in layers], []
    for layer, cache in zip(layers, caches or [None] * len(layers), strict=True):
        layer.prev_features = cache
    try:
        yield kept
        kept += [layer.prev_features for layer in layers]
    finally:
        for layer, cache in zip(layers, before, strict=True):
            layer.prev_features = cache


def _reach(decoder: Any) -> int:
    """How many latents before its own a frame depends on; one more, as the oldest is decoded as if it began a video."""
    reach, frames_per_latent, finer = 0.0, 1, 1
    for module in decoder.modules():
        if getattr(module, "temporal_upsample", False):
            finer = 2  # after its convolution, which comes next
        if hasattr(module, "temporal_padding"):
            reach += module.temporal_padding / frames_per_latent
            frames_per_latent, finer = frames_per_latent * finer, 1
    return ceil(reach) + 1


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
