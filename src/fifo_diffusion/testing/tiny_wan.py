"""Tiny random pipelines of Wan and SkyReels-V2."""

import sys
from types import SimpleNamespace
from typing import Any

from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    UMT5Config,
    UMT5EncoderModel,
)

from fifo_diffusion.testing import tiny

SKYREELS = sys.modules[SkyReelsV2DiffusionForcingPipeline.__module__]
_CLEANING = (SkyReelsV2Pipeline, SkyReelsV2ImageToVideoPipeline, WanImageToVideoPipeline)
for module in (SKYREELS, *(sys.modules[kind.__module__] for kind in _CLEANING)):
    if not hasattr(module, "ftfy"):  # a package that texts are cleaned with, and that need not be there for the tests
        module.ftfy = SimpleNamespace(fix_text=str)

SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0}
"""4 x 4 latents, 4 tokens of each frame."""
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 24,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.0, 2.0, 1.5, 0.7],
}
VAE_2_2 = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


def unipc(**changes: Any) -> UniPCMultistepScheduler:
    """As the checkpoints on the hub have it."""
    return UniPCMultistepScheduler(**FLOW | changes)


def euler(shift: float = 3.0) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler class that `WanPipeline` names."""
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def vae(**changes: Any) -> AutoencoderKLWan:
    return tiny.randomize(AutoencoderKLWan(**VAE | changes), 1)


def components(
    scheduler: Any = None,
    transformer: type = WanTransformer3DModel,
    vae_changes: dict[str, Any] | None = None,
    seed: int = 3,
    **changes: Any,
) -> dict[str, Any]:
    """The parts of a pipeline; `changes` are the transformer's."""
    config = UMT5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64, pad_token_id=0)
    return {
        "vae": vae(**vae_changes or {}),
        "text_encoder": tiny.randomize(UMT5EncoderModel(config), 2),
        "tokenizer": tiny.tokenizer(),
        "transformer": tiny.randomize(transformer(**TRANSFORMER | changes), seed),
        "scheduler": scheduler or unipc(),
    }


def pipeline(scheduler: Any = None, **options: Any) -> WanPipeline:
    """32x32 pixels, latents of 4 channels at 4x4."""
    pipe = WanPipeline(**components(scheduler), **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def skyreels(scheduler: Any = None, **changes: Any) -> SkyReelsV2DiffusionForcingPipeline:
    """As `pipeline`; `changes` are the transformer's."""
    pipe = SkyReelsV2DiffusionForcingPipeline(**components(scheduler, SkyReelsV2Transformer3DModel, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def skyreels_plain(scheduler: Any = None, **changes: Any) -> SkyReelsV2Pipeline:
    """As `skyreels`, sampled as Wan is."""
    pipe = SkyReelsV2Pipeline(**components(scheduler, SkyReelsV2Transformer3DModel, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


FEW = {"window": 3, "num_partitions": 2} | SIZE


def picture() -> WanImageToVideoPipeline:
    """Wan 2.2 TI2V-5B, that begins with a picture: 64x64 pixels."""
    parts = components(vae_changes=VAE_2_2) | {"image_processor": None, "image_encoder": None}
    pipe = WanImageToVideoPipeline(**parts, expand_timesteps=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def image_encoder(kind: type = CLIPVisionModel) -> dict[str, Any]:
    """CLIP, of five tokens, and what makes its pictures."""
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = tiny.randomize(kind(CLIPVisionConfig(image_size=16, patch_size=8, **sizes)), 4)
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size)
    return {"image_encoder": model, "image_processor": processor}


WITH_PICTURE = {"in_channels": 12}
"""Latents, a mask for each frame of one, the latent of the picture."""
WITH_TOKENS = {"image_dim": 8, "added_kv_proj_dim": 24}


def told_picture(scheduler: Any = None) -> WanImageToVideoPipeline:
    """Wan 2.1 14B, image to video."""
    pipe = WanImageToVideoPipeline(**components(scheduler, **WITH_PICTURE, **WITH_TOKENS), **image_encoder())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def told_picture_twice() -> WanImageToVideoPipeline:
    """Wan 2.2 A14B, image to video: two transformers, and no tokens of the picture."""
    parts = components(**WITH_PICTURE) | {"transformer_2": components(seed=7, **WITH_PICTURE)["transformer"]}
    pipe = WanImageToVideoPipeline(**parts, image_processor=None, image_encoder=None, boundary_ratio=0.6)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def skyreels_told_picture() -> SkyReelsV2ImageToVideoPipeline:
    """With CLIP in the classes that this pipeline names."""
    parts = components(None, SkyReelsV2Transformer3DModel, **WITH_PICTURE, **WITH_TOKENS)
    parts |= image_encoder(CLIPVisionModelWithProjection)
    parts["image_processor"] = CLIPProcessor(parts["image_processor"], parts["tokenizer"])
    pipe = SkyReelsV2ImageToVideoPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def two_transformers() -> WanPipeline:
    """Wan 2.2 A14B: the second takes over below timestep 600."""
    second = components(seed=7)["transformer"]
    pipe = WanPipeline(**components(), transformer_2=second, boundary_ratio=0.6)
    pipe.set_progress_bar_config(disable=True)
    return pipe
