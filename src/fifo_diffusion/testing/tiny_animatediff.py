"""Tiny random pipelines of AnimateDiff, for Stable Diffusion 1.5 and XL."""

from typing import Any

import torch
from diffusers import AnimateDiffPipeline, AnimateDiffSDXLPipeline, MotionAdapter, UNetMotionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from fifo_diffusion.testing import tiny

PLACES = 6
UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "norm_num_groups": 16,
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "motion_num_attention_heads": 2,
    "motion_max_seq_length": PLACES,
    "cross_attention_dim": 24,
}
LIGHT = {
    "block_out_channels": (32,),
    "down_block_types": ("DownBlockMotion",),
    "up_block_types": ("UpBlockMotion",),
}
"""For tests that run many steps: text only in the middle block."""
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 12,
    "use_linear_projection": True,
    "cross_attention_dim": 24 + 16,
}


def motion_adapter() -> MotionAdapter:
    """What motion modules are loaded from; the pipeline keeps it, but does not run it."""
    return MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=16,
        motion_max_seq_length=PLACES,
    )


def components(xl: bool = False, **changes: Any) -> dict[str, Any]:
    """The parts of a pipeline; `changes` are the U-Net's."""
    parts = tiny.components() | {"motion_adapter": motion_adapter()}
    parts["unet"] = tiny.randomize(UNetMotionModel(**UNET | (XL if xl else {}) | changes), 0)
    if xl:
        second = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 12, "num_hidden_layers": 2}
        second |= {"vocab_size": 64, "num_attention_heads": 2, "max_position_embeddings": 8}
        second |= {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
        parts["text_encoder_2"] = tiny.randomize(CLIPTextModelWithProjection(CLIPTextConfig(**second)), 4)
        parts["tokenizer_2"] = tiny.tokenizer()
    return parts


def pipeline(xl: bool = False, **changes: Any) -> AnimateDiffPipeline | AnimateDiffSDXLPipeline:
    """16x16 pixels, latents of 4 channels at 8x8."""
    pipe = (AnimateDiffSDXLPipeline if xl else AnimateDiffPipeline)(**components(xl, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def with_ip_adapter(pipe: Any) -> Any:
    """A random IP-adapter: 4 image tokens from an embedding of 10 numbers."""
    generator = torch.Generator().manual_seed(7)
    width, weights = pipe.unet.config.cross_attention_dim, {}
    layers = [name for name in pipe.unet.attn_processors if "attn2" in name and "motion" not in name]
    modules = dict(pipe.unet.named_modules())
    for k, name in enumerate(layers):
        inner = modules[name.removesuffix(".processor")].to_q.out_features
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"{2 * k + 1}.{part}.weight"] = torch.randn(inner, width, generator=generator) / width**0.5
    projection = {"proj.weight": torch.randn(4 * width, 10, generator=generator), "proj.bias": torch.zeros(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    adapter = {"image_proj": projection, "ip_adapter": weights}
    pipe.load_ip_adapter(adapter, subfolder="", weight_name="", image_encoder_folder=None)
    return pipe
