"""Tiny random pipelines of Kandinsky 5."""

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5T2VPipeline, Kandinsky5Transformer3DModel

from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_hunyuan_video import clip, vae

TRANSFORMER = {
    "in_visual_dim": 4,
    "out_visual_dim": 4,
    "in_text_dim": 16,
    "in_text_dim2": 8,
    "time_dim": 16,
    "patch_size": (1, 2, 2),
    "model_dim": 32,
    "ff_dim": 32,
    "num_text_blocks": 1,
    "num_visual_blocks": 1,
    "axes_dims": (4, 6, 6),
    "visual_cond": True,
}


def transformer(**changes: Any) -> Kandinsky5Transformer3DModel:
    return tiny.randomize(Kandinsky5Transformer3DModel(**TRANSFORMER | changes), 3)


def pipeline(**changes: Any) -> Kandinsky5T2VPipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 256
    pipe = Kandinsky5T2VPipeline(
        transformer=transformer(**changes),
        vae=vae(),
        text_encoder=tiny.qwen(),
        tokenizer=tokenizer,
        text_encoder_2=clip(8),
        tokenizer_2=tiny.tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
