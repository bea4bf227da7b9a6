"""Train the small feature network of `fifo_diffusion.evaluation.feature_net` on the toybox world.

    python training/features.py --minutes 8

Writes src/fifo_diffusion/evaluation/features.safetensors (float16) and, beside the numbers that it prints,
docs/results/features.json: what it can tell about clips of held-out captions.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from fifo_diffusion.evaluation.feature_net import CLIP, FEATURES, FeatureNet, as_pixels
from fifo_diffusion.toybox.world import FACTORS, FAMILIES, PERIOD, WEIGHTS, Labels, held_out, render

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "src" / "fifo_diffusion" / "evaluation" / "features.safetensors"
RESULT = ROOT / "docs" / "results" / "features.json"
CLASSES = {"family": FAMILIES} | {name: tuple(v) for kind in ("robot", "shape") for name, v in FACTORS[kind].items()}
SPOILED = ("noise", "flicker", "blur", "shaking", "cut")
SPEEDS = (0.0, 0.5, 1.0, 1.0, 1.5, 2.0)
"""Of the world's own speed; 0 stands still, which also teaches that direction is seen in motion only."""


class Videos:
    """Every video of the world once, a whole period long: 64 frames of each combination of attributes.

    Args:
        held: only combinations that are kept for measurements, or only the others.
    """

    def __init__(self, held: bool) -> None:
        self._of: dict[str, list[tuple[np.ndarray, Labels]]] = {}
        for family, factors in FACTORS.items():
            drawn = [{"family": family} | dict(zip(factors, c, strict=True)) for c in product(*factors.values())]
            self._of[family] = [(render(a, 0, PERIOD), a) for a in drawn if held_out(a) == held]

    def draw(self, rng: np.random.Generator, speed: float = 1.0) -> tuple[np.ndarray, Labels]:
        """A clip from anywhere in a random video, float64, and its labels."""
        among = self._of[FAMILIES[rng.choice(len(FAMILIES), p=list(WEIGHTS.values()))]]
        frames, labels = among[rng.integers(len(among))]
        numbers = (rng.integers(PERIOD) + np.floor(speed * np.arange(CLIP)).astype(int)) % PERIOD
        return frames[numbers].astype(np.float64), labels


def spoil(rng: np.random.Generator, videos: Videos, frames: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Float frames (F, H, W, 3) with a defect, strength 0 to 1."""
    count = len(frames)
    if kind == "noise":
        return frames + rng.normal(0, 50 * strength, frames.shape)
    if kind == "flicker":
        return frames + rng.normal(0, 35 * strength, (count, 1, 1, 3))
    if kind == "blur":
        passes = round(6 * strength)
        for _ in range(passes):
            frames = (np.roll(frames, 1, 1) + frames + np.roll(frames, -1, 1)) / 3
            frames = (np.roll(frames, 1, 2) + frames + np.roll(frames, -1, 2)) / 3
        return frames
    if kind == "shaking":
        steps = np.round(rng.normal(0, 5 * strength, (count, 2))).astype(int)
        return np.stack([np.roll(frame, tuple(step), (0, 1)) for frame, step in zip(frames, steps, strict=True)])
    if strength > 0:  # a cut to another video
        place = int(rng.integers(2, count - 1))
        return np.concatenate([frames[:place], videos.draw(rng)[0][place:]])
    return frames


def draw(rng: np.random.Generator, videos: Videos) -> tuple[np.ndarray, dict[str, int], float, list[float]]:
    """A clip, its classes (-1 where it has none), its speed, and how strongly it is spoiled."""
    speed = float(rng.choice(SPEEDS))
    frames, labels = videos.draw(rng, speed)
    strengths = [float(rng.random()) if rng.random() < 0.3 else 0.0 for _ in SPOILED]
    strengths[-1] = float(strengths[-1] > 0)
    for kind, strength in zip(SPOILED, strengths, strict=True):
        if strength:
            frames = spoil(rng, videos, frames, kind, strength)
    classes = {name: options.index(labels[name]) if name in labels else -1 for name, options in CLASSES.items()}
    if speed == 0:
        classes["motion"] = -1
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8), classes, speed, strengths


def batch(rng: np.random.Generator, videos: Videos, size: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Pixels, classes, and speed with the strengths (B, 6)."""
    clips, classes, speeds, strengths = zip(*(draw(rng, videos) for _ in range(size)), strict=True)
    targets = torch.tensor([[s / 2, *more] for s, more in zip(speeds, strengths, strict=True)])
    return as_pixels(np.stack(clips)), {n: torch.tensor([c[n] for c in classes]) for n in CLASSES}, targets


class Trained(nn.Module):
    """The network with what its features are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = FeatureNet()
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, len(options)) for name, options in CLASSES.items()})
        self.strength = nn.Linear(FEATURES, 1 + len(SPOILED))

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        hidden = F.silu(self.net(pixels))
        return {name: head(hidden) for name, head in self.heads.items()}, self.strength(hidden)


def measured(model: Trained, clips: int = 400, seed: int = 1) -> dict[str, float]:
    """Accuracy on unspoiled and spoiled clips of held-out captions, and correlations of speed and strengths."""
    pixels, classes, targets = batch(np.random.default_rng(seed), Videos(held=True), clips)
    with torch.no_grad():
        logits, strengths = model(pixels)
    result = {}
    for name, target in classes.items():
        known = target >= 0
        result[name] = float((logits[name].argmax(1) == target)[known].float().mean())
    for k, name in enumerate(("speed", *SPOILED)):
        result[name] = float(torch.corrcoef(torch.stack([strengths[:, k], targets[:, k]]))[0, 1])
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="of processor time")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng, videos, model = np.random.default_rng(args.seed), Videos(held=False), Trained()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    began, step = time.process_time(), 0
    while (done := (time.process_time() - began) / (60 * args.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, 20 * (1 - done) / 10)  # falls in the second half
        pixels, classes, targets = batch(rng, videos, args.batch)
        logits, strengths = model(pixels)
        loss = 25 * F.mse_loss(strengths, targets)
        for name, target in classes.items():
            if bool((target >= 0).any()):
                loss = loss + F.cross_entropy(logits[name], target, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} loss {float(loss):.3f} {time.process_time() - began:.0f} s", flush=True)
    model.net.half().float()
    result = measured(model)
    weights = {name: value.half().contiguous() for name, value in model.net.state_dict().items()}
    save_file(weights, OUT, {"name": f"toybox-{FEATURES}", "steps": str(step), "seed": str(args.seed)})
    size = OUT.stat().st_size
    print(f"wrote {OUT}, {size} bytes")
    result = {"steps": step, "minutes": args.minutes, "batch": args.batch, "bytes": size, "held_out": result}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main()
