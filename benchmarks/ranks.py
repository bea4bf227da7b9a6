"""One video over several ranks: seconds of an iteration against the ideal, windows / ceil(windows / ranks).

    python benchmarks/ranks.py

A stand-in denoiser sleeps for a fixed time per window and computes nothing, so that what is measured is all the rest:
the exchange over loopback (Gloo), the step, the queue. n = 4 with lookahead, f = 16: 8 windows. Latents have the size
of VideoCrafter2's (4 x 40 x 64), and for 8 ranks also that of toybox's (4 x 8 x 8), which tells waiting for each other
from copying. Besides: one window of which two ranks compute a pass of guidance each; and 8 and 9 ranks where rank 0
also sleeps for `--decode` after each iteration, as if it decoded and wrote a frame. Each process keeps to one core
(Linux), with more processes than cores several to each. All settings take turns
(`--repeats`); of each the median over all its iterations counts, and the time that rank 0's process was computing.
Writes docs/results/ranks.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import common

LARGE, SMALL = (4, 40, 64), (4, 8, 8)
FRAMES = 16


@dataclass(frozen=True)
class Setting:
    """So many ranks and what they do; `decode`: rank 0 decodes."""

    ranks: int
    latents: tuple[int, int, int] = LARGE
    partitions: int = 4
    lookahead: bool = True
    passes: int = 1
    decode: bool = False

    @property
    def layout(self) -> Any:
        from fifo_diffusion.method import QueueLayout

        return QueueLayout(FRAMES, self.partitions, self.lookahead)

    def ideal(self, seconds: float) -> float:
        """Seconds of an iteration."""
        windows = len(self.layout.windows)
        apart = self.passes == 2 and self.ranks >= 2 * windows
        return seconds * (0.5 if apart else -(-windows // self.ranks))


SETTINGS = (
    *(Setting(size) for size in (1, 2, 4, 8)),
    Setting(8, SMALL),
    Setting(1, partitions=1, lookahead=False, passes=2),
    Setting(2, partitions=1, lookahead=False, passes=2),
    Setting(8, decode=True),
    Setting(9, decode=True),
)


def rank(index: int, setting: Setting, given: argparse.Namespace) -> None:
    """One process; rank 0 prints the seconds of each iteration, then those computed per iteration."""
    import torch
    import torch.distributed as dist

    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.execution.window_share import WindowShare
    from fifo_diffusion.method import Queue, SeededNoise, diagonal_denoising, one_by_one
    from fifo_diffusion.models.shared.schedulers import read_levels

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # launchers bind processes to cores too
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    layout, noise, size = setting.layout, SeededNoise([0], setting.latents), setting.ranks
    levels = read_levels(_scheduler(), layout.levels, eta=given.eta)

    def predict(latents_BCFHW: torch.Tensor, timestep_BF: torch.Tensor, windows: Any) -> torch.Tensor:
        half = share is not None and share.half is not None
        time.sleep(given.seconds * len(windows) / (2 if half else 1))
        return share.swap(latents_BCFHW)[0] if half else latents_BCFHW

    known = torch.zeros(1, setting.latents[0], FRAMES, *setting.latents[1:])
    queue = Queue.from_known(layout, noise, known, 0)
    queue.known_BCFHW = queue.known_BCFHW[:, :, :0]  # every window is computed from the first iteration on
    share = None
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{given.meeting}", rank=index, world_size=size)
        ranks = Ranks(dist.group.WORLD)
        ranks.reserve(queue.latents_BCFHW)
        share = WindowShare(ranks, lambda: queue.iteration, setting.passes)
    run = one_by_one if share is None else share.run(queue, layout, one_by_one)
    loop = diagonal_denoising(queue, layout, levels, predict, noise, run)
    next(loop)
    took, computing = [], time.process_time()
    for _ in range(given.iterations):
        began = time.perf_counter()
        next(loop)
        if setting.decode and index == 0:
            time.sleep(given.decode)
        took.append(time.perf_counter() - began)
    if index == 0:
        print(*took, (time.process_time() - computing) / given.iterations)


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def measure(number: int, given: argparse.Namespace) -> list[float]:
    """Seconds of each iteration in a setting; last, the seconds that rank 0 computed per iteration."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--setting", str(number), "--meeting", str(Path(folder) / "meeting")]
        for name in ("seconds", "decode", "iterations", "eta"):
            command += [f"--{name}", str(getattr(given, name))]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen([*command, "--rank", str(k)], stdout=subprocess.PIPE, text=True, env=environment)
            for k in range(SETTINGS[number].ranks)
        ]
        outputs = [process.communicate(timeout=600)[0] for process in ranks]
    return [float(word) for word in outputs[0].split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="per window")
    parser.add_argument("--decode", type=float, default=0.03, help="seconds per frame on rank 0, in some settings")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--eta", type=float, default=0.0)
    numbers = range(len(SETTINGS))
    parser.add_argument("--only", type=int, nargs="+", choices=numbers, default=numbers, help="numbers of settings")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    for name, kind in (("--rank", int), ("--setting", int), ("--meeting", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        rank(given.rank, SETTINGS[given.setting], given)
        return
    took: dict[int, list[list[float]]] = {number: [] for number in given.only}
    for _ in range(given.repeats):
        for number, runs in took.items():
            runs.append(measure(number, given))
    rows = []
    for number, runs in took.items():
        setting = SETTINGS[number]
        every, ideal = [seconds for run in runs for seconds in run[:-1]], setting.ideal(given.seconds)
        rows.append(
            {
                **asdict(setting),
                "windows": len(setting.layout.windows),
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
            "seconds_per_window": given.seconds,
            "decode_seconds": given.decode,
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
