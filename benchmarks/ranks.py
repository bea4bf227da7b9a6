"""One video over 1, 2, 4 and 8 ranks: seconds of an iteration against the ideal, windows / ceil(windows / ranks).

    python benchmarks/ranks.py

A stand-in denoiser sleeps for a fixed time per window and computes nothing, so that what is measured is all the rest:
the exchange over loopback (Gloo), the step, the queue. n = 4 with lookahead, f = 16: 8 windows. Latents have the size
of VideoCrafter2's (4 x 40 x 64), and for 8 ranks also that of toybox's (4 x 8 x 8), which tells waiting for each other
from copying. All settings take turns (`--repeats`); of each the median over all its iterations counts, and the time
that rank 0's process was computing. Writes docs/results/ranks.json.
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

LARGE, SMALL = (4, 40, 64), (4, 8, 8)
SETTINGS = ((1, LARGE), (2, LARGE), (4, LARGE), (8, LARGE), (8, SMALL))
FRAMES, PARTITIONS = 16, 4


def rank(
    index: int, size: int, shape: tuple[int, ...], meeting: str, seconds: float, iterations: int, eta: float
) -> None:
    """One process; rank 0 prints the seconds of each iteration, then those computed per iteration."""
    import torch
    import torch.distributed as dist

    from fifo_diffusion.distributed import Ranks
    from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, diagonal_denoising
    from fifo_diffusion.models.schedulers import read_levels

    torch.set_num_threads(1)
    layout, noise = QueueLayout(FRAMES, PARTITIONS), SeededNoise([0], shape)
    levels = read_levels(_scheduler(), layout.levels, eta=eta)

    def predict(latents_BCFHW: torch.Tensor, timestep_BF: torch.Tensor, windows: Any) -> torch.Tensor:
        time.sleep(seconds * len(windows))
        return latents_BCFHW

    known = torch.zeros(1, shape[0], FRAMES, *shape[1:])
    queue = Queue.from_known(layout, noise, known, 0)
    queue.known_BCFHW = queue.known_BCFHW[:, :, :0]  # every window is computed from the first iteration on
    share = None
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=index, world_size=size)
        share = Ranks(dist.group.WORLD).share(queue.latents_BCFHW, lambda: queue.iteration)
    loop = diagonal_denoising(queue, layout, levels, predict, noise, share=share)
    next(loop)
    took, computing = [], time.process_time()
    for _ in range(iterations):
        began = time.perf_counter()
        next(loop)
        took.append(time.perf_counter() - began)
    if index == 0:
        print(*took, (time.process_time() - computing) / iterations)


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def measure(size: int, shape: tuple[int, ...], arguments: argparse.Namespace) -> list[float]:
    """Seconds of each iteration on so many ranks; last, the seconds that rank 0 computed per iteration."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--size", str(size), "--meeting", str(Path(folder) / "meeting")]
        command += ["--seconds", str(arguments.seconds), "--iterations", str(arguments.iterations)]
        command += ["--eta", str(arguments.eta), "--shape", *map(str, shape)]
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
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        rank(given.rank, given.size, given.shape, given.meeting, given.seconds, given.iterations, given.eta)
        return
    took: dict[Any, list[list[float]]] = {setting: [] for setting in SETTINGS}
    for _ in range(given.repeats):
        for setting in SETTINGS:
            took[setting].append(measure(*setting, given))
    windows, rows = 2 * PARTITIONS, []
    for (size, shape), runs in took.items():
        every = [seconds for run in runs for seconds in run[:-1]]
        ideal = -(-windows // size) * given.seconds
        rows.append(
            {
                "ranks": size,
                "latents": shape,
                "median_seconds": round(statistics.median(every), 4),
                "ideal_seconds": round(ideal, 4),
                "of_ideal": round(ideal / statistics.median(every), 4),
                "of_ideal_in_each_repeat": [round(ideal / statistics.median(run[:-1]), 4) for run in runs],
                "slowest_seconds": round(max(every), 4),
                "rank_0_computes_seconds": round(statistics.median(run[-1] for run in runs), 4),
            }
        )
        print(rows[-1], flush=True)
    common.write(
        "ranks",
        {
            "windows": windows,
            "seconds_per_window": given.seconds,
            "eta": given.eta,
            "iterations": given.iterations,
            "repeats": given.repeats,
            "exchange": "Gloo over loopback, all ranks on this machine",
            "note": given.note,
            "results": rows,
        },
    )


if __name__ == "__main__":
    main()
