"""The model in one object: load it from a training folder or a pipeline folder, predict, make clips, decode."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from latents import CHANNELS
from model import alphas, make_unet, mixed_precision, predict, speed_up
from text import make_text_encoder, tokens
from transformers import CLIPTextModel, CLIPTokenizer


class Toybox:
    """U-Net, text encoder, tokenizer and autoencoder.

    `path` is a pipeline folder (it has a `model_index.json`), or a training folder with averaged weights (`ema.pt`)
    whose tokenizer and autoencoder come from `pipeline`.
    """

    def __init__(self, path: str | Path, pipeline: str | Path | None = None, device: str = "cpu", bf16: bool = True):
        path = Path(path)
        source = path if (path / "model_index.json").exists() else Path(pipeline or path)
        self.tokenizer = CLIPTokenizer.from_pretrained(source / "tokenizer")
        self.vae = AutoencoderKL.from_pretrained(source / "vae", dtype=torch.float32)
        if source == path:
            self.unet = UNet3DConditionModel.from_pretrained(path / "unet", dtype=torch.float32)
            self.text = CLIPTextModel.from_pretrained(path / "text_encoder", dtype=torch.float32)
        else:
            weights = torch.load(path / "ema.pt")
            self.unet, self.text = make_unet(), make_text_encoder(self.tokenizer)
            self.unet.load_state_dict(weights["unet"])
            self.text.load_state_dict(weights["text"])
        for module in (self.unet, self.text, self.vae):
            module.eval().requires_grad_(False).to(device)
        self.device, self.bf16 = device, bf16
        self.alphas = alphas().to(device)
        speed_up(self.unet)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (B, L, D)."""
        return self.text(tokens(self.tokenizer, prompts).to(self.device)).last_hidden_state

    @torch.no_grad()
    def velocity(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The network's output, v = sqrt(a) noise - sqrt(1-a) clean, for latents (B, C, F, 8, 8)."""
        with mixed_precision(self.device, self.bf16):
            return predict(self.unet, x, t, text).float()

    @torch.no_grad()
    def clips(self, prompts: Sequence[str], steps: int = 25, guidance: float = 2.5, frames: int = 16, seed: int = 0):
        """Clean latents (B, C, F, 8, 8) by DDIM with eta 0."""
        generator, n = torch.Generator().manual_seed(seed), len(prompts)
        x = torch.randn(n, CHANNELS, frames, 8, 8, generator=generator).to(self.device)
        text = torch.cat([self.embed([""]).expand(n, -1, -1), self.embed(prompts)])
        levels = [round(k * 1000 / steps) - 1 for k in range(steps, 0, -1)]
        for t, target in zip(levels, [*levels[1:], None], strict=True):
            level = torch.full((2 * n,), t, device=self.device)
            null, said = self.velocity(torch.cat([x, x]), level, text).chunk(2)
            v, a = null + guidance * (said - null), self.alphas[t]
            noise, clean = a.sqrt() * v + (1 - a).sqrt() * x, a.sqrt() * x - (1 - a).sqrt() * v
            b = self.alphas[target] if target is not None else torch.ones(())
            x = b.sqrt() * clean + (1 - b).sqrt() * noise
        return x

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, chunk: int = 64) -> np.ndarray:
        """Latents (B, C, F, 8, 8) -> uint8 frames (B, F, 64, 64, 3)."""
        b, c, f, h, w = latents.shape
        flat = latents.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w)
        with mixed_precision(self.device, self.bf16):
            pixels = torch.cat([self.vae.decode(part).sample.float() for part in flat.split(chunk)])
        pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pixels.reshape(b, f, *pixels.shape[1:])
