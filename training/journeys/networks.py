"""The networks of the journeys: stock diffusers classes, so that their folder is an ordinary pipeline."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from journeys.latents import Latents
from journeys.text import WIDTH

# Channels from the finest to the coarsest level; one halving between two.
_VAE_CHANNELS = {8: (24, 48, 96, 128), 16: (16, 32, 64, 128, 192)}


def make_unet(grid: int, channels: int, widths: tuple[int, ...] = (64, 128)) -> UNet3DConditionModel:
    """7.6 M parameters with the usual widths; temporal transformers start as the identity."""
    unet = UNet3DConditionModel(
        sample_size=grid, in_channels=channels, out_channels=channels,
        down_block_types=("CrossAttnDownBlock3D",) * len(widths), up_block_types=("CrossAttnUpBlock3D",) * len(widths),
        block_out_channels=widths, layers_per_block=1, attention_head_dim=16, norm_num_groups=16,
        cross_attention_dim=WIDTH)  # fmt: skip
    for module in unet.modules():
        if isinstance(module, TransformerTemporalModel):
            torch.nn.init.zeros_(module.proj_out.weight)
            torch.nn.init.zeros_(module.proj_out.bias)
    return unet


def make_vae(latents: Latents) -> AutoencoderKL:
    """An autoencoder for cells of 8 or 16 pixels; narrow where the picture is large."""
    widths = _VAE_CHANNELS[latents.patch]
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=latents.channels, block_out_channels=widths, layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths), sample_size=latents.size, mid_block_add_attention=False,
        scaling_factor=1.0)  # fmt: skip
    return vae.to(memory_format=torch.channels_last)
