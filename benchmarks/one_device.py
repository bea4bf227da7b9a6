"""One video on one device: batches, half precision and compiling against a plain path, side by side in one run.

    python benchmarks/one_device.py                      # toybox
    python benchmarks/one_device.py --model eighth       # random weights, VideoCrafter2's shape at 1/8 of its width
    python benchmarks/one_device.py --model full --device cuda       # the same at its full size, 320 x 512

The plain path: one window at a time, guidance in two passes, float32, frames decoded in between. n = 4 with lookahead,
f = 16, guidance. The same as `fifo-diffusion bench`, whose code it is (`fifo_diffusion.cli.bench`). Writes
docs/results/one_device_MODEL.json.
"""

import argparse
from functools import partial

import torch
from banded_speed import WIDTHS
from common import write
from diffusers import AutoencoderKL, UNet3DConditionModel

from fifo_diffusion import FIFO
from fifo_diffusion.cli.bench import compare, load_source, table
from fifo_diffusion.jobs.plan import usable_device
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline

DECODERS = {"eighth": (16, 32, 64, 64), "full": (128, 256, 512, 512)}  # block_out_channels
SIZES = {"toybox": {}, "eighth": {"height": 160, "width": 256}, "full": {"height": 320, "width": 512}}


def load_random(device: str, dtype: str, width: str = "eighth") -> FIFO:
    """U-Net and autoencoder with random weights, and toybox's text encoder."""
    parts = FIFO.from_pretrained("toybox", device="cpu").pipe.components
    tokens, blocks = parts["text_encoder"].config.hidden_size, DECODERS[width]
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet3DConditionModel(cross_attention_dim=tokens, sample_size=32, **WIDTHS[width]).eval()
        vae = AutoencoderKL(
            block_out_channels=blocks,
            layers_per_block=2,
            norm_num_groups=min(32, blocks[0]),
            down_block_types=("DownEncoderBlock2D",) * len(blocks),
            up_block_types=("UpDecoderBlock2D",) * len(blocks),
        ).eval()
    pipe = TextToVideoPipeline(**{**parts, "unet": unet, "vae": vae})
    pipe.set_progress_bar_config(disable=True)
    return FIFO(pipe.to(device, getattr(torch, dtype)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="toybox")
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (on a CPU wants a C++ compiler)")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    given = parser.parse_args()
    device = usable_device(given.device)
    if device == "cpu":
        torch.set_num_threads(given.threads)
    load = load_source if given.model == "toybox" else partial(load_random, width=given.model)
    arguments = {"num_partitions": given.partitions, **SIZES[given.model]}
    rows = compare(load, device, arguments, repeats=given.repeats, compiled=given.compile)
    print(table(rows))
    parameters = (
        sum(p.numel() for p in load("cpu", "float32").pipe.unet.parameters()) if given.model != "full" else None
    )
    facts = {"model": given.model, "parameters": parameters, "device": device, "repeats": given.repeats}
    facts["seconds"] = "of the process, on all its threads" if device == "cpu" else "wall"
    write(f"one_device_{given.model}", facts | {"arguments": arguments, "note": given.note, "settings": rows})


if __name__ == "__main__":
    main()
