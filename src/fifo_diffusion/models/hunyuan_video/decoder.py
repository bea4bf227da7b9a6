"""Streaming decoder and encoder of `AutoencoderKLHunyuanVideo` (HunyuanVideo, Kandinsky 5)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import bring_to_device
from fifo_diffusion.decoding.tiles import TileDecoder
from fifo_diffusion.decoding.timing import LatentTiming


def hunyuan_decoder(vae: Any, timing: LatentTiming) -> TileDecoder:
    """Decodes tiles of time as the autoencoder does by itself (`_temporal_tiled_decode`), of 16 frames with a stride of
    12 unless its user says otherwise. Tiling over height and width is used where it is on."""

    def decode(latents_BCFHW: Tensor) -> Tensor:
        bring_to_device(vae)
        z = latents_BCFHW.to(vae.dtype) / vae.config.scaling_factor
        factor = vae.spatial_compression_ratio
        most = vae.tile_sample_min_height // factor, vae.tile_sample_min_width // factor
        if vae.use_tiling and (z.shape[-2] > most[0] or z.shape[-1] > most[1]):
            return vae.tiled_decode(z).sample
        return vae.decoder(vae.post_quant_conv(z))

    size, stride = (
        frames // vae.temporal_compression_ratio
        for frames in (vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames)
    )
    return TileDecoder(decode, timing, size=size + 1, stride=stride)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
