"""Tiny random pipelines of EasyAnimate."""

from typing import Any

from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from transformers import Gemma2Config, Gemma2Model

from fifo_diffusion.testing import tiny

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "num_layers": 2,
    "mmdit_layers": 1,
    "time_embed_dim": 16,
    "text_embed_dim": 16,
    "sample_width": 4,
    "sample_height": 4,
}
VAE = {
    "latent_channels": 4,
    "block_out_channels": [8, 8, 8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 0.7,
}
TEMPLATE = "user: {% for message in messages %}{{ message['content'][0]['text'] }}{% endfor %}"


def vae(**changes: Any) -> AutoencoderKLMagvit:
    return tiny.randomize(AutoencoderKLMagvit(**VAE | changes), 1)


def pipeline(vae_changes: dict[str, Any] | None = None, **changes: Any) -> EasyAnimatePipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,  # the pipeline takes the state before the last
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
    )
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    pipe = EasyAnimatePipeline(
        vae=vae(**vae_changes or {}),
        text_encoder=tiny.randomize(Gemma2Model(config), 2),
        tokenizer=tokenizer,
        transformer=tiny.randomize(EasyAnimateTransformer3DModel(**TRANSFORMER | changes), 3),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
