"""Tiny random pipelines of Allegro."""

from typing import Any

from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    EulerDiscreteScheduler,
)

from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_latte import text_encoder

TRANSFORMER = {
    "patch_size": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "num_layers": 1,
    "cross_attention_dim": 48,
    "sample_height": 4,
    "sample_width": 4,
    "sample_frames": 6,
    "caption_channels": 24,
}
VAE = {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2, "scaling_factor": 0.7}
TILES = {"kernel": (24, 32, 32), "stride": (16, 16, 16)}
"""Frames, rows and columns; an autoencoder's configuration can say no less than 128 x 128."""


def vae(**changes: Any) -> AutoencoderKLAllegro:
    made = tiny.randomize(AutoencoderKLAllegro(**VAE | changes), 1)
    vars(made).update(TILES)
    return made


def pipeline(scheduler: Any = None, **changes: Any) -> AllegroPipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = 512
    pipe = AllegroPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(),
        vae=vae(),
        transformer=tiny.randomize(AllegroTransformer3DModel(**TRANSFORMER | changes), 3),
        scheduler=scheduler or EulerDiscreteScheduler(timestep_spacing="trailing"),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
