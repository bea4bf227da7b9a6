"""Tiny random pipelines of HunyuanVideo."""

from typing import Any

from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from fifo_diffusion.testing import tiny

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 16,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (4, 6, 6),
}
VAE = {
    "latent_channels": 4,
    "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
    "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
    "block_out_channels": (4, 4, 4, 4),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 0.7,
    "mid_block_add_attention": False,
}


def vae(**changes: Any) -> AutoencoderKLHunyuanVideo:
    return tiny.randomize(AutoencoderKLHunyuanVideo(**VAE | changes), 1)


def clip(width: int, places: int = 77) -> CLIPTextModel:
    """A text tower whose pooled output is `width` wide."""
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=places,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=0,
    )
    return tiny.randomize(CLIPTextModel(config), 4)


def pipeline(vae_changes: dict[str, Any] | None = None, **changes: Any) -> HunyuanVideoPipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,  # the pipeline takes the third last state
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    pipe = HunyuanVideoPipeline(
        text_encoder=tiny.randomize(LlamaModel(config), 2),
        tokenizer=tiny.tokenizer(),
        transformer=tiny.randomize(HunyuanVideoTransformer3DModel(**TRANSFORMER | changes), 3),
        vae=vae(**vae_changes or {}),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=clip(8),
        tokenizer_2=tiny.tokenizer(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
