"""Banded lookahead against lookahead and partitions only: seconds and memory of one iteration, side by side.

    python benchmarks/banded_speed.py                       # VideoCrafter2's shape at 1/8 of its width, CPU, minutes
    python benchmarks/banded_speed.py --model full --device cuda --dtype float16 --height 320 --width 512

Weights are random: only the work counts. One iteration of the queue (one frame of video, without guidance) of every
setting in turns, so that a busy moment hits all alike. On a CPU seconds are those that the process was computing, and
memory is what an iteration adds to a resident process of its own; on a GPU wall time, and the peak that was allocated
beyond the weights. Writes docs/results/banded_speed.json (with --name another).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from common import forget_peak, peak_mb, resident_mb, write
from diffusers import UNet3DConditionModel

from fifo_diffusion.method import BandedLayout, QueueLayout
from fifo_diffusion.models.banded.passes import BandedPass
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks

FRAMES = 16
WIDTHS = {
    "eighth": {"block_out_channels": (40, 80, 160, 160), "attention_head_dim": 40, "norm_num_groups": 8},
    "narrow": {"block_out_channels": (40, 80, 160, 160), "attention_head_dim": 8, "norm_num_groups": 8},
    "full": {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 64, "norm_num_groups": 32},
}
CROSS_ATTENTION_DIM, TOKENS = {"eighth": 128, "narrow": 128, "full": 1024}, 77


def iteration(
    unet: UNet3DConditionModel, hooks: PerFrameHooks, layout: QueueLayout, size: tuple[int, int], pieces: int
) -> Callable[[], None]:
    """All windows of one iteration, one by one."""
    like = {"device": unet.device, "dtype": unet.dtype}
    latents = torch.randn(1, 4, layout.size, *size, **like)
    text = torch.randn(1, TOKENS, unet.config.cross_attention_dim, **like)
    timestep = (torch.tensor([layout.slot_levels], device=unet.device) * 1000) // layout.levels
    table = BandTable(layout.bands, unet.device) if layout.banded else None

    def run() -> None:
        for window in layout.windows:
            part = window.read
            banded = BandedPass(unet, table, pieces) if layout.banded else nullcontext()
            with hooks.active(timestep[:, part]), banded, torch.no_grad():
                unet(latents[:, :, part], timestep[:, 0], encoder_hidden_states=text)

    return run


def seconds_of(run: Callable[[], None], device: torch.device) -> float:
    """Of one iteration."""
    if device.type != "cuda":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def memory_of(run: Callable[[], None], device: torch.device) -> float:
    """MB that one iteration takes at its highest; on a CPU this process must not have run another before."""
    forget_peak(device)
    before = resident_mb(device)
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return peak_mb(device) - before


def in_a_process_of_its_own(name: str) -> float:
    """`memory_of` a setting, by this script with the same arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", choices=WIDTHS, default="eighth", help="width of the U-Net; narrow: of its heads too"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--height", type=int, default=160)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--name", default="banded_speed")
    parser.add_argument("--memory-of", help="print the memory of one setting and end")
    args = parser.parse_args()
    torch.set_num_threads(1 if args.device == "cpu" else torch.get_num_threads())
    torch.manual_seed(0)
    with torch.device(args.device):
        unet = UNet3DConditionModel(cross_attention_dim=CROSS_ATTENTION_DIM[args.model], **WIDTHS[args.model])
    unet = unet.to(getattr(torch, args.dtype)).eval()
    hooks, size, n = PerFrameHooks(unet), (args.height // 8, args.width // 8), args.partitions
    banded = BandedLayout(FRAMES, n)
    settings = {
        "partitions only": (QueueLayout(FRAMES, n, False), 1),
        "lookahead": (QueueLayout(FRAMES, n, True), 1),
        "banded, at once": (banded, 1),
        "banded, in 2 pieces": (banded, 2),
        f"banded, in {n + 1} pieces": (banded, n + 1),
        "banded, bands of windows": (BandedLayout(FRAMES, n, band="windows"), 1),
    }
    runs = {name: iteration(unet, hooks, layout, size, pieces) for name, (layout, pieces) in settings.items()}
    if args.memory_of:
        print(memory_of(runs[args.memory_of], unet.device))
        return
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(args.turns + 1):
        for name, run in runs.items():
            needed = seconds_of(run, unet.device)
            if turn:  # the first is to warm up
                found[name].append(needed)
    seconds = {name: statistics.median(values) for name, values in found.items()}
    rows = []
    for name, (layout, pieces) in settings.items():
        own = args.device == "cpu"
        memory = in_a_process_of_its_own(name) if own else memory_of(runs[name], unet.device)
        rows.append(
            {
                "setting": name,
                "frame_forwards": layout.frame_forwards,
                "pieces": pieces,
                "seconds": round(seconds[name], 3),
                "times_faster_than_lookahead": round(seconds["lookahead"] / seconds[name], 3),
                "memory_mb": round(memory),
            }
        )
        print(rows[-1], flush=True)
    parameters = sum(p.numel() for p in unet.parameters())
    facts = {"parameters": parameters, "partitions": n, "frames": FRAMES, "dtype": args.dtype, "turns": args.turns}
    write(args.name, facts | {"pixels": [args.height, args.width], "guidance": None, "settings": rows})


if __name__ == "__main__":
    main()
