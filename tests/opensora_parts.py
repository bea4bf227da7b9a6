"""Tiny random Open-Sora Plan pipelines, and folders as they are published."""

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file
from test_latte import TRANSFORMER, text_encoder

import tiny
from fifo_diffusion.models.opensora.pipeline import OpenSoraPlanPipeline
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder

VAE = {"hidden_size": 32, "hidden_size_mult": (2, 2, 2, 1), "num_res_blocks": 1}


def transformer(seed=0, **changes):
    config = {**TRANSFORMER, "sample_size": (4, 4), "video_length": 5} | changes
    return tiny.randomize(OpenSoraPlanTransformer(**config), seed)


def autoencoder(seed=0):
    return tiny.randomize(CausalVideoAutoencoder(**VAE), seed)


def pipeline(scheduler=None, **changes):
    """32x32 pixels, latents of 4 channels at 4x4, clips of 5 latents: 17 frames."""
    scheduler = scheduler or DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe = OpenSoraPlanPipeline(tiny.tokenizer(), text_encoder(), autoencoder(), transformer(**changes), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def published_folder(folder: Path, version: str = "65x512x512", **changes) -> Path:
    """The parts of `pipeline` in published files, text encoder beside them; the folder of the version."""
    pipe = pipeline(**changes)
    for part, name, more, class_name in (
        (pipe.transformer, version, {"use_rope": False, "attention_mode": "xformers"}, "LatteT2V"),
        (pipe.vae, "vae", {"lr": 1e-5, "in_channels": 3, "loss_type": "opensora.Loss"}, "CausalVAEModel"),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        config = {k: v for k, v in part.config.items() if not k.startswith("_")} | more | {"_class_name": class_name}
        (folder / name / "config.json").write_text(json.dumps(config))
        extra = "loss.logvar" if name == "vae" else "caption_projection.y_embedding"
        tensors = {k: v.contiguous() for k, v in part.state_dict().items()} | {extra: torch.zeros(1)}
        save_file(tensors, folder / name / "diffusion_pytorch_model.safetensors")
    pipe.text_encoder.save_pretrained(folder / "text_encoder")
    pipe.tokenizer.save_pretrained(folder / "text_encoder")
    return folder / version
