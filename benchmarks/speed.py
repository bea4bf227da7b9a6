"""Seconds per frame and time to the first frame of toybox by setting, and the cost model checked by counting.

    python benchmarks/speed.py             # a few minutes on two idle cores; writes docs/results/speed.json
    python benchmarks/speed.py --first     # a stranger's first frame: a fresh process of the command line
    python benchmarks/speed.py --pass --compile     # one 16-frame pass of the U-Net, median; compiled too
    python benchmarks/speed.py --layout    # a pass and a decode as `from_pretrained` lays the weights out on a CPU
    python benchmarks/speed.py --write     # how long a model waits while a frame is written

Frame-forwards are counted at the denoiser and compared with `QueueLayout`: after the opening clip every frame costs
n f / b, twice that with lookahead, (n f + f') / b where that is banded, and twice again with guidance. Settings are
measured in turns (one frame of each at a time), so that a busy moment of the machine hits all of them alike. "demo" is
what `make demo` was before presets; `live.py` measures what it is.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import common

PROMPT = "a red robot walking to the right in the hills on a sunny day"
BASE = {"num_partitions": 2, "lookahead": True, "guidance_scale": 2.5}
SETTINGS = {
    "demo: n 2, lookahead": {},
    "n 2, partitions only": {"lookahead": False},
    "n 2, banded lookahead": {"lookahead": "banded"},
    "n 1, lookahead": {"num_partitions": 1},
    "n 1, partitions only": {"num_partitions": 1, "lookahead": False},
    "n 4, lookahead (the paper)": {"num_partitions": 4},
    "n 4, banded lookahead": {"num_partitions": 4, "lookahead": "banded"},
    "n 2, lookahead, 2 frames per level": {"frames_per_level": 2},
    "n 2, lookahead, 4 frames per level": {"frames_per_level": 4},
    "n 2, lookahead, 2 windows per batch": {"windows_per_batch": 2},
    "n 2, lookahead, 4 windows per batch": {"windows_per_batch": 4},
    "n 2, lookahead, no guidance": {"guidance_scale": 1.0},
}
DEMO = ["--num-partitions", "2", "--num-frames", "40", "--seed", "0"]


class Counted:
    """One setting: its stream, the frames sent through the U-Net, and the times."""

    def __init__(self, fifo, name: str, change: dict) -> None:
        self.name, self.setting = name, BASE | change
        self.fifo, self.forwards = fifo, 0
        began = time.perf_counter()
        self.stream = fifo.stream(PROMPT, seed=0, **self.setting)
        self.layout = self.stream.settings.queue_layout
        self.next()
        self.first_frame = time.perf_counter() - began
        while self.stream.frame_index < 16:
            self.next()
        while (done := self.stream.iteration) < self.layout.levels:  # to the first new frames: the queue is full
            self.next()
        while self.stream.iteration == done:  # to the first frame of an iteration, and the others of it
            self.next()
        for _ in range(self.layout.frames_per_level - 1):
            self.next()
        self.seconds: list[float] = []
        self.counted: list[int] = []

    def next(self) -> None:
        def count(_module, arguments, _keywords=None) -> None:
            self.forwards += arguments[0].shape[0] * arguments[0].shape[2]

        handle = self.fifo.pipe.unet.register_forward_pre_hook(count)
        next(self.stream)
        handle.remove()

    def turn(self) -> None:
        """One iteration of the queue: b frames."""
        before, began, b = self.forwards, time.perf_counter(), self.layout.frames_per_level
        for _ in range(b):
            self.next()
        self.seconds.append((time.perf_counter() - began) / b)
        self.counted.append((self.forwards - before) // b)

    def row(self) -> dict:
        passes = 2 if self.setting["guidance_scale"] > 1 else 1
        return {
            "setting": self.name,
            **self.setting,
            "first_frame_seconds": round(self.first_frame, 2),
            "seconds_per_frame": round(statistics.median(self.seconds), 4),
            "frame_forwards_per_frame": statistics.median(self.counted),
            "cost_model": passes * self.layout.frame_forwards_per_frame,
        }


def settings(repeats: int) -> dict:
    from fifo_diffusion import FIFO

    fifo = FIFO.from_pretrained("toybox")
    next(fifo.stream(PROMPT, seed=0, num_frames=1, **BASE))  # warm up
    runs = [Counted(fifo, name, change) for name, change in SETTINGS.items()]
    for _ in range(repeats):
        for run in runs:
            run.turn()
    rows = [run.row() for run in runs]
    for row in rows:
        assert row["frame_forwards_per_frame"] == row["cost_model"], row
        row["time_against_demo"] = round(row["seconds_per_frame"] / rows[0]["seconds_per_frame"], 3)
        print(
            f"{row['setting']:38} {row['seconds_per_frame']:8.3f} s/frame (x{row['time_against_demo']}), first frame "
            f"{row['first_frame_seconds']:6.2f} s, {row['frame_forwards_per_frame']:6.0f} frame-forwards"
        )
    return {"prompt": PROMPT, "repeats": repeats, "settings": rows}


def first_frame() -> dict:
    """The command line in a fresh process, writing pictures; the times at which they appear."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frames"
        command = [sys.executable, "-m", "fifo_diffusion", "generate", PROMPT, "-o", f"{out}/", *DEMO, "--quiet"]
        began = time.time()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times = sorted(path.stat().st_mtime for path in out.glob("*.png"))
    gaps = [b - a for a, b in pairwise(times)]
    result = {
        "command": " ".join(["fifo-diffusion", "generate", f'"{PROMPT}"', *DEMO]),
        "frames": len(times),
        "first_frame_seconds": round(times[0] - began, 2),
        "longest_wait_for_a_further_frame_seconds": round(max(gaps), 2),
        "median_wait_seconds": round(statistics.median(gaps), 3),
    }
    print(result)
    return result


