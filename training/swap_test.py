"""Does the model use the words of direction, and does it know which way time runs?

    python training/swap_test.py --model work/base

Two early indicators, from the loss on held-out clips at several noise levels:

* swap: the same clip with left and right (up and down) exchanged in its caption. Also what a still shows of the
  direction (an eye, the sun's side) counts here.
* reversal: the same caption with the frames in reverse order. Every single frame stays as it was, so only the
  direction of the motion counts.

A model that ignores the direction scores 0 %; both move long before a clip looks right.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from latents import Basis, encode, load
from toybox import Toybox

from fifo_diffusion.toybox.world import FAMILIES, make_clip

LEVELS = (500, 650, 800, 900)
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "upwards": "downwards",
            "downwards": "upwards"}  # fmt: skip
Row = dict[str, tuple[float, float, float]]


def exchange(caption: str) -> str:
    """The caption with every direction turned round."""
    return re.sub(r"\b(" + "|".join(OPPOSITE) + r")\b", lambda match: OPPOSITE[match.group()], caption)


class SwapTest:
    """A fixed set of held-out clips and noises."""

    def __init__(self, basis: Basis, clips: int = 8, families: Sequence[str] = FAMILIES, seed: int = 31):
        rng, self.families = np.random.default_rng(seed), tuple(families)
        drawn = [make_clip(rng, family=family, held=True) for family in self.families for _ in range(clips)]
        self.captions = [caption for _, caption, _ in drawn]
        latents = np.stack([encode(frames, basis) for frames, _, _ in drawn])
        self.latents = torch.from_numpy(latents).permute(0, 4, 1, 2, 3).contiguous()
        generator = torch.Generator().manual_seed(seed)
        self.noise = [torch.randn(self.latents.shape, generator=generator) for _ in LEVELS]

    @torch.no_grad()
    def __call__(
        self,
        velocity: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        embed: Callable[[Sequence[str]], torch.Tensor],
        alphas: torch.Tensor,
    ) -> dict[int, Row]:
        """Per level and family: the loss, and what the swap and the reversal add to it in per cent."""
        said, swapped = embed(self.captions), embed([exchange(c) for c in self.captions])
        x, size, result = self.latents.to(said.device), len(self.captions) // len(self.families), {}
        for level, noise in zip(LEVELS, self.noise, strict=True):
            a, noise = alphas[level], noise.to(said.device)
            losses = []
            for clean, text in ((x, said), (x, swapped), (x.flip(2), said)):
                noisy, target = a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean
                t = torch.full((size,), level, device=said.device)
                parts = [velocity(n, t, c) for n, c in zip(noisy.split(size), text.split(size), strict=True)]
                losses.append((torch.cat(parts) - target).pow(2).mean((1, 2, 3, 4)).view(-1, size).mean(1))
            right, swap, reverse = losses
            cost = 100 * (torch.stack([swap, reverse]) / right - 1)
            values = torch.cat([right[None], cost]).T.tolist()
            result[level] = {family: tuple(row) for family, row in zip(self.families, values, strict=True)}
        return result


def report(result: dict[int, Row]) -> str:
    """One line per level."""
    lines = []
    for level, row in result.items():
        cells = [f"{name} {loss:.4f} {swap:+.0f} % {reverse:+.1f} %" for name, (loss, swap, reverse) in row.items()]
        lines.append(f"  t={level}: " + ", ".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="src/fifo_diffusion/toybox/pipeline")
    parser.add_argument("--pipeline", default="src/fifo_diffusion/toybox/pipeline")
    parser.add_argument("--latents", default="training/latents.npz")
    parser.add_argument("--clips", type=int, default=24, help="per family")
    parser.add_argument("--json", default="docs/results/toybox_swap.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    toybox = Toybox(args.model, args.pipeline)
    print("loss, cost of the swapped caption, cost of reversed frames")
    measured = SwapTest(load(args.latents), args.clips)(toybox.velocity, toybox.embed, toybox.alphas)
    print(report(measured))
    names = ("loss", "swap_percent", "reversal_percent")
    rows = [
        {"level": level, "family": family} | {n: round(v, 4) for n, v in zip(names, values, strict=True)}
        for level, row in measured.items()
        for family, values in row.items()
    ]
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    Path(args.json).write_text(json.dumps({"clips_per_family": args.clips, "rows": rows}, indent=1) + "\n")
