"""Tiny random pipelines of Latte: text to video, and class-conditional."""

from typing import Any

from diffusers import LattePipeline, LatteTransformer3DModel
from transformers import T5Config, T5EncoderModel

from fifo_diffusion.models.class_latte.pipeline import ClassLattePipeline, ClassLatteTransformer
from fifo_diffusion.testing import tiny

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "cross_attention_dim": 32,
    "attention_bias": True,
    "sample_size": 8,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 24,
    "video_length": 4,
}


def text_encoder(seed: int = 0, words: int = 64) -> T5EncoderModel:
    config = T5Config(
        vocab_size=words, d_model=24, d_kv=12, d_ff=48, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return tiny.randomize(T5EncoderModel(config), seed)


def transformer(seed: int = 0, **changes: Any) -> LatteTransformer3DModel:
    return tiny.randomize(LatteTransformer3DModel(**TRANSFORMER | changes), seed)


def pipeline(**changes: Any) -> LattePipeline:
    """16x16 pixels, latents of 4 channels at 8x8, clips of 4 frames."""
    parts = {name: part for name, part in tiny.components().items() if name not in ("unet", "text_encoder")}
    pipe = LattePipeline(**parts, text_encoder=text_encoder(), transformer=transformer(**changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


CLASS_SIZES = {"hidden_size": 384, "depth": 4, "num_heads": 6, "input_size": 8, "num_frames": 4, "num_classes": 10}


def class_pipeline() -> ClassLattePipeline:
    """16x16 pixels, ten classes."""
    vae = tiny.components()["vae"]
    pipe = ClassLattePipeline(vae, tiny.randomize(ClassLatteTransformer(**CLASS_SIZES), 0), tiny.scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe
