"""What of a frame's prediction stays nearly the same while the frame goes down some levels: what should a cache hold?

    python benchmarks/cache_change.py                  # two minutes; writes docs/results/cache_change.json
    python benchmarks/cache_change.py --models toybox-diagonal --partitions 2 --iterations 8 --name other

A queue runs on without any cache. At each slot the noise that is predicted there is held against the one that something
older of the same frame would say, `age` iterations (and as many levels) ago:

    clean          the predicted clean latent, which leaves the noise as x - alpha x0
    noise          the predicted noise
    prediction     what the model puts out (v for toybox), as it was
    residual       what the model puts out, less the latent that it saw
    extrapolated   the clean latent, and on by its change over `age` levels before

The error is relative: mean squares of the difference over those of the predicted noise; for clean latents, over those
of the predicted clean latent. By fifths of the levels, noisiest last. With eta = 0 clean and noise are the same thing,
since a frame then moves on the line between them.
"""

import argparse
from collections import defaultdict
from typing import Any

import torch
from common import write
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.method import NoiseLevels, Queue, QueueLayout, SeededNoise, diagonal_denoising, sample_clip

PROMPT = "a red robot walking to the right in the hills on a sunny day"
FIFTHS = 5


class Seen:
    """What was predicted of a frame, newest first."""

    def __init__(self, levels: NoiseLevels) -> None:
        self.levels = levels
        self.of: dict[int, dict[int, tuple[Tensor, Tensor, Tensor, Tensor]]] = defaultdict(dict)
        self.sums: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])

    def note(self, frame: int, level: int, x: Tensor, y: Tensor, ages: range) -> None:
        """x, y: latent and prediction (B, C, 1, H, W)."""
        at = torch.tensor([[level]])
        clean, noise = self.levels.split(x, y, at)
        alpha, sigma = (v[level].float() for v in (self.levels.alpha, self.levels.sigma))
        for age in ages:
            if level + age not in self.of[frame]:
                continue
            old_x, old_y, old_clean, old_noise = self.of[frame][level + age]
            guesses = {
                "clean": (old_clean, (x - alpha * old_clean) / sigma),
                "noise": ((x - sigma * old_noise) / alpha, old_noise),
                "prediction": self.levels.split(x, old_y, at),
                "residual": self.levels.split(x, old_y + x - old_x, at),
            }
            if level + 2 * age in self.of[frame]:
                further = 2 * old_clean - self.of[frame][level + 2 * age][2]
                guesses["extrapolated"] = further, (x - alpha * further) / sigma
            for name, (guess, its_noise) in guesses.items():
                sums = self.sums[name, age, level * FIFTHS // len(self.levels)]
                for k, value in enumerate((its_noise - noise, noise, guess - clean, clean)):
                    sums[k] += float(value.pow(2).mean())
        self.of[frame] = {j: v for j, v in self.of[frame].items() if j <= level + 2 * ages.stop}
        self.of[frame][level] = x, y, clean, noise

    def rows(self) -> list[dict[str, Any]]:
        found = [
            {
                "kept": name,
                "age": age,
                "fifth": fifth,
                "noise_error": round(sums[0] / sums[1], 6),
                "clean_error": round(sums[2] / sums[3], 6),
            }
            for (name, age, fifth), sums in self.sums.items()
        ]
        return sorted(found, key=lambda row: (row["kept"], row["age"], row["fifth"]))


@torch.no_grad()
def changes(model: Any, layout: QueueLayout, eta: float, guidance: float, iterations: int) -> list[dict[str, Any]]:
    """Of the frames of a queue that has become full, over some iterations."""
    size = model.defaults["height"], model.defaults["width"]
    condition = model.condition([PROMPT], guidance_scale=guidance, height=size[0], width=size[1])
    levels, shape = model.levels(layout.levels, eta=eta), model.latent_shape(*size)
    noise, seen = SeededNoise([0], shape, layout.levels), Seen(levels)
    like = torch.zeros(1, shape[0], layout.frames, *shape[1:])

    def predict(latents: Tensor, timestep: Tensor, frames: Any) -> Tensor:
        return model.predict(latents, timestep, condition)

    *_, known = sample_clip(levels, predict, noise, range(layout.frames), like)
    queue = Queue.from_known(layout, noise, known, layout.frames, **levels.entering)
    written = {window.reads: window.writes for window in layout.windows}

    def watched(latents: Tensor, timestep: Tensor, frames: Any) -> Tensor:
        output, padded, window = predict(latents, timestep, frames), queue.frames(layout), list(frames[0])
        first = window[0] - padded[0]
        reads = next(r for r in written if r.start == first)
        for slot in written[reads]:
            if padded[slot] >= layout.frames:
                k = slot - first
                seen.note(
                    padded[slot], layout.slot_levels[slot], latents[:, :, k : k + 1], output[:, :, k : k + 1], AGES
                )
        return output

    loop = diagonal_denoising(queue, layout, levels, watched, noise)
    for _ in range(layout.slots + iterations):
        next(loop)
    return seen.rows()


AGES = range(1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["toybox", "toybox-diagonal"])
    parser.add_argument("--partitions", type=int, nargs="+", default=[2])
    parser.add_argument("--etas", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--iterations", type=int, default=16, help="after the queue is full")
    parser.add_argument("--name", default="cache_change")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name in given.models:
        fifo = FIFO.from_pretrained(name, device="cpu")
        for n in given.partitions:
            for eta in given.etas:
                layout = QueueLayout(fifo.model.frames, n, True)
                rows = changes(fifo.model, layout, eta, given.guidance, given.iterations)
                found.append({"model": name, "partitions": n, "eta": eta, "rows": rows})
                print(name, f"n = {n}, eta = {eta:g}: relative error of the noise by fifths, noisiest last", flush=True)
                for kept in dict.fromkeys(row["kept"] for row in rows):
                    for age in AGES:
                        curve = [r["noise_error"] for r in rows if (r["kept"], r["age"]) == (kept, age)]
                        print(f"   {kept:13} age {age}", *[f"{value:10.2g}" for value in curve], flush=True)
    facts = {"prompt": PROMPT, "guidance_scale": given.guidance, "iterations": given.iterations}
    write(given.name, facts | {"settings": found})


if __name__ == "__main__":
    main()
