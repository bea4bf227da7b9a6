"""Tiny random pipelines of LTX-Video."""

from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel

from fifo_diffusion.testing import tiny

SCHEDULER = {
    "use_dynamic_shifting": True,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "base_image_seq_len": 8,
    "max_image_seq_len": 40,
    "shift_terminal": 0.1,
}
TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "num_layers": 2,
    "caption_channels": 24,
}
VAE = {
    "latent_channels": 4,
    "block_out_channels": (4, 8),
    "down_block_types": ("LTXVideoDownBlock3D",) * 2,
    "decoder_block_out_channels": (4, 8),
    "layers_per_block": (1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1),
    "spatio_temporal_scaling": (True, False),
    "decoder_spatio_temporal_scaling": (True, False),
    "decoder_inject_noise": (False, False, False),
    "downsample_type": ("conv", "conv"),
    "upsample_residual": (False, False),
    "upsample_factor": (1, 1),
    "patch_size": 4,
    "decoder_causal": False,
}
TOLD = {
    "timestep_conditioning": True,
    "decoder_inject_noise": (True, False, True),
    "upsample_residual": (True, False),
    "upsample_factor": (2, 1),
    "decoder_block_out_channels": (8, 8),
}
"""Changes of the autoencoder in the manner of version 0.9.1: its decoder is told a time and adds noise."""
SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0, "max_sequence_length": 8}
FEW = {"window": 3, "num_partitions": 2} | SIZE


def vae(**changes: Any) -> AutoencoderKLLTXVideo:
    made = tiny.randomize(AutoencoderKLLTXVideo(**VAE | changes), 1)
    made.latents_mean = torch.tensor([0.1, -0.2, 0.3, 0.0])
    made.latents_std = torch.tensor([1.0, 2.0, 1.5, 0.7])
    return made


def pipeline(vae_changes: dict[str, Any] | None = None, scheduler: Any = None, **changes: Any) -> LTXPipeline:
    """32x32 pixels, latents of 4 channels at 4x4, two frames each; `changes` are the transformer's."""
    config = T5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64)
    pipe = LTXPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.randomize(T5EncoderModel(config), 2),
        vae=vae(**vae_changes or {}),
        transformer=tiny.randomize(LTXVideoTransformer3DModel(**TRANSFORMER | changes), 3),
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(**SCHEDULER),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
