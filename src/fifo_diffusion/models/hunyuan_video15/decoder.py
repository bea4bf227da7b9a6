"""Streaming decoder and encoder of `AutoencoderKLHunyuanVideo15`.

Its layers look back only, but attention looks back to the very first latent. Here it sees the last `MEMORY` latents.
So frames are those of the whole video's decoding as long as a video is no longer, and near them later.
"""

from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.spatial_tiles import SpatialTiles
from fifo_diffusion.decoding.timing import LatentTiming

MEMORY = 32
"""Latents, before its own, that attention sees: one more than a clip of the pipeline has (121 frames are 31)."""


class HunyuanVideo15Decoder(CausalDecoder):
    """One latent in, one frame (the first of a video) or four out.

    Args:
        vae: an `AutoencoderKLHunyuanVideo15`, with its tiling and slicing as they are now.
        memory: latents before its own that attention sees.
    """

    exact = False

    def __init__(self, vae: Any, memory: int = MEMORY) -> None:
        self.memory = memory
        timing = LatentTiming(1, vae.temporal_compression_ratio)
        super().__init__(vae, timing, _reach(vae.decoder, memory), tiles=_tiles_of(vae))

    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        vae, decoder = self.vae, self.vae.decoder
        bring_to_device(vae)
        memory = _Memory(caches, self.memory)
        z = latents_BCFHW.to(vae.dtype) / vae.config.scaling_factor
        x = memory.convolved(decoder.conv_in, z) + z.repeat_interleave(decoder.repeat, 1)
        first, *others = decoder.mid_block.resnets
        x = _resnet(first, x, memory)
        for attention, resnet in zip(decoder.mid_block.attentions, others, strict=True):
            x = _resnet(resnet, x if attention is None else memory.attended(attention, x), memory)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = _resnet(resnet, x, memory)
            for upsampler in block.upsamplers or ():
                x = _finer(upsampler, x, memory)
        return memory.convolved(decoder.conv_out, decoder.conv_act(decoder.norm_out(x))), memory.kept


class _Memory:
    """What each layer along time needs again, in their order."""

    def __init__(self, before: list[Any] | None, latents: int) -> None:
        self.begins, self._before, self._latents = before is None, iter(before or ()), latents
        self.kept: list[Any] = []

    def convolved(self, module: Any, x_BCFHW: Tensor) -> Tensor:
        *edges, back, _ = module.time_causal_padding
        before = x_BCFHW[:, :, :1].expand(-1, -1, back, -1, -1) if self.begins else next(self._before)
        x = torch.cat([before, x_BCFHW], 2)
        self.kept.append(x[:, :, x.shape[2] - back :])
        return module.conv(pad(x, (*edges, 0, 0), mode=module.pad_mode))

    def attended(self, module: Any, x_BCFHW: Tensor) -> Tensor:
        """All tokens of one latent to those of the latents before it and to themselves."""
        x = module.norm(x_BCFHW)
        query, *new = (
            layer(x).flatten(2).transpose(1, 2)[:, None] for layer in (module.to_q, module.to_k, module.to_v)
        )
        before = [] if self.begins else next(self._before)
        keys, values = (torch.cat(parts, 2) for parts in zip(*before, new, strict=True))
        self.kept.append([*before, new][-self._latents :])
        found = scaled_dot_product_attention(query, keys, values)
        return module.proj_out(found[:, 0].transpose(1, 2).reshape(x_BCFHW.shape)) + x_BCFHW


def _resnet(module: Any, x: Tensor, memory: _Memory) -> Tensor:
    y = memory.convolved(module.conv1, module.nonlinearity(module.norm1(x)))
    y = memory.convolved(module.conv2, module.nonlinearity(module.norm2(y)))
    return y + (x if module.conv_shortcut is None else module.conv_shortcut(x))


def _finer(module: Any, x: Tensor, memory: _Memory) -> Tensor:
    """Channels to rows, columns and, but for the first frame of a video, frames."""
    y, repeats = memory.convolved(module.conv, x), module.repeats
    if not module.add_temporal_upsample:
        return _spread(module, y, 1) + _spread(module, x.repeat_interleave(repeats, 1), 1)
    if memory.begins:
        y = _spread(module, y, 1)
        return y[:, : y.shape[1] // 2] + _spread(module, x, 1).repeat_interleave(repeats // 2, 1)
    return _spread(module, y, 2) + _spread(module, x, 2).repeat_interleave(repeats, 1)


def _spread(module: Any, x: Tensor, frames: int) -> Tensor:
    return module._dcae_upsample_rearrange(x, r1=frames, r2=2, r3=2)


def _tiles_of(vae: Any) -> SpatialTiles | None:
    if not vae.use_tiling:
        return None
    size, pixels = (
        (vae.tile_latent_min_height, vae.tile_latent_min_width),
        (vae.tile_sample_min_height, vae.tile_sample_min_width),
    )
    down, right = (int(side * (1 - vae.tile_overlap_factor)) for side in size)
    high, wide = (int(side * vae.tile_overlap_factor) for side in pixels)
    return SpatialTiles(size, (down, right), (high, wide), (pixels[0] - high, pixels[1] - wide))


def _reach(decoder: Any, memory: int) -> int:
    """How many latents before its own a frame depends on; one more, as the oldest is decoded as if it began a video."""
    reach, frames_per_latent = float(memory * len(decoder.mid_block.attentions)), 1
    for module in decoder.modules():
        if hasattr(module, "time_causal_padding"):
            reach += module.time_causal_padding[4] / frames_per_latent
        if hasattr(module, "add_temporal_upsample"):  # its own convolution comes next, and is one too many so
            frames_per_latent *= 1 + module.add_temporal_upsample
    return ceil(reach) + 2


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
