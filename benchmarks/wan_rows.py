"""Wan's transformer with one timestep per frame: seconds and memory of one pass, by the way that it is told.

    python benchmarks/wan_rows.py                        # one layer in the width of 1.3B, CPU, a minute
    python benchmarks/wan_rows.py --layers 30 --height 480 --width 832 --device cuda --dtype bfloat16

"clip" is the stock transformer with one timestep for all frames, "tokens" the stock one with a timestep for every
token, "rows" ours (`FrameRows`). Weights are random: only the work counts. Every way is a process of its own, and the
ways take turns. On a CPU seconds are those that the process was computing, and memory is the peak of the process above
what it held before; on a GPU wall time, and the peak that was allocated beyond the weights. Writes
docs/results/wan_rows.json (with --name another).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import common
import torch
from diffusers import WanTransformer3DModel

from fifo_diffusion.models.wan.model import FrameRows

WAYS = ("clip", "tokens", "rows")
SHAPE = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "text_dim": 4096}
"""Wan 2.1 1.3B."""


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    torch.manual_seed(0)
    with device:
        transformer = WanTransformer3DModel(**SHAPE, num_layers=options.layers).eval()
        transformer = transformer if dtype == torch.float32 else transformer.to(dtype)
        latents = torch.randn(1, 16, options.frames, options.height // 8, options.width // 8, dtype=dtype)
        text = torch.randn(1, 512, 4096, dtype=dtype)
        timestep_F = torch.linspace(100, 900, options.frames)
    tokens = latents.shape[-2] * latents.shape[-1] // 4
    told = {"clip": timestep_F[:1], "tokens": timestep_F.repeat_interleave(tokens)[None], "rows": timestep_F}[way]
    rows = FrameRows(transformer)

    def once() -> float:
        clock = time.process_time if device.type == "cpu" else time.perf_counter
        began = clock()
        with torch.no_grad(), rows.active(options.frames, False) if way == "rows" else nullcontext():
            transformer(latents, told, text)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - began

    if device.type == "cuda":
        once()
        common.forget_peak(device)
    held = common.resident_mb(device)
    seconds = min(once() for _ in range(2))
    return {"seconds": seconds, "peak_mb": common.peak_mb(device) - held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, help="measure one, in this process")
    parser.add_argument("--frames", type=int, default=21, help="latent frames")
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="wan_rows")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    median = {
        way: {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
        for way, runs in found.items()
    }
    names = ("frames", "height", "width", "layers", "device", "dtype", "rounds")
    tokens = options.frames * (options.height // 16) * (options.width // 16)
    settings = {name: getattr(options, name) for name in names} | {"tokens": tokens, "transformer": SHAPE}
    common.write(options.name, {"settings": settings, "median": median, "runs": found})


if __name__ == "__main__":
    main()
