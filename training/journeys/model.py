"""The model in one object: networks from a training folder or a pipeline folder, velocities, clips, pixels.

Shapes: latents (B, C, F, H, W), levels (B, F) timesteps, text (B, L, D), frames uint8 (B, F, S, S, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from model import alphas, predict, speed_up
from transformers import CLIPTextModel, CLIPTokenizer

from journeys.networks import make_unet
from journeys.text import make_text_encoder, tokens


def move(x: torch.Tensor, v: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One DDIM step (eta 0) from alpha_bar a to b, given v = sqrt(a) noise - sqrt(1 - a) clean."""
    noise, clean = a.sqrt() * v + (1 - a).sqrt() * x, a.sqrt() * x - (1 - a).sqrt() * v
    return b.sqrt() * clean + (1 - b).sqrt() * noise


class Journeys:
    """U-Net, text encoder, tokenizer and autoencoder, for looking at what a training has reached.

    Args:
        path: a pipeline folder, or a training folder (`ema.pt`) with the other two arguments.
        tokenizer, vae: their folders.
    """

    def __init__(self, path: str | Path, tokenizer: str | None = None, vae: str | None = None, device: str = "cpu"):
        path = Path(path)
        folder = (path / "model_index.json").exists()
        self.tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer" if folder else tokenizer)
        self.vae = AutoencoderKL.from_pretrained(path / "vae" if folder else vae, dtype=torch.float32)
        if folder:
            self.unet = UNet3DConditionModel.from_pretrained(path / "unet", dtype=torch.float32)
            self.text = CLIPTextModel.from_pretrained(path / "text_encoder", dtype=torch.float32)
        else:
            weights = torch.load(path / "ema.pt")
            self.unet, self.text = make_unet(**weights["shape"]), make_text_encoder(self.tokenizer)
            self.unet.load_state_dict(weights["unet"])
            self.text.load_state_dict(weights["text"])
        for module in (self.unet, self.text, self.vae):
            module.eval().requires_grad_(False).to(device)
        speed_up(self.unet)
        self.device, self.alphas = device, alphas().to(device)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings."""
        return self.text(tokens(self.tokenizer, prompts).to(self.device)).last_hidden_state

    @torch.no_grad()
    def clips(self, prompts: Sequence[str], steps: int = 16, frames: int = 16, seed: int = 0, scale: float = 1.0):
        """Clean latents of clips by DDIM with eta 0; a guidance scale of 1 takes one pass per step."""
        generator, n, config = torch.Generator().manual_seed(seed), len(prompts), self.unet.config
        size = (n, config.in_channels, frames, config.sample_size, config.sample_size)
        x, text, null = (
            torch.randn(size, generator=generator).to(self.device),
            self.embed(prompts),
            self.embed([""] * n),
        )
        levels = [round(k * 1000 / steps) - 1 for k in range(steps, 0, -1)]
        for t, target in zip(levels, [*levels[1:], None], strict=True):
            level = torch.full((n, frames), t, device=self.device)
            v = predict(self.unet, x, level, text)
            if scale != 1:
                without = predict(self.unet, x, level, null)
                v = without + scale * (v - without)
            x = move(
                x, v, self.alphas[t], self.alphas[target] if target is not None else torch.ones_like(self.alphas[0])
            )
        return x

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, chunk: int = 16) -> np.ndarray:
        """Frames from latents."""
        b, c, f, h, w = latents.shape
        flat = latents.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w)
        pixels = torch.cat([self.vae.decode(part).sample for part in flat.split(chunk)])
        pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pixels.reshape(b, f, *pixels.shape[1:])
