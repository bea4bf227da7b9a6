"""Train the U-Net and the text encoder; the clips are rendered on the fly. Stop it at any time, start it again.

    python training/train.py --out work/base --init PIPELINE --minutes 100             # clips
    python training/train.py --out work/base --stage images --minutes 15               # from nothing: images first
    python training/train.py --out work/diagonal --init work/base --diagonal 0.75 --keep-text --minutes 35

On a CPU run with OMP_NUM_THREADS=1 and one process per core. Beside the weights (`state.pt`, `ema.pt`) it writes
`loss.csv`, `swap.csv`, `loss.png` and contact sheets into --out.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet3DConditionModel
from latents import encode, load
from model import alphas, images_only, make_unet, mixed_precision, predict, speed_up
from sheets import save_sheet
from swap_test import SwapTest, report
from text import make_text_encoder, tokens
from toybox import Toybox
from transformers import CLIPTextModel, CLIPTokenizer

from fifo_diffusion.toybox.world import FAMILIES, FRAMES, PERIOD, WEIGHTS, caption, draw_labels, render

PIPELINE = "src/fifo_diffusion/toybox/pipeline"
SHEET_PROMPTS = (
    "a red ball moving left on a black background", "a yellow square moving up on a navy background",
    "a green triangle moving right on a white background", "a purple ball moving down on a beige background",
    "hills scrolling to the left on a sunny day", "city scrolling to the right at night",
    "a red robot walking to the right in the hills on a sunny day",
    "a blue robot walking to the left in the desert at sunset")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="work/base")
    add("--init", help="pipeline folder or training folder to start from, with a fresh optimizer")
    add("--pipeline", default=PIPELINE, help="where tokenizer and autoencoder (for the sheets) are")
    add("--latents", default="training/latents.npz")
    add("--stage", choices=("clips", "images"), default="clips")
    add("--minutes", type=float, default=10, help="length of the whole stage, pauses between runs not counted")
    add("--decay", type=float, default=0.4, help="last share of the time, with a falling rate (cosine)")
    add("--batch", type=int, default=8, help="clips per step (images: 16 times as many)")
    add("--mix", type=int, default=0, help="in the stage of clips, every so many steps is one of images")
    add("--rate", type=float, default=1e-3)
    add("--fast", type=float, default=1.0, help="factor on the rate of temporal layers and text path")
    add("--warmup", type=int, default=60)
    add("--ema", type=float, default=0.998)
    add("--middle", type=float, default=0.75, help="share of clips with a level where motion is decided")
    add("--middle-levels", type=int, nargs=2, default=(500, 900), help="from, to")
    add("--diagonal", type=float, default=0.0, help="share of clips with a noise level that rises along the frames")
    add("--keep-text", action="store_true", help="train the U-Net alone: models that share the text encoder")
    add("--families", nargs="*", default=list(FAMILIES))
    add("--image-families", nargs="*", default=list(FAMILIES))
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--compile", action="store_true", help="compile blocks: a third faster after two minutes")
    add("--save-every", type=float, default=120, help="seconds")
    add("--swap-every", type=float, default=240, help="seconds between swap tests, 0: never")
    add("--sheet-every", type=float, default=900, help="seconds between contact sheets, 0: never")
    return parser.parse_args()


def diagonal_levels(count: int, frames: int) -> torch.Tensor:
    """Levels of windows of a queue (count, frames): rising with any slope, some with an almost clean first half."""
    span = 1000 / 2 ** (torch.rand(count) * 3)
    first = torch.rand(count) * (1000 - 0.9 * span) - 0.05 * span
    rising = first[:, None] + span[:, None] * (torch.arange(frames) + torch.rand(count, 1)) / frames
    clean = (torch.rand(count) < 0.15)[:, None] & (torch.arange(frames) < frames // 2)[None]
    return torch.where(clean, torch.randint(0, 30, (count, 1)), rising.clamp(0, 999).long())


class Training:
    """Networks, optimizer, averaged weights and the logs of one stage."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.out, self.device = args, Path(args.out), args.device
        self.out.mkdir(parents=True, exist_ok=True)
        self.basis, self.alphas = load(args.latents), alphas().to(args.device)
        self.tokenizer = CLIPTokenizer.from_pretrained(Path(args.pipeline) / "tokenizer")
        self.null = tokens(self.tokenizer, [""])[0]
        self.unet, self.text = make_unet(), make_text_encoder(self.tokenizer)
        state = self._load()
        for module in (self.unet, self.text):
            module.eval().to(
                self.device
            )  # evaluation mode: the temporal layers have a dropout that costs more than it gives
        speed_up(self.unet, args.compile)
        self.text.requires_grad_(not args.keep_text)
        self.parameters = [p for m in (self.unet, self.text) for p in m.parameters() if p.requires_grad]
        self.averaged = [p.detach().clone() for p in self.parameters]
        fast = [p for n, p in self.unet.named_parameters() if "temp_" in n or "transformer_in" in n or "attn2" in n]
        fast += [p for p in self.text.parameters() if p.requires_grad]
        known = {id(p) for p in fast}
        slow = [p for p in self.parameters if id(p) not in known]
        groups = [{"params": slow, "factor": 1.0}, {"params": fast, "factor": args.fast}]
        self.optimizer = torch.optim.AdamW(groups, args.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.step, self.elapsed, self.clips, self.images = 0, 0.0, 0, 0
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.averaged = [a.to(self.device) for a in state["averaged"]]
            self.step, self.elapsed = state["step"], state["elapsed"]
            self.clips, self.images = state["clips"], state["images"]
        torch.manual_seed(args.seed + self.step)
        self.rng = np.random.default_rng([args.seed, self.step])
        self.videos: dict[tuple, np.ndarray] = {}

    def _load(self) -> dict | None:
        own, source = self.out / "state.pt", self.args.init
        if own.exists() or (source and (Path(source) / "state.pt").exists()):
            state = torch.load(own if own.exists() else Path(source) / "ema.pt", map_location="cpu")
            self.unet.load_state_dict(state["unet"])
            self.text.load_state_dict(state["text"])
            return state if own.exists() else None
        if source:
            unet = UNet3DConditionModel.from_pretrained(f"{source}/unet", dtype=torch.float32)
            self.unet.load_state_dict(unet.state_dict())
            text = CLIPTextModel.from_pretrained(f"{source}/text_encoder", dtype=torch.float32)
            self.text.load_state_dict(text.state_dict())
        return None

    def _average(self) -> None:
        """Exchange the weights and their running average."""
        for p, q in zip(self.parameters, self.averaged, strict=True):
            p.data, q.data = q.data, p.data

    def save(self) -> None:
        """Write the averaged weights, then everything that a continuation needs."""
        self._average()
        averaged = {n: {k: v.cpu().contiguous() for k, v in m.state_dict().items()} for n, m in self._modules()}
        torch.save(averaged, self.out / "ema.tmp")
        self._average()
        state = {n: m.state_dict() for n, m in self._modules()}
        state |= {"averaged": self.averaged, "optimizer": self.optimizer.state_dict()}
        state |= {"step": self.step, "elapsed": self.elapsed, "clips": self.clips, "images": self.images}
        torch.save(state, self.out / "state.tmp")
        for name in ("ema", "state"):  # a stop in the middle of writing leaves the last good files
            os.replace(self.out / f"{name}.tmp", self.out / f"{name}.pt")

    def _modules(self) -> tuple[tuple[str, torch.nn.Module], ...]:
        return ("unet", self.unet), ("text", self.text)

    def draw(self, count: int, frames: int) -> tuple[torch.Tensor, list[str]]:
        """Latents (B, C, F, 8, 8) and captions; each endless video is rendered once and kept as latents."""
        families = self.args.families if frames > 1 else self.args.image_families
        weights = np.array([WEIGHTS[f] for f in families])
        kinds = self.rng.choice(families, size=count, p=weights / weights.sum())
        clips, captions = [], []
        for kind in kinds:
            labels = draw_labels(self.rng, str(kind))
            key = tuple(labels.values())
            if key not in self.videos:
                self.videos[key] = encode(render(labels, 0, PERIOD), self.basis)
            start = self.rng.integers(PERIOD)
            clips.append(self.videos[key][(start + np.arange(frames)) % PERIOD])
            captions.append(caption(labels, self.rng))
        return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).to(self.device), captions

    def levels(self, count: int, frames: int) -> torch.Tensor:
        """Noise levels (B, F)."""
        level = torch.randint(0, 1000, (count, 1))
        if frames > 1:
            middle = torch.randint(*self.args.middle_levels, (count, 1))
            level = torch.where(torch.rand(count, 1) < self.args.middle, middle, level)
        level = level.expand(count, frames)
        diagonal = (torch.rand(count) < self.args.diagonal)[:, None]
        return torch.where(diagonal, diagonal_levels(count, frames), level).to(self.device)

    def rate(self) -> float:
        """Warm-up, constant, then a cosine down to 2 %."""
        done, decay = self.elapsed / (60 * self.args.minutes), self.args.decay
        fall = max(0.0, (done - 1 + decay) / decay) if decay else 0.0
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
        return self.args.rate * min(1.0, (self.step + 1) / self.args.warmup) * cosine

    def is_image_step(self) -> bool:
        mix = self.args.mix
        return self.args.stage == "images" or bool(mix and self.step % mix == mix - 1)

    def train_step(self) -> float:
        images = self.is_image_step()
        # as many images as a batch of clips has frames: the compiled blocks see the same shapes
        count, frames = (self.args.batch * FRAMES, 1) if images else (self.args.batch, FRAMES)
        x, captions = self.draw(count, frames)
        ids = tokens(self.tokenizer, captions)
        ids[torch.rand(count) < 0.12] = self.null  # for guidance
        t = self.levels(count, frames)
        a, noise = self.alphas[t][:, None, :, None, None], torch.randn_like(x)
        noisy, target = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        with mixed_precision(self.device):
            text = self.text(ids.to(self.device)).last_hidden_state
            if images:
                with images_only(self.unet):
                    output = predict(self.unet, noisy, t, text)
            else:
                output = predict(self.unet, noisy, t, text)
        loss = (output.float() - target).pow(2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step, self.clips = self.step + 1, self.clips + (0 if images else count)
        self.images += count if images else 0
        with torch.no_grad():
            share = 1 - min(self.args.ema, self.step / (10 + self.step))
            torch._foreach_lerp_(self.averaged, self.parameters, share)
        return loss.item()

    def swap(self, test: SwapTest) -> None:
        """The early indicator: does the model use the words of direction?"""

        def embed(captions):
            return self.text(tokens(self.tokenizer, captions).to(self.device)).last_hidden_state

        def velocity(x, t, text):
            with mixed_precision(self.device):
                return predict(self.unet, x, t, text).float()

        self._average()
        result = test(velocity, embed, self.alphas)
        self._average()
        print(f"swap test at step {self.step}\n{report(result)}", flush=True)
        for level, row in result.items():
            for family, (loss, swap, reverse) in row.items():
                self.log("swap.csv", step=self.step, level=level, family=family, loss=loss, swap=swap, reverse=reverse)

    def sheet(self) -> None:
        """Clips of the averaged weights."""
        self.save()
        toybox = Toybox(self.out, self.args.pipeline, self.device)
        save_sheet(toybox.decode(toybox.clips(SHEET_PROMPTS)), self.out / f"clips-{self.step:06d}.png")

    def log(self, name: str, **row) -> None:
        path = self.out / name
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()})


