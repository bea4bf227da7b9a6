"""Tiny random pipelines of Wan and SkyReels-V2, and how their contract is tested."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

import contract
import tiny

SKYREELS = sys.modules[SkyReelsV2DiffusionForcingPipeline.__module__]
if not hasattr(SKYREELS, "ftfy"):  # a package that it cleans texts with, and that need not be there for the tests
    SKYREELS.ftfy = SimpleNamespace(fix_text=str)

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


def unipc(**changes):
    """As the checkpoints on the hub have it."""
    return UniPCMultistepScheduler(**FLOW | changes)


def euler(shift=3.0):
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def vae(**changes):
    return tiny.randomize(AutoencoderKLWan(**VAE | changes), 1)


def components(scheduler=None, transformer=WanTransformer3DModel, vae_changes=None, seed=3, **changes):
    config = UMT5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64, pad_token_id=0)
    return {
        "vae": vae(**vae_changes or {}),
        "text_encoder": tiny.randomize(UMT5EncoderModel(config), 2),
        "tokenizer": tiny.tokenizer(),
        "transformer": tiny.randomize(transformer(**TRANSFORMER | changes), seed),
        "scheduler": scheduler or unipc(),
    }


def pipeline(scheduler=None, **options):
    pipe = WanPipeline(**components(scheduler), **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def skyreels(scheduler=None, **changes):
    pipe = SkyReelsV2DiffusionForcingPipeline(**components(scheduler, SkyReelsV2Transformer3DModel, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


FEW = {"window": 3, "num_partitions": 2} | SIZE


class WanContract(contract.VideoModelContract):
    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            return pipe.transformer(latents, timestep.expand(len(latents)), text).sample

    def whole_decoding(self, pipe, latents):
        mean, std = (
            torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
        )
        with torch.no_grad():
            video = pipe.vae.decode(latents / (1 / std) + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Self-attention is the only layer that looks across frames."""
        from diffusers.models.transformers.transformer_wan import WanAttention

        saved = WanAttention.forward
        WanAttention.forward = lambda self, x, text=None, *a: saved(self, x, text, *a) if text is not None else 0.1 * x
        yield
        WanAttention.forward = saved
