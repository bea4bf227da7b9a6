"""Tiny random Open-Sora Plan pipelines, and folders as they are published."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file
from torch import Tensor

from fifo_diffusion.models.opensora.pipeline import OpenSoraPlanPipeline
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder
from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_latte import TRANSFORMER, text_encoder

VAE = {"hidden_size": 32, "hidden_size_mult": (2, 2, 2, 1), "num_res_blocks": 1}


def transformer(seed: int = 0, **changes: Any) -> OpenSoraPlanTransformer:
    config = {**TRANSFORMER, "sample_size": (4, 4), "video_length": 5} | changes
    return tiny.randomize(OpenSoraPlanTransformer(**config), seed)


def autoencoder(seed: int = 0) -> CausalVideoAutoencoder:
    return tiny.randomize(CausalVideoAutoencoder(**VAE), seed)


def pipeline(scheduler: Any = None, **changes: Any) -> OpenSoraPlanPipeline:
    """32x32 pixels, latents of 4 channels at 4x4, clips of 5 latents: 17 frames."""
    scheduler = scheduler or DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe = OpenSoraPlanPipeline(tiny.tokenizer(), text_encoder(), autoencoder(), transformer(**changes), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def published_folder(folder: Path, version: str = "65x512x512", **changes: Any) -> Path:
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


def latents(count: int, channels: int = 4, size: int = 4, seed: int = 0) -> Tensor:
    """A clip that moves slowly, as clean latents do."""
    draws = torch.randn(1, channels, count + 8, size, size, generator=torch.Generator().manual_seed(seed))
    return torch.stack([draws[:, :, k : k + 8].mean(2) * 8**0.5 for k in range(count)], 2)


def roughness(video: Tensor, joins: Iterable[Iterable[int]]) -> list[float]:
    """The difference between neighbouring frames at joins (frames, each with the one before it) over that elsewhere,
    for each of the four places within a latent: they differ anyway."""
    steps = (video[1:] - video[:-1]).flatten(1).norm(dim=1)
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[[frame - 1 for join in joins for frame in join if frame <= len(steps)]] = True
    place = torch.arange(len(steps)) % 4
    of_places = [(steps[at & (place == k)], steps[~at & (place == k)]) for k in range(4)]
    return [float(joined.mean() / others.mean()) for joined, others in of_places if len(joined)]
