"""Tiny random pipelines, built without any download."""

from typing import Any
from unittest import SkipTest

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from fifo_diffusion.models.registry import family_of
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline

TEXT = "a red blue green ball cat dog moving left right up down on the sea sand by night day"


def pipeline_class(name: str) -> Any:
    """A pipeline class of a family that wants a newer transformers than this package does.

    Raises:
        SkipTest: the installed one is too old; pytest, too, skips a test that raises it.
    """
    family = family_of(name)
    if family.too_old:
        raise SkipTest(family.too_old)
    return family.pipeline_class(name)


def randomize(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights everywhere: stock initialisation leaves temporal convolutions at zero, where mistakes hide."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if value.dim() > 1:
            fan_in = value[0].numel()
            value.data = torch.randn(value.shape, generator=generator) * fan_in**-0.5
        elif name.endswith("weight"):
            value.data = 1 + 0.1 * torch.randn(value.shape, generator=generator)
        else:
            value.data = 0.1 * torch.randn(value.shape, generator=generator)
    return module.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: k for k, word in enumerate(["<end>", "<start>", *dict.fromkeys(TEXT.split())])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<end>", "unk_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=8, **special)


UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "norm_num_groups": 16,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "cross_attention_dim": 24,
}
"""Two channels per norm group: with one, a group norm hides the timestep."""


def gemma() -> Gemma2Model:
    """A text encoder of LTX-2's and SANA-Video's kind, for `tokenizer`."""
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
    )
    return randomize(Gemma2Model(config), 2)


def qwen() -> Qwen2_5_VLForConditionalGeneration:
    """A text encoder of Kandinsky 5's, HunyuanVideo 1.5's and Cosmos 2.5's kind, for `tokenizer`."""
    text = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 3,  # HunyuanVideo 1.5 takes the third last state
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        "bos_token_id": 1,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    ids = {"bos_token_id": 1, "eos_token_id": 0}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"patch_size": 2}, **ids)
    return randomize(Qwen2_5_VLForConditionalGeneration(config), 2)


def unet(seed: int = 0, kind: type = UNet3DConditionModel, **changes: Any) -> UNet3DConditionModel:
    return randomize(kind(**UNET | changes), seed)


def scheduler(**changes: Any) -> DDIMScheduler:
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    return DDIMScheduler(**config | {"set_alpha_to_one": True, "timestep_spacing": "trailing"} | changes)


def components(seed: int = 0, **unet_changes: Any) -> dict[str, Any]:
    torch.manual_seed(seed)
    text = CLIPTextConfig(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=0,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    return {
        "vae": randomize(vae, seed + 1),
        "text_encoder": randomize(CLIPTextModel(text), seed + 2),
        "tokenizer": tokenizer(),
        "unet": unet(seed, **unet_changes),
        "scheduler": scheduler(),
    }


LIGHT = {
    "block_out_channels": (16,),
    "norm_num_groups": 8,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock3D",),
    "up_block_types": ("UpBlock3D",),
}
"""For tests that run many steps: text only in the middle block; still two channels per norm group."""


def pipeline(seed: int = 0, **unet_changes: Any) -> TextToVideoPipeline:
    """16x16 pixels, latents of 4 channels at 8x8."""
    pipe = TextToVideoPipeline(**components(seed, **unet_changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe


class FakeClassifier(torch.nn.Module):
    """A video classifier by its interface, with three classes: which colour is brightest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 16, 112, 112)
        return x.mean((2, 3, 4))


class FakeI3D(torch.nn.Module):
    """FVD's feature network by its interface, with three features: the mean of each colour."""

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        return x.mean((2, 3, 4)) if return_features and rescale and resize else x
