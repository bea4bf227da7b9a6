"""The cache that moves with the queue: how much faster, and how far from the plain loop.

    python benchmarks/cache.py                     # minutes on two cores; writes docs/results/cache.json
    python benchmarks/cache.py --only speed --models eighth wan --name other

For k = 1 (off) to 4, in turns in one run, on a U-Net of VideoCrafter2's shape at an eighth of its width (24 million
random parameters), toybox, toybox-diagonal and a tiny random Wan:

    speed     CPU seconds of an iteration of a full queue with n = 4 and lookahead, decoding included, the sum over 12
              iterations (a whole number of turns of every k); beside it the windows by count
    errors    toybox models: mean square error of the noise that a queue predicts or reuses, over that without a
              cache, on held-out known clips (`evaluation.relative_mse.moving_errors`), n = 4, and its standard error
              over clips. Beside it the same of another draw of the noise, without a cache
    videos    mean square difference of the latents of the first frames that leave the queue from those without a
              cache, over their variance, n = 2; beside it that of another seed
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import common
import torch
from one_device import load_random
from torch import Tensor
from toybox_relative_mse import draw_clips

from fifo_diffusion import FIFO, FrameStream
from fifo_diffusion.evaluation.relative_mse import RelativeError, frames_passed, moving_errors
from fifo_diffusion.method import CachedLayout, QueueLayout
from fifo_diffusion.testing import tiny_wan

PROMPT = "a red robot walking to the right in the hills on a sunny day"
UNGUIDED = {"guidance_scale": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "eighth": {"height": 64, "width": 64} | UNGUIDED,
    "toybox": UNGUIDED,
    "toybox-diagonal": UNGUIDED,
    "wan": {"window": 8} | tiny_wan.SIZE,
}
TRAINED = ("toybox", "toybox-diagonal")


def load(name: str) -> FIFO:
    if name == "eighth":
        return load_random("cpu", "float32")
    return FIFO(tiny_wan.pipeline()) if name == "wan" else FIFO.from_pretrained(name, device="cpu")


def speed(fifo: FIFO, settings: dict[str, Any], ks: list[int], turns: int) -> list[dict[str, Any]]:
    """Of queues full of noise, which cost what others do."""
    streams, seconds = iterations(fifo, settings, {k: {"cache": k} for k in ks}, turns)
    layouts = {k: streams[k].settings.queue_layout for k in ks}
    return [
        {
            "k": k,
            "seconds_per_iteration": [round(value, 4) for value in seconds[k]],
            "times_faster": round(sum(seconds[ks[0]]) / sum(seconds[k]), 3),
            "frame_forwards": layouts[k].frame_forwards,
            "times_fewer": round(layouts[ks[0]].frame_forwards / layouts[k].frame_forwards, 3),
        }
        for k in ks
    ]


def iterations(
    fifo: FIFO, settings: dict[str, Any], variants: dict[Any, dict[str, Any]], turns: int
) -> tuple[dict[Any, FrameStream], dict[Any, list[float]]]:
    """Streams of full queues, n = 4, and the CPU seconds of an iteration of each, taken in turns of 12 iterations."""
    streams, base = {}, {"num_partitions": 4} | settings
    seconds = {name: [0.0] * turns for name in variants}
    for name, more in variants.items():
        start = fifo.stream(PROMPT, seed=0, start="noise", **base, **more)
        state = start.state()
        state.position = replace(state.position, iteration=start.settings.queue_layout.levels)
        streams[name] = fifo.stream(start=state)
    for turn in range(-1, 12 * turns):
        for name, stream in streams.items():
            began = time.process_time()
            done = stream.iteration
            while stream.iteration == done or stream._outlet.ready:
                next(stream)
            if turn >= 0:
                seconds[name][turn // 12] += (time.process_time() - began) / 12
    return streams, seconds


def errors(fifo: FIFO, ks: list[int], clips: int) -> list[dict[str, Any]]:
    """Of the noise, relative to the queue without a cache."""
    model, plain, first, count = fifo.model, QueueLayout(fifo.model.frames, 4), max(ks) + 1, 4
    levels = model.levels(plain.levels)
    frames, generator = frames_passed(plain, first + count), torch.Generator().manual_seed(0)
    found: dict[Any, list[Tensor]] = {}
    for latents, texts in draw_clips(clips, frames, 0):
        condition = model.condition(texts, height=64, width=64, guidance_scale=1.0)
        noise, other = (torch.randn(latents.shape, generator=generator) for _ in range(2))
        which = {"first": first, "count": count}
        for k in ks:
            layout = plain if k == 1 else CachedLayout(plain, k)
            found.setdefault(k, []).append(moving_errors(model, levels, layout, latents, noise, condition, **which))
        again = moving_errors(model, levels, plain, latents, other, condition, first=1, count=count)
        found.setdefault("another draw", []).append(again)
    without = torch.cat(found[ks[0]])
    results = {k: RelativeError(torch.cat(parts), without).ratio_of_errors() for k, parts in found.items()}
    return [
        {"k": k, "error_over_plain": round(ratio, 5), "se": round(error, 5)} for k, (ratio, error) in results.items()
    ]


def videos(fifo: FIFO, settings: dict[str, Any], ks: list[int], frames: int) -> list[dict[str, Any]]:
    """Of latents, relative to the video without a cache."""
    arguments = {"num_partitions": 2} | settings

    def made(**more: Any) -> Tensor:
        window = fifo.layout(**{name: value for name, value in arguments.items() if name == "window"}).frames
        given = {"num_frames": fifo.model.timing.frames(window + frames), "seed": 0, "output_type": "latent"}
        return fifo(PROMPT, **given | arguments | more).frames[:, :, window:]

    plain = made(cache=ks[0])
    spread = (plain - plain.mean((0, 2, 3, 4), keepdim=True)).pow(2).mean()
    others = {k: made(cache=k) for k in ks[1:]} | {"another seed": made(cache=ks[0], seed=1)}
    return [{"k": k, "difference": round(float((v - plain).pow(2).mean() / spread), 5)} for k, v in others.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument(
        "--only", nargs="+", choices=("speed", "errors", "videos"), default=["speed", "errors", "videos"]
    )
    parser.add_argument(
        "--ks", type=int, nargs="+", default=[1, 2, 3, 4], help="the first is what others are held against"
    )
    parser.add_argument("--turns", type=int, default=1, help="of 12 iterations each")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=6, help="of the videos, after the clip that opens them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="cache")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = []
    for name in given.models:
        fifo, settings, row = load(name), SETTINGS[name], {"model": name}
        if "speed" in given.only:
            row["speed"] = speed(fifo, settings, given.ks, given.turns)
        if "errors" in given.only and name in TRAINED:
            row["errors"] = errors(fifo, given.ks, given.clips)
        if "videos" in given.only and name != "eighth":
            row["videos"] = videos(fifo, settings, given.ks, given.frames)
        for what, rows in row.items():
            print(*([what, *rows] if what != "model" else [name]), sep="\n   ", flush=True)
        found.append(row)
    facts = {
        "ks": given.ks,
        "turns": given.turns,
        "clips": given.clips,
        "frames": given.frames,
        "threads": given.threads,
    }
    common.write(given.name, facts | {"settings": SETTINGS, "models": found})


if __name__ == "__main__":
    main()
