"""One video over 1, 2, 4 and 8 ranks: seconds of an iteration against the ideal, windows / ceil(windows / ranks).

    python benchmarks/ranks.py

A stand-in denoiser sleeps for a fixed time per window and computes nothing, so that what is measured is all the rest:
the exchange over loopback (Gloo), the step, the queue. Latents have the size of VideoCrafter2's (4 x 40 x 64), n = 4
with lookahead: 8 windows. All sizes take turns (`--repeats`); of each the median over all its iterations counts.
Writes docs/results/ranks.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

SIZES = (1, 2, 4, 8)
SHAPE, FRAMES, PARTITIONS = (4, 40, 64), 16, 4


def rank(index: int, size: int, meeting: str, seconds: float, iterations: int, eta: float) -> None:
    """One process: prints the seconds of each iteration (rank 0)."""
    import torch
    import torch.distributed as dist

    from fifo_diffusion.distributed import Ranks
    from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, diagonal_denoising
    from fifo_diffusion.models.schedulers import read_levels

    torch.set_num_threads(1)
    layout, noise = QueueLayout(FRAMES, PARTITIONS), SeededNoise([0], SHAPE)
    levels = read_levels(_scheduler(), layout.levels, eta=eta)

    def predict(latents_BCFHW: torch.Tensor, timestep_BF: torch.Tensor, windows: Any) -> torch.Tensor:
        time.sleep(seconds * len(windows))
        return latents_BCFHW

    known = torch.zeros(1, SHAPE[0], FRAMES, *SHAPE[1:])
    queue = Queue.from_known(layout, noise, known, 0)
    queue.known_BCFHW = queue.known_BCFHW[:, :, :0]  # every window is computed from the first iteration on
    share = None
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=index, world_size=size)
        share = Ranks(dist.group.WORLD).share(lambda: queue.iteration)
    loop = diagonal_denoising(queue, layout, levels, predict, noise, share=share)
    next(loop)
    took = []
    for _ in range(iterations):
        began = time.perf_counter()
        next(loop)
        took.append(time.perf_counter() - began)
    if index == 0:
        print(*took)


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def measure(size: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each iteration on so many ranks."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--size", str(size), "--meeting", str(Path(folder) / "meeting")]
        command += ["--seconds", str(arguments.seconds), "--iterations", str(arguments.iterations)]
        command += ["--eta", str(arguments.eta)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen([*command, "--rank", str(k)], stdout=subprocess.PIPE, text=True, env=environment)
            for k in range(size)
        ]
        outputs = [process.communicate(timeout=600)[0] for process in ranks]
    return [float(word) for word in outputs[0].split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="per window")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    for name, kind in (("--rank", int), ("--size", int), ("--meeting", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        rank(
            arguments.rank,
            arguments.size,
            arguments.meeting,
            arguments.seconds,
            arguments.iterations,
            arguments.eta,
        )
        return
    took: dict[int, list[list[float]]] = {size: [] for size in SIZES}
    for _ in range(arguments.repeats):
        for size in SIZES:
            took[size].append(measure(size, arguments))
    windows, rows = 2 * PARTITIONS, []
    for size in SIZES:
        every = [seconds for run in took[size] for seconds in run]
        ideal = -(-windows // size) * arguments.seconds
        rows.append(
            {
                "ranks": size,
                "median_seconds": round(statistics.median(every), 4),
                "ideal_seconds": round(ideal, 4),
                "of_ideal": round(ideal / statistics.median(every), 4),
                "of_ideal_in_each_repeat": [round(ideal / statistics.median(run), 4) for run in took[size]],
                "slowest_seconds": round(max(every), 4),
            }
        )
        print(rows[-1], flush=True)
    common.write(
        "ranks",
        {
            "windows": windows,
            "seconds_per_window": arguments.seconds,
            "latents": SHAPE,
            "eta": arguments.eta,
            "iterations": arguments.iterations,
            "repeats": arguments.repeats,
            "exchange": "Gloo over loopback, all ranks on this machine",
            "note": arguments.note,
            "results": rows,
        },
    )


if __name__ == "__main__":
    main()
