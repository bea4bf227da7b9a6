"""Train the denoiser and the text encoder on journeys that are rendered on the fly. Stop and start it at any time.

    python -m journeys.train --out work/images --stage images --minutes 60
    python -m journeys.train --out work/base --init work/images --minutes 300
    python -m journeys.train --out work/few --init work/base --distill work/base --minutes 60

Clips have one noise level per frame: one for all, rising, or in the blocks of a queue with four levels (`levels.py`).
`--distill TEACHER` then teaches it to do in one step between two of the four levels what the teacher does in
`--substeps`, with guidance, so that the queue needs none.

Beside the weights (`state.pt`, `ema.pt`) --out gets `loss.csv` and contact sheets.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from model import alphas, images_only, predict, speed_up
from sheets import save_sheet
from transformers import CLIPTokenizer

from journeys.latents import load
from journeys.levels import GRID, blocks, draw
from journeys.model import Journeys, move
from journeys.networks import make_unet
from journeys.text import make_text_encoder, tokens
from journeys.words import caption, draw_labels
from journeys.world import FRAMES, PERIOD, render

SHEET_PROMPTS = (
    "a red car driving to the left through a snowy forest at night",
    "at night, a blue fish swims right across the coral sea",
    "a green dinosaur walks to the right through the meadow by day",
    "a yellow bus drives left through the city in the rain at sunset",
    "at dawn, a pink whale swims right across the sea",
    "a purple robot is walking through space to the left",
    "in the mountains, a red bird flies to the right on a cloudy day",
    "a blue cat walking left in the desert at noon",
)


class Training:
    """Networks, optimizer, averaged weights and the logs of one stage."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.out, self.device = args, Path(args.out), args.device
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        self.latents, self.alphas = load(args.latents), alphas().to(args.device)
        self.tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
        self.null = tokens(self.tokenizer, [""])[0]
        self.shape = {"grid": self.latents.grid, "channels": self.latents.channels, "widths": tuple(args.widths)}
        self.unet, self.text = make_unet(**self.shape), make_text_encoder(self.tokenizer)
        state = self._load()
        for module in (self.unet, self.text):
            module.eval().to(self.device)  # the temporal layers have a dropout that costs more than it gives
        speed_up(self.unet, args.compile)
        self.teacher = Journeys(args.distill, args.tokenizer, args.vae, self.device) if args.distill else None
        self.parameters = [p for m in (self.unet, self.text) for p in m.parameters()]
        self.averaged = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(self.parameters, args.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.step, self.elapsed, self.cpu, self.frames = 0, 0.0, 0.0, 0
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.averaged = [a.to(self.device) for a in state["averaged"]]
            self.step, self.elapsed, self.cpu = state["step"], state["elapsed"], state["cpu"]
            self.frames = state["frames"]
        torch.manual_seed(args.seed + self.step)
        self.rng = np.random.default_rng([args.seed, self.step])

    def _load(self) -> dict | None:
        own = self.out / "state.pt"
        if not own.exists() and not self.args.init:
            return None
        state = torch.load(own if own.exists() else Path(self.args.init) / "ema.pt", map_location="cpu")
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        return state if own.exists() else None

    def exchange(self) -> None:
        """Exchange the weights and their running average."""
        for p, q in zip(self.parameters, self.averaged, strict=True):
            p.data, q.data = q.data, p.data

    def save(self) -> None:
        """Write the averaged weights, then everything that a continuation needs; never half a file."""

        def weights() -> dict:
            return {"unet": self.unet.state_dict(), "text": self.text.state_dict()}

        self.exchange()
        torch.save({n: {k: v.cpu().contiguous() for k, v in w.items()} for n, w in weights().items()}
                   | {"shape": self.shape}, self.out / "ema.tmp")  # fmt: skip
        self.exchange()
        state = weights() | {"averaged": self.averaged, "optimizer": self.optimizer.state_dict(), "step": self.step,
                             "elapsed": self.elapsed, "cpu": self.cpu, "frames": self.frames}  # fmt: skip
        torch.save(state, self.out / "state.tmp")
        os.replace(self.out / "ema.tmp", self.out / "ema.pt")
        os.replace(self.out / "state.tmp", self.out / "state.pt")

    def draw(self, count: int, frames: int) -> tuple[torch.Tensor, list[str]]:
        """Latents (B, C, F, H, W) and captions."""
        clips, captions = [], []
        for _ in range(count):
            labels = draw_labels(self.rng)
            video = render(labels, int(self.rng.integers(PERIOD)), frames, self.latents.size)
            clips.append(self.latents.encode(video))
            captions.append(caption(labels, self.rng))
        return torch.from_numpy(np.stack(clips)).transpose(1, 2).contiguous().to(self.device), captions

    def rate(self) -> float:
        """Warm-up, constant, then a cosine down to 2 %."""
        done, decay = self.elapsed / (60 * self.args.minutes), self.args.decay
        fall = max(0.0, (done - 1 + decay) / decay) if decay else 0.0
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
        return self.args.rate * min(1.0, (self.step + 1) / self.args.warmup) * cosine

    def loss(self) -> torch.Tensor:
        """Of one step: the velocity of noisy frames, or, in distillation, of the teacher's way."""
        args = self.args
        images = args.stage == "images" or bool(args.mix and self.step % args.mix == args.mix - 1)
        count, frames = (args.batch * FRAMES // 2, 1) if images else (args.batch, FRAMES)
        x, captions = self.draw(count, frames)
        self.frames += count * frames
        ids, noise = tokens(self.tokenizer, captions), torch.randn_like(x)
        if not self.teacher:
            ids[torch.rand(count) < args.dropout] = self.null  # for the guidance of a teacher
        text = self.text(ids.to(self.device)).last_hidden_state
        if self.teacher and not images:
            level = blocks(count, frames, 0).to(self.device)
            a = self.alphas[level][:, None, :, None, None]
            noisy = a.sqrt() * x + (1 - a).sqrt() * noise
            target = self._taught(noisy, level, captions)
        else:
            shares = (0.0, 0.0) if images else (args.rising, args.blocks)
            level = draw(count, frames, *shares).to(self.device)
            a = self.alphas[level][:, None, :, None, None]
            noisy, target = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
        if images:
            with images_only(self.unet):
                output = predict(self.unet, noisy, level, text)
        else:
            output = predict(self.unet, noisy, level, text)
        return (output.float() - target).pow(2).mean()

    @torch.no_grad()
    def _taught(self, x: torch.Tensor, level: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """The velocity whose one step leads where the teacher's `substeps` guided steps lead, frame by frame."""
        teacher, count = self.teacher, self.args.substeps
        text, null = teacher.embed(captions), teacher.embed([""] * len(captions))
        grid = torch.tensor((-1, *GRID), device=self.device)
        below = grid[torch.searchsorted(grid, level) - 1].clamp(min=0)
        below = torch.where(level <= 0, level, below)  # clean frames stay
        start, begun = x, self.alphas[level][:, None, :, None, None]
        now = level
        for k in range(1, count + 1):
            then = level + (below - level) * k // count
            both = predict(teacher.unet, torch.cat([x, x]), torch.cat([now, now]), torch.cat([null, text]))
            without, said = both.float().chunk(2)
            v = without + self.args.scale * (said - without)
            a, b = (self.alphas[t][:, None, :, None, None] for t in (now, then))
            x, now = move(x, v, a, b), then
        a, b = begun, self.alphas[now][:, None, :, None, None]
        # x = p start + q v, the one step written out
        p, q = (b * a).sqrt() + ((1 - b) * (1 - a)).sqrt(), ((1 - b) * a).sqrt() - (b * (1 - a)).sqrt()
        still = now == level
        q = torch.where(still[:, None, :, None, None], torch.ones_like(q), q)
        clean = predict(teacher.unet, start, level, text).float()
        return torch.where(still[:, None, :, None, None], clean, (x - p * start) / q)

    def train_step(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.args.bf16):
            loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            share = 1 - min(self.args.ema, self.step / (10 + self.step))
            torch._foreach_lerp_(self.averaged, self.parameters, share)
        return loss.item()

    def sheet(self) -> None:
        """Clips of the averaged weights, every second frame; after the stage of images, single pictures."""
        self.save()
        shown = Journeys(self.out, self.args.tokenizer, self.args.vae, self.device)
        path = self.out / f"clips-{self.step:06d}.png"
        if self.args.stage == "images":
            with images_only(shown.unet):
                frames = shown.decode(shown.clips(SHEET_PROMPTS, frames=4))
            save_sheet(frames, path, 4)
        else:
            save_sheet([video[::2] for video in shown.decode(shown.clips(SHEET_PROMPTS))], path, FRAMES // 2)

    def log(self, **row: float) -> None:
        """A row of `loss.csv`."""
        path = self.out / "loss.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})
        print(row, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="work/base")
    add("--init", help="training folder to start from, with a fresh optimizer")
    add("--latents", default="work/latents.npz")
    add("--tokenizer", default="work/tokenizer")
    add("--vae", default="work/vae/folder", help="autoencoder, for the sheets")
    add("--stage", choices=("clips", "images"), default="clips")
    add("--widths", type=int, nargs="+", default=(64, 128), help="channels of the levels of the U-Net")
    add("--minutes", type=float, default=60, help="length of the whole stage, pauses between runs not counted")
    add("--decay", type=float, default=0.4, help="last share of the time, with a falling rate (cosine)")
    add("--batch", type=int, default=8, help="clips per step (images: eight times as many)")
    add("--mix", type=int, default=0, help="in the stage of clips, every so many steps is one of images")
    add("--rising", type=float, default=0.35, help="share of clips with rising levels")
    add("--blocks", type=float, default=0.4, help="share of clips with levels in blocks; the others have one level")
    add("--dropout", type=float, default=0.1, help="share of empty captions")
    add("--distill", help="training folder of a teacher")
    add("--substeps", type=int, default=4, help="steps of the teacher between two levels")
    add("--scale", type=float, default=2.5, help="guidance of the teacher")
    add("--rate", type=float, default=1e-3)
    add("--warmup", type=int, default=60)
    add("--ema", type=float, default=0.998)
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--bf16", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    add("--compile", action="store_true", help="compile blocks: a third faster after two minutes")
    add("--save-every", type=float, default=300, help="seconds")
    add("--sheet-every", type=float, default=1200, help="seconds, 0: at the end only")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.device == "cpu":
        torch.set_num_threads(1)
    training = Training(args)
    last, used = time.time(), time.process_time()
    logged = saved = sheeted = last
    losses: list[float] = []
    while training.elapsed < 60 * args.minutes:
        losses.append(training.train_step())
        now, cpu = time.time(), time.process_time()
        training.elapsed, training.cpu = training.elapsed + now - last, training.cpu + cpu - used
        last, used = now, cpu
        if now - logged > 60:
            training.log(step=training.step, frames=training.frames, seconds=training.elapsed, cpu=training.cpu,
                         loss=float(np.mean(losses)), rate=training.rate())  # fmt: skip
            logged, losses = now, []
        if now - saved > args.save_every:
            training.save()
            saved = now
        if args.sheet_every and now - sheeted > args.sheet_every:
            training.sheet()
            sheeted = now
    training.sheet()


if __name__ == "__main__":
    main()
