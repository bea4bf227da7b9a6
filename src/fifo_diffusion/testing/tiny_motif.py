"""Tiny random pipelines of Motif-Video."""

from typing import TYPE_CHECKING, Any

from diffusers import (
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    MotifVideoTransformer3DModel,
)

from fifo_diffusion.testing import tiny, tiny_wan

if TYPE_CHECKING:
    from diffusers import MotifVideoPipeline

TRANSFORMER = {
    "in_channels": 9,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "num_decoder_layers": 1,
    "text_embed_dim": 16,
    "rope_axes_dim": (4, 6, 6),
    "enable_text_cross_attention_dual": True,
    "enable_text_cross_attention_single": True,
}


def pipeline(guider: Any = None, **changes: Any) -> "MotifVideoPipeline":
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 512
    pipe = tiny.pipeline_class("MotifVideoPipeline")(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=tiny_wan.vae(),
        text_encoder=tiny.gemma(),
        tokenizer=tokenizer,
        transformer=tiny.randomize(MotifVideoTransformer3DModel(**TRANSFORMER | changes), 3),
        guider=guider or ClassifierFreeGuidance(guidance_scale=3.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
