"""Streaming decoder and encoder of `AutoencoderKLWan` (Wan, SkyReels-V2).

The stock `decode` goes latent by latent too, with caches that it throws away at the end. Here they belong to the
decoder object, so that several videos may be decoded in turns, and also with the pipeline's own.
"""

from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.spatial_tiles import tiles_of
from fifo_diffusion.decoding.timing import LatentTiming


class WanDecoder(CausalDecoder):
    """One latent in, one frame (the first of a video) or four out.

    Args:
        vae: an `AutoencoderKLWan`, 2.1 or 2.2, with its tiling and slicing as they are now.
    """

    def __init__(self, vae: Any) -> None:
        tiles = tiles_of(vae, vae.config.get("patch_size"))
        timing = LatentTiming(1, vae.config.scale_factor_temporal)
        super().__init__(vae, timing, reach_of(vae.decoder), tiles=tiles)

    def decode(self, latents_BCFHW: Tensor, caches: list[Any] | None) -> tuple[Tensor, list[Any]]:
        vae, first = self.vae, caches is None
        bring_to_device(vae)
        caches = [None] * sum(map(_is_causal, vae.decoder.modules())) if caches is None else caches
        z = vae.post_quant_conv(denormalized(vae, latents_BCFHW))
        # Said only where it means something, as older versions of diffusers do not know the argument.
        told = {"first_chunk": True} if first and vae.config.get("is_residual") else {}
        return vae.decoder(z, feat_cache=caches, feat_idx=[0], **told), caches

    def finished(self, frames_BCFHW: Tensor) -> Tensor:
        frames, patch = frames_BCFHW, self.vae.config.get("patch_size")
        if patch:
            from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

            frames = unpatchify(frames, patch_size=patch)
        return frames.clamp(-1, 1) + (frames - frames)  # inf becomes NaN, which is noticed


def reach_of(decoder: torch.nn.Module) -> int:
    """How many latents before its own a frame depends on: all causal convolutions in order, with time becoming finer
    on the way. One more, because the oldest latent is decoded as the first of a video, which is special."""
    reach, frames_per_latent = 0.0, 1
    for name, module in decoder.named_modules():
        if _is_causal(module):
            reach += (module.kernel_size[0] - 1) / frames_per_latent
            if name.endswith("time_conv"):
                frames_per_latent *= 2
    return ceil(reach) + 1


def denormalized(vae: Any, latents_BCFHW: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those of the transformer; in the autoencoder's precision."""
    latents = latents_BCFHW.to(vae.dtype)
    mean, inverse_std = _statistics(vae, latents)
    return latents / inverse_std + mean


@torch.no_grad()
def encode_causal(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode().float()
    mean, inverse_std = _statistics(vae, latents)
    return (latents - mean) * inverse_std


def _statistics(vae: Any, like_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each channel, as the pipelines compute them."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(like_BCFHW)
    return mean, 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(like_BCFHW)


def _is_causal(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "WanCausalConv3d"
