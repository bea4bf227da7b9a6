"""Tiny random pipelines of SANA-Video."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Video,
    DPMSolverMultistepScheduler,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
)

from fifo_diffusion.testing import tiny, tiny_wan

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 12,
    "cross_attention_dim": 24,
    "caption_channels": 16,
    "rope_max_seq_len": 32,
}
LTX2_VAE = {
    "latent_channels": 4,
    "block_out_channels": (8, 8),
    "down_block_types": ("LTX2VideoDownBlock3D",) * 2,
    "decoder_block_out_channels": (8,),
    "layers_per_block": (1, 1, 1),
    "decoder_layers_per_block": (1, 1),
    "spatio_temporal_scaling": (True, False),
    "decoder_spatio_temporal_scaling": (True,),
    "decoder_inject_noise": (False, False),
    "downsample_type": ("spatiotemporal", "spatial"),
    "upsample_type": ("spatiotemporal",),
    "upsample_residual": (True,),
    "upsample_factor": (2,),
    "patch_size": 4,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 2,
}


def ltx2_vae(**changes: Any) -> AutoencoderKLLTX2Video:
    made = tiny.randomize(AutoencoderKLLTX2Video(**LTX2_VAE | changes), 1)
    made.latents_mean = torch.tensor([0.1, -0.2, 0.3, 0.0])
    made.latents_std = torch.tensor([1.0, 2.0, 1.5, 0.7])
    return made


def pipeline(vae: Any = None, **changes: Any) -> SanaVideoPipeline:
    """32x32 pixels, latents of 4 channels at 4x4, with Wan's autoencoder; `changes` are the transformer's."""
    pipe = SanaVideoPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.gemma(),
        vae=vae or tiny_wan.vae(),
        transformer=tiny.randomize(SanaVideoTransformer3DModel(**TRANSFORMER | changes), 3),
        scheduler=DPMSolverMultistepScheduler(**tiny_wan.FLOW),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
