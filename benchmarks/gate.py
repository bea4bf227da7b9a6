"""Guidance in an interval of a frame's steps only: how much faster, and how far from guidance in all of them.

    python benchmarks/gate.py                     # minutes on two cores; writes docs/results/gate.json

For some intervals, in turns in one run, on a U-Net of VideoCrafter2's shape at an eighth of its width (24 million
random parameters), toybox, toybox-diagonal and a tiny random Wan:

    speed     CPU seconds of an iteration of a full queue with n = 4 and lookahead, decoding included, the sum over 12
              iterations; beside it the passes of windows by count
    errors    toybox models: mean square error of the noise after guidance, over that with guidance in all steps, on
              held-out known clips (`evaluation.relative_mse.moving_errors`), n = 4, and its standard error over clips.
              Guidance is not made for this measure, which is least without it: the last row says by how much
"""

import argparse
from typing import Any

import common
import torch
from cache import SETTINGS, TRAINED, iterations, load
from torch import Tensor
from toybox_relative_mse import draw_clips

from fifo_diffusion import FIFO
from fifo_diffusion.evaluation.relative_mse import RelativeError, frames_passed, moving_errors
from fifo_diffusion.method import QueueLayout
from fifo_diffusion.method.guidance import Guidance

INTERVALS = [(0.0, 1.0), (0.0, 0.75), (0.0, 0.5), (0.25, 1.0), (0.25, 0.75)]
SCALES = {"eighth": 7.5, "toybox": 2.5, "toybox-diagonal": 2.5, "wan": 5.0}


def speed(fifo: FIFO, settings: dict[str, Any], turns: int) -> list[dict[str, Any]]:
    """Of queues full of noise, which cost what others do; the first interval is what others are held against."""
    variants = {interval: {"guidance_interval": interval} for interval in INTERVALS}
    streams, seconds = iterations(fifo, settings, variants, turns)
    passes = {interval: windows(streams[interval].settings.queue_layout, interval) for interval in INTERVALS}
    return [
        {
            "interval": interval,
            "seconds_per_iteration": [round(value, 4) for value in seconds[interval]],
            "times_faster": round(sum(seconds[INTERVALS[0]]) / sum(seconds[interval]), 3),
            "passes_of_windows": passes[interval],
            "times_fewer": round(passes[INTERVALS[0]] / passes[interval], 3),
        }
        for interval in INTERVALS
    ]


def windows(layout: QueueLayout, interval: tuple[float, float]) -> int:
    """How many windows go through the model in an iteration, those that are guided twice."""
    rule, step = Guidance(interval), layout.step(0)
    return sum(1 + rule.guides(window, step.levels, layout.levels) for window in step.windows)


def errors(fifo: FIFO, scale: float, clips: int) -> list[dict[str, Any]]:
    """Of the noise, relative to guidance in all steps. A frame is guided or not by itself, so what an interval does to
    a slot is what guidance, or none, does to it."""
    model, layout, count = fifo.model, QueueLayout(fifo.model.frames, 4), 4
    levels, slots = model.levels(layout.levels), layout.step(0).levels[layout.context :]
    generator = torch.Generator().manual_seed(0)
    found: dict[float, list[Tensor]] = {scale: [], 1.0: []}
    for latents, texts in draw_clips(clips, frames_passed(layout, 1 + count), 0):
        noise = torch.randn(latents.shape, generator=generator)
        for weight, parts in found.items():
            condition = model.condition(texts, height=64, width=64, guidance_scale=weight)
            parts.append(moving_errors(model, levels, layout, latents, noise, condition, first=1, count=count))
    guided, unguided = (torch.cat(parts) for parts in found.values())
    results = []
    for interval in [*INTERVALS, None]:
        inside = Guidance(interval).levels(layout.levels) if interval else ()
        mixed = torch.where(torch.tensor([level in inside for level in slots]), guided, unguided)
        ratio, error = RelativeError(mixed, guided).ratio_of_errors()
        results.append({"interval": interval, "error_over_guided": round(ratio, 5), "se": round(error, 5)})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--turns", type=int, default=1, help="of 12 iterations each")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="gate")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = []
    for name in given.models:
        fifo, scale = load(name), SCALES[name]
        row: dict[str, Any] = {"model": name, "guidance_scale": scale}
        row["speed"] = speed(fifo, SETTINGS[name] | {"guidance_scale": scale}, given.turns)
        if name in TRAINED:
            row["errors"] = errors(fifo, scale, given.clips)
        print(name, *row["speed"], *row.get("errors", ()), sep="\n   ", flush=True)
        found.append(row)
    common.write(given.name, {"turns": given.turns, "clips": given.clips, "threads": given.threads, "models": found})


if __name__ == "__main__":
    main()
