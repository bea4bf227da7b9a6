"""Tiny random pipelines of Mochi."""

from typing import Any

from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel
from transformers import T5Config, T5EncoderModel

from fifo_diffusion.testing import tiny

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "pooled_projection_dim": 16,
    "in_channels": 12,
    "text_embed_dim": 24,
    "time_embed_dim": 8,
    "max_sequence_length": 256,
}
VAE = {
    "encoder_block_out_channels": (32, 32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "add_attention_block": (False,) * 5,
}
"""Its norms have 32 groups, and its pipeline 12 channels, 8 x 8 pixels and six frames for a latent."""


def vae(**changes: Any) -> AutoencoderKLMochi:
    return tiny.randomize(AutoencoderKLMochi(**VAE | changes), 1)


def pipeline(scheduler: Any = None, **changes: Any) -> MochiPipeline:
    """32x32 pixels, latents of 12 channels at 4x4; `changes` are the transformer's."""
    config = T5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64)
    pipe = MochiPipeline(
        scheduler=scheduler or FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=vae(),
        text_encoder=tiny.randomize(T5EncoderModel(config), 2),
        tokenizer=tiny.tokenizer(),
        transformer=tiny.randomize(MochiTransformer3DModel(**TRANSFORMER | changes), 3),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
