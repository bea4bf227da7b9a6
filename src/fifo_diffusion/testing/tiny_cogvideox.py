"""Tiny random pipelines of CogVideoX."""

from typing import Any

from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from fifo_diffusion.testing import tiny

SCHEDULER = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 24,
    "num_layers": 2,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 17,
    "max_text_seq_length": 8,
}
VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 8),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "temporal_compression_ratio": 4,
    "scaling_factor": 0.7,
}
SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0, "max_sequence_length": 8}
FEW = {"window": 3, "num_partitions": 2} | SIZE


def pipeline(rotary: bool = True, **changes: Any) -> CogVideoXPipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's. Rotary as 5B, or as 2B."""
    config = T5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64)
    pipe = CogVideoXPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.randomize(T5EncoderModel(config), 2),
        vae=tiny.randomize(AutoencoderKLCogVideoX(**VAE), 1),
        transformer=tiny.randomize(
            CogVideoXTransformer3DModel(**TRANSFORMER | {"use_rotary_positional_embeddings": rotary} | changes), 3
        ),
        scheduler=CogVideoXDDIMScheduler(**SCHEDULER),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
