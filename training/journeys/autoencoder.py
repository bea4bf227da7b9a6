"""Train the autoencoder: its decoder on (linear latents + slight noise -> pixels), its encoder on (pixels -> latents).

    python -m journeys.autoencoder --latents work/latents.npz --out work/vae --minutes 60
    python -m journeys.autoencoder --latents work/latents.npz --out work/vae --minutes 8 --encoder

Stop it at any time and start it again: weights, optimizer and clock are in --out. `decoder.csv` or `encoder.csv` there
has processor seconds, frames, loss and the quality on held-out journeys; `frames.png` shows some (below: rendered).
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from journeys.latents import draw_frames, load
from journeys.networks import make_vae


def decoder_loss(vae, pixels: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error, and the error of the differences between neighbours, for sharp edges."""
    noisy = latents + 0.1 * torch.randn_like(latents) * torch.rand(len(latents), 1, 1, 1, device=latents.device)
    error = vae.decode(noisy).sample.float() - pixels
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + error.pow(2).mean() + 0.5 * edges


def encoder_loss(vae, pixels: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Squared error of the mean, and a small fixed spread (standard deviation 0.011)."""
    mean, log_variance = vae.quant_conv(vae.encoder(pixels)).float().chunk(2, 1)
    return (mean - latents).pow(2).mean() + 0.01 * (log_variance + 9).pow(2).mean()


class Autoencoder:
    """The network, one half of which is trained, its averaged weights, and its clock."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.out, self.device = args, Path(args.out), args.device
        self.out.mkdir(parents=True, exist_ok=True)
        self.latents = load(args.latents)
        torch.manual_seed(args.seed)
        self.vae = make_vae(self.latents)
        part = "encoder" if args.encoder else "decoder"
        self.log, self.file = self.out / f"{part}.csv", self.out / f"{part}.pt"
        weights, state = self.out / "ema.pt", None
        if weights.exists():
            self.vae.load_state_dict(torch.load(weights))
        if self.file.exists():
            state = torch.load(self.file)
            self.vae.load_state_dict(state["vae"])
        self.vae.to(self.device)
        halves = (
            (self.vae.encoder, self.vae.quant_conv) if args.encoder else (self.vae.decoder, self.vae.post_quant_conv)
        )
        self.parameters = [p for half in halves for p in half.parameters()]
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, args.rate, weight_decay=1e-4, betas=(0.9, 0.98))
        self.step, self.elapsed, self.cpu = 0, 0.0, 0.0
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.averaged = [a.to(self.device) for a in state["averaged"]]
            self.step, self.elapsed, self.cpu = state["step"], state["elapsed"], state["cpu"]
        self.rng = np.random.default_rng([args.seed, self.step])
        torch.manual_seed(args.seed + self.step)
        self.held = self._tensors(draw_frames(np.random.default_rng(77), 48, self.latents.size, True))

    def _tensors(self, frames: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(frames.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        pixels = pixels.contiguous(memory_format=torch.channels_last).to(self.device)
        return pixels, torch.from_numpy(self.latents.encode(frames)).to(self.device)

    def train_step(self) -> float:
        done, decay = self.elapsed / (60 * self.args.minutes), self.args.decay
        fall = max(0.0, (done - 1 + decay) / decay)
        rate = self.args.rate * min(1, (self.step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1, fall))))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self._tensors(draw_frames(self.rng, self.args.batch, self.latents.size, False))
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
            loss = (encoder_loss if self.args.encoder else decoder_loss)(self.vae, *batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.parameters, 1 - min(0.998, self.step / (10 + self.step)))
        return loss.item()

    def exchange(self) -> None:
        """Exchange the weights and their running average."""
        for p, q in zip(self.parameters, self.averaged, strict=True):
            p.data, q.data = q.data, p.data

    @torch.no_grad()
    def save(self, loss: float) -> None:
        """Write the averaged weights (also as a diffusers folder), the state, the quality on held-out journeys."""
        pixels, latents = self.held
        self.exchange()
        if self.args.encoder:
            quality = (self.vae.encode(pixels).latent_dist.mean - latents).pow(2).mean().item()
        else:
            shown = torch.cat([self.vae.decode(part).sample for part in latents.split(8)]).clamp(-1, 1)
            quality = 10 * math.log10(4 / (shown - pixels).pow(2).mean().item())
            both = torch.cat([torch.cat(list(x[:8]), 2) for x in (shown, pixels)], 1)
            image = ((both + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
            Image.fromarray(image).save(self.out / "frames.png")
        torch.save({k: v.cpu().contiguous() for k, v in self.vae.state_dict().items()}, self.out / "ema.tmp")
        self.vae.save_pretrained(self.out / "folder")
        self.exchange()
        state = {"vae": self.vae.state_dict(), "averaged": self.averaged, "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "elapsed": self.elapsed, "cpu": self.cpu}  # fmt: skip
        torch.save(state, self.file.with_suffix(".tmp"))
        (self.out / "ema.tmp").replace(self.out / "ema.pt")
        self.file.with_suffix(".tmp").replace(self.file)
        row = {"step": self.step, "frames": self.step * self.args.batch, "seconds": round(self.elapsed),
               "cpu": round(self.cpu), "loss": round(loss, 5), "quality": round(quality, 4)}  # fmt: skip
        new = not self.log.exists()
        with self.log.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--latents", default="work/latents.npz")
    add("--out", default="work/vae")
    add("--minutes", type=float, default=60, help="length of the training, pauses between runs not counted")
    add("--encoder", action="store_true", help="train the encoder, not the decoder")
    add("--batch", type=int, default=8)
    add("--rate", type=float, default=1.5e-3)
    add("--decay", type=float, default=0.6, help="last share of the time, with a falling rate")
    add("--save-every", type=float, default=120, help="seconds")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    training = Autoencoder(args)
    last, used, losses = time.time(), time.process_time(), []
    saved = last
    while training.elapsed < 60 * args.minutes:
        losses.append(training.train_step())
        now, cpu = time.time(), time.process_time()
        training.elapsed, training.cpu = training.elapsed + now - last, training.cpu + cpu - used
        last, used = now, cpu
        if now - saved > args.save_every:
            training.save(float(np.mean(losses)))
            saved, losses = now, []
    training.save(float(np.mean(losses)) if losses else float("nan"))


if __name__ == "__main__":
    main()
