"""Train the autoencoder: its decoder on (PCA latents + slight noise -> pixels), its encoder on (pixels -> latents).

    python training/decoder.py --out work/vae --minutes 20               # decoder
    python training/decoder.py --out work/vae --minutes 3 --encoder      # encoder, so that encode() is honest

Resumes --out when it exists; `decoder.csv` beside the weights has the held-out decibels.
"""

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from latents import Basis, encode, load
from model import make_vae, mixed_precision

from fifo_diffusion.toybox.world import PERIOD, draw_labels, render


def batch(
    rng: np.random.Generator, count: int, basis: Basis, device: str, held: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (B, 3, 64, 64) in [-1, 1] and latents (B, 8, 8, 8)."""
    frames = np.concatenate([render(draw_labels(rng, held=held), int(rng.integers(PERIOD)), 1) for _ in range(count)])
    latents = torch.from_numpy(encode(frames, basis)).permute(0, 3, 1, 2).contiguous()
    pixels = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    return pixels.to(device), latents.to(device)


def decoder_loss(vae: AutoencoderKL, pixels: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Absolute and squared error, and the error of the differences between neighbours, for sharp edges."""
    noisy = latents + 0.1 * torch.randn_like(latents) * torch.rand(len(latents), 1, 1, 1, device=latents.device)
    with mixed_precision(latents.device.type):
        output = vae.decode(noisy).sample
    error = output.float() - pixels
    square = error.pow(2).mean()
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + square + 0.5 * edges, square.item()


def encoder_loss(vae: AutoencoderKL, pixels: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Squared error of the mean, and a small fixed spread (sd 0.011)."""
    with mixed_precision(latents.device.type):
        moments = vae.quant_conv(vae.encoder(pixels)).float()
    mean, log_variance = moments.chunk(2, 1)
    square = (mean - latents).pow(2).mean()
    return square + 0.01 * (log_variance + 9).pow(2).mean(), square.item()


@torch.no_grad()
def held_out_quality(vae: AutoencoderKL, basis: Basis, encoder: bool, device: str, seed: int = 77) -> float:
    """Decibels of the decoder, or mean squared error of the encoder, on held-out combinations."""
    pixels, latents = batch(np.random.default_rng(seed), 128, basis, device, held=True)
    if encoder:
        return (vae.encode(pixels).latent_dist.mean - latents).pow(2).mean().item()
    error = vae.decode(latents).sample.clamp(-1, 1) - pixels
    return 10 * math.log10(4 / error.pow(2).mean().item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="work/vae")
    add("--init", help="autoencoder folder to start from when --out does not exist")
    add("--latents", default="training/latents.npz")
    add("--minutes", type=float, default=10)
    add("--encoder", action="store_true")
    add("--batch", type=int, default=8)
    add("--rate", type=float, default=1.5e-3)
    add("--decay", type=float, default=0.6, help="last share of the time, with a falling rate")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    basis, out = load(args.latents), Path(args.out)
    source = out if (out / "config.json").exists() else args.init
    vae = AutoencoderKL.from_pretrained(source, dtype=torch.float32) if source else make_vae()
    vae.to(args.device)
    log = out / "decoder.csv"
    done_before = sum(1 for _ in log.open()) if log.exists() else 0
    torch.manual_seed(args.seed + done_before)
    rng = np.random.default_rng([args.seed, done_before])
    parts = (vae.encoder, vae.quant_conv) if args.encoder else (vae.decoder, vae.post_quant_conv)
    parameters = [p for part in parts for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.rate, weight_decay=1e-4, betas=(0.9, 0.98))
    averaged = [p.detach().clone() for p in parameters]

    def exchange() -> None:
        for p, q in zip(parameters, averaged, strict=True):
            p.data, q.data = q.data, p.data

    def save(step: int) -> None:
        exchange()
        vae.save_pretrained(out)
        quality = held_out_quality(vae, basis, args.encoder, args.device)
        exchange()
        part, seconds = "encoder" if args.encoder else "decoder", time.time() - start
        with log.open("a", newline="") as file:
            csv.writer(file).writerow([part, step, round(seconds), round(time.process_time()), round(quality, 5)])
        print(f"{part}: step {step}, {seconds:.0f} s, held out {quality:.4f}", flush=True)

    start = saved = time.time()
    step, loss_of = 0, encoder_loss if args.encoder else decoder_loss
    save(step)
    while (done := (time.time() - start) / (60 * args.minutes)) < 1:
        fall = max(0.0, (done - 1 + args.decay) / args.decay)
        rate = args.rate * min(1, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * fall)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, _ = loss_of(vae, *batch(rng, args.batch, basis, args.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(averaged, parameters, 1 - min(0.998, step / (10 + step)))
        if time.time() - saved > 180:
            saved = time.time()
            save(step)
    save(step)


if __name__ == "__main__":
    main()
