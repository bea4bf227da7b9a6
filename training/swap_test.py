"""Does the model use the words of direction?

    python training/swap_test.py --model work/base

The loss on held-out clips with the right caption, against the same caption with left and right (up and down)
exchanged. A model that ignores the words scores 0 %; this moves long before a clip looks right.
"""

import argparse
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from latents import Basis, encode, load
from toybox import Toybox
from world import FAMILIES, make_clip

LEVELS = (500, 650, 800, 900)
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "upwards": "downwards",
            "downwards": "upwards"}  # fmt: skip


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
    ) -> dict[int, dict[str, tuple[float, float]]]:
        """Per level and family: the loss with the right caption, and what the exchange adds to it in per cent."""
        said, swapped = embed(self.captions), embed([exchange(c) for c in self.captions])
        x, size, result = self.latents.to(said.device), len(self.captions) // len(self.families), {}
        for level, noise in zip(LEVELS, self.noise, strict=True):
            a, noise = alphas[level], noise.to(said.device)
            noisy, target = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
            losses = []
            for text in (said, swapped):
                t = torch.full((size,), level, device=said.device)
                parts = [velocity(n, t, c) for n, c in zip(noisy.split(size), text.split(size), strict=True)]
                losses.append((torch.cat(parts) - target).pow(2).mean((1, 2, 3, 4)).view(-1, size).mean(1))
            right, wrong = losses
            result[level] = {
                family: (right[i].item(), 100 * (wrong[i] / right[i] - 1).item())
                for i, family in enumerate(self.families)
            }
        return result


def report(result: dict[int, dict[str, tuple[float, float]]]) -> str:
    """One line per level."""
    return "\n".join(
        f"  t={level}: " + ", ".join(f"{name} {loss:.4f} {cost:+.1f} %" for name, (loss, cost) in row.items())
        for level, row in result.items()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="src/fifo_diffusion/toybox/pipeline")
    parser.add_argument("--pipeline", default="src/fifo_diffusion/toybox/pipeline")
    parser.add_argument("--latents", default="training/latents.npz")
    parser.add_argument("--clips", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    toybox = Toybox(args.model, args.pipeline)
    print(report(SwapTest(load(args.latents), args.clips)(toybox.velocity, toybox.embed, toybox.alphas)))
