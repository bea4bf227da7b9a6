"""Tiny random pipelines of HunyuanVideo 1.5."""

from typing import Any

from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from transformers import ByT5Tokenizer

from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_latte import text_encoder

TRANSFORMER = {
    "in_channels": 9,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "text_embed_dim": 16,
    "text_embed_2_dim": 24,
    "image_embed_dim": 8,
    "rope_axes_dim": (4, 6, 6),
    "target_size": 640,
}
VAE = {"latent_channels": 4, "block_out_channels": (4, 8, 8, 8, 8), "layers_per_block": 1, "scaling_factor": 0.7}
TEMPLATE = (
    "red " * 108 + "{% for message in messages %}{% if loop.last %}{{ message['content'] }}{% endif %}{% endfor %}"
)
"""The pipeline cuts off the first 108 tokens."""
TOKENS = {"tokenizer_max_length": 8, "tokenizer_2_max_length": 12, "vision_num_semantic_tokens": 3}
"""In place of 1000, 256 and 729; they are no part of a configuration."""


def vae(**changes: Any) -> AutoencoderKLHunyuanVideo15:
    return tiny.randomize(AutoencoderKLHunyuanVideo15(**VAE | changes), 1)


def pipeline(guider: Any = None, **changes: Any) -> HunyuanVideo15Pipeline:
    """32x32 pixels, latents of 4 channels at 2x2; `changes` are the transformer's."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    pipe = HunyuanVideo15Pipeline(
        text_encoder=tiny.qwen().model.language_model,
        tokenizer=tokenizer,
        transformer=tiny.randomize(HunyuanVideo15Transformer3DModel(**TRANSFORMER | changes), 3),
        vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=text_encoder(words=384),
        tokenizer_2=ByT5Tokenizer(),
        guider=guider or ClassifierFreeGuidance(guidance_scale=3.0),
    )
    vars(pipe).update(TOKENS)
    pipe.set_progress_bar_config(disable=True)
    return pipe
