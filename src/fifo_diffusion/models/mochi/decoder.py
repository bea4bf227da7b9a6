"""Streaming decoder and encoder of `AutoencoderKLMochi`.

The stock decoder has an argument for caches, and does not use it. Here each of its convolutions along time is shown the
frames before, as it would see them in the whole video.
"""

from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.spatial_tiles import tiles_of
from fifo_diffusion.decoding.timing import LatentTiming


class MochiDecoder(CausalDecoder):
    """One latent in, one frame (the first of a video) or six out.

    Args:
        vae: an `AutoencoderKLMochi`, with its tiling and slicing as they are now.
    """

    def __init__(self, vae: Any) -> None:
        timing = LatentTiming(1, vae.temporal_compression_ratio)
        super().__init__(vae, timing, _reach(vae.decoder), tiles=tiles_of(vae))

    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        vae, decoder = self.vae, self.vae.decoder
        bring_to_device(vae)
        memory = _Memory(caches)
        x = decoder.conv_in(denormalized(vae, latents_BCFHW))
        for block in _blocks(decoder):
            for resnet in block.resnets:
                y = memory.convolved(resnet.conv1, resnet.nonlinearity(resnet.norm1(x)))
                x = x + memory.convolved(resnet.conv2, resnet.nonlinearity(resnet.norm2(y)))
            if hasattr(block, "proj"):
                x = _finer(block, x)
        frames = decoder.proj_out(decoder.nonlinearity(x).movedim(1, -1)).movedim(-1, 1)
        return frames if caches is not None else frames[:, :, self.timing.further - 1 :], memory.kept


class _Memory:
    """The frames that each convolution along time needs again, in their order."""

    def __init__(self, before: list[Tensor] | None) -> None:
        self._before = None if before is None else iter(before)
        self.kept: list[Tensor] = []

    def convolved(self, module: Any, x_BCFHW: Tensor) -> Tensor:
        first = x_BCFHW[:, :, :1].expand(-1, -1, module.time_pad, -1, -1)
        x = torch.cat([first if self._before is None else next(self._before), x_BCFHW], 2)
        self.kept.append(x[:, :, x.shape[2] - module.time_pad :])
        edges = (*[module.width_pad] * 2, *[module.height_pad] * 2, 0, 0)
        return module.conv(pad(x, edges, mode="replicate"))


def _blocks(decoder: Any) -> list[Any]:
    return [decoder.block_in, *decoder.up_blocks, decoder.block_out]


def _finer(block: Any, x_BCFHW: Tensor) -> Tensor:
    """Channels to frames, rows and columns."""
    x = block.proj(x_BCFHW.movedim(1, -1)).movedim(-1, 1)
    t, s = block.temporal_expansion, block.spatial_expansion
    x = x.unflatten(1, (-1, t, s, s)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _reach(decoder: Any) -> int:
    """How many latents before its own a frame depends on; one more, as the oldest is decoded as if it began a video."""
    reach, frames_per_latent = 0.0, 1
    for block in _blocks(decoder):
        reach += sum(r.conv1.time_pad + r.conv2.time_pad for r in block.resnets) / frames_per_latent
        frames_per_latent *= getattr(block, "temporal_expansion", 1)
    return ceil(reach) + 1


def denormalized(vae: Any, latents_BCFHW: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those of the transformer; in the autoencoder's precision."""
    mean, std = _statistics(vae, latents_BCFHW)
    return (latents_BCFHW * std / vae.config.scaling_factor + mean).to(vae.dtype)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then six for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode().float()
    mean, std = _statistics(vae, latents)
    return (latents - mean) * vae.config.scaling_factor / std


def _statistics(vae: Any, like_BCFHW: Tensor) -> tuple[Any, Any]:
    """Mean and standard deviation of each channel, where the autoencoder has them."""
    mean, std = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or std is None:
        return 0.0, 1.0
    return torch.tensor(mean).view(1, -1, 1, 1, 1).to(like_BCFHW), torch.tensor(std).view(1, -1, 1, 1, 1).to(like_BCFHW)