def plot(folder: Path) -> None:
    """`loss.png` from `loss.csv`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = np.genfromtxt(folder / "loss.csv", delimiter=",", names=True)
    figure, axis = plt.subplots(figsize=(6, 3.5))
    axis.plot(np.atleast_1d(rows["step"]), np.atleast_1d(rows["loss"]), lw=1)
    axis.set(xlabel="steps", ylabel="v-loss, mean of 30 s", yscale="log")
    figure.tight_layout()
    figure.savefig(folder / "loss.png", dpi=110)
    plt.close(figure)


def main() -> None:
    args = parse()
    if args.device == "cpu":
        torch.set_num_threads(1)
    training = Training(args)
    test = SwapTest(training.basis, families=args.families)
    last = time.time()
    logged = saved = swapped = sheeted = last
    losses: list[float] = []
    while training.elapsed < 60 * args.minutes:
        counts = args.stage == "images" or not training.is_image_step()
        loss = training.train_step()
        losses += [loss] if counts else []
        now = time.time()
        training.elapsed, last = training.elapsed + now - last, now
        if now - logged > 30:
            mean, rate = float(np.mean(losses)), training.optimizer.param_groups[0]["lr"]
            row = {
                "step": training.step,
                "clips": training.clips,
                "seconds": training.elapsed,
                "loss": mean,
                "rate": rate,
            }
            training.log("loss.csv", **row, cpu=time.process_time())
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
            logged, losses = now, []
        if args.swap_every and now - swapped > args.swap_every:
            training.swap(test)
            swapped = now
        if now - saved > args.save_every:
            training.save()
            saved = now
        if args.sheet_every and now - sheeted > args.sheet_every:
            training.sheet()
            plot(training.out)
            sheeted = now
    training.save()
    if args.swap_every:
        training.swap(test)
    training.sheet()
    plot(training.out)


if __name__ == "__main__":
    main()