def one_pass(compiled: bool, repeats: int) -> dict:
    """A 16-frame pass of the U-Net, without guidance, in turns in float32, in bfloat16, and compiled: the median of
    `repeats` passes, after a fifth as many that warm up."""
    import torch

    from fifo_diffusion import FIFO

    runs, seconds = {}, {}
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        for suffix in ("", ", torch.compile")[: 1 + compiled]:
            fifo = FIFO.from_pretrained("toybox", dtype=dtype)
            if suffix:
                fifo.pipe.unet.compile(dynamic=False)
            condition = fifo.model.condition([PROMPT], height=64, width=64, guidance_scale=1.0)
            runs[name + suffix], seconds[name + suffix] = (fifo.model, condition), []
    latents = torch.randn(1, *fifo.model.latent_shape(64, 64)).unsqueeze(2).repeat(1, 1, 16, 1, 1)
    timestep = torch.linspace(20, 980, 16).round().long()[None]
    warm = -(-repeats // 5)
    for _ in range(warm + repeats):
        for name, (model, condition) in runs.items():
            began = time.perf_counter()
            model.predict(latents, timestep, condition)
            seconds[name].append(time.perf_counter() - began)
    result = {name: round(statistics.median(taken[warm:]), 4) for name, taken in seconds.items()}
    print(result)
    return {"unit": f"seconds, median of {repeats} passes", "one_pass": result}


def layouts(repeats: int) -> dict:
    """Two windows through the U-Net and four latents through the decoder, as in the preset `live`, in turns with the
    weights of convolutions as PyTorch keeps them and with their channels last (`lay_out_for_cpu`)."""
    import torch

    from fifo_diffusion import FIFO

    fifos = {"channels_last": FIFO.from_pretrained("toybox-diagonal", device="cpu")}
    fifos["contiguous"] = contiguous = FIFO.from_pretrained("toybox-diagonal", device="cpu")
    for part in (contiguous.pipe.unet, contiguous.pipe.vae):
        for weight in part.parameters():
            weight.data = torch.empty(weight.shape).copy_(weight)  # `contiguous()` leaves kernels of 1 x 1 as they are
    condition = contiguous.model.condition([PROMPT] * 2, height=64, width=64, guidance_scale=1.0)
    latents = torch.randn(2, *contiguous.model.latent_shape(64, 64)).unsqueeze(2).repeat(1, 1, 16, 1, 1)
    timestep = torch.linspace(20, 980, 16).round().long()[None].repeat(2, 1)
    clean = torch.randn(4, *contiguous.model.latent_shape(64, 64))
    calls = {
        "two_windows": lambda fifo: fifo.model.predict(latents, timestep, condition),
        "decode_four": lambda fifo: fifo.pipe.vae.decode(clean, return_dict=False),
    }
    result = {}
    with torch.inference_mode():
        for call, work in calls.items():
            seconds = {name: [] for name in fifos}
            for _ in range(5 + repeats):
                for name, fifo in fifos.items():
                    began = time.perf_counter()
                    work(fifo)
                    seconds[name].append(time.perf_counter() - began)
            kept = {name: taken[5:] for name, taken in seconds.items()}
            ratios = [last / plain for last, plain in zip(kept["channels_last"], kept["contiguous"], strict=True)]
            result[call] = {name: round(statistics.median(taken), 4) for name, taken in kept.items()}
            result[call]["ratio"] = round(statistics.median(ratios), 3)
    print(result)
    return {"unit": f"seconds, medians of {repeats}; ratio: the median of the turns' own", "layout": result}


def writing() -> dict:
    """Milliseconds for which `write` keeps the next iteration waiting, median, in turn and in the background; of moving
    clouds with some grain, which are no easier than a film. The iteration is a pause: as on a GPU, the CPU is idle."""
    import numpy as np
    import torch

    from fifo_diffusion.video import open_writer

    rows, pause = [], 0.25
    for width, height in ((256, 256), (512, 320), (832, 480), (1280, 704)):
        draw = torch.Generator().manual_seed(0)
        clouds = torch.nn.functional.interpolate(
            torch.rand(1, 3, 12, 20, generator=draw), (height, width + 200), mode="bicubic"
        )
        frames = []
        for shift in range(0, 60, 2):
            grain = 0.02 * torch.randn(3, height, width, generator=draw)
            frame = (clouds[0, :, :, shift : shift + width] + grain).clamp(0, 1)
            frames.append(np.ascontiguousarray((frame * 255).byte().permute(1, 2, 0).numpy()))
        for suffix in (".mp4", ".webm", "/"):
            with tempfile.TemporaryDirectory() as folder, ExitStack() as files:
                writers = [
                    files.enter_context(open_writer(f"{folder}/{number}{suffix}", fps=8, background=bool(number)))
                    for number in range(2)
                ]
                seconds: tuple[list[float], list[float]] = [], []
                for frame in frames:
                    for writer, taken in zip(writers, seconds, strict=True):
                        began = time.perf_counter()
                        writer.write(frame)
                        taken.append(time.perf_counter() - began)
                        time.sleep(pause)
            waits = dict(zip(("in_turn", "in_the_background"), map(statistics.median, seconds), strict=True))
            row = {"output": suffix, "size": [width, height]} | {k: round(1e3 * v, 2) for k, v in waits.items()}
            rows.append(row)
            print(row)
    return {"unit": "milliseconds per frame", "frames": len(frames), "pause": pause, "writing": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, help="default: 9 of each setting, 50 with --pass, --layout")
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--pass", action="store_true", dest="one_pass")
    parser.add_argument("--compile", action="store_true", help="with --pass: compiled as well (wants a C++ compiler)")
    parser.add_argument("--layout", action="store_true", help="on a CPU")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.first:
        common.write("first_frame", first_frame())
    elif arguments.one_pass:
        common.write("one_pass", one_pass(arguments.compile, arguments.repeats or 50))
    elif arguments.layout:
        common.write("cpu_layout", layouts(arguments.repeats or 50))
    elif arguments.write:
        common.write("writing", writing())
    else:
        common.write("speed", settings(arguments.repeats or 9))


if __name__ == "__main__":
    main()
