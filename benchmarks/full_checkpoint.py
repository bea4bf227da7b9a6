"""A whole VideoCrafter2 checkpoint of random weights at full size: written, loaded, one U-Net pass, on the CPU.

    python benchmarks/full_checkpoint.py FOLDER     # wants 4 GB of disk there, and 16 GB of memory
    python benchmarks/full_checkpoint.py FOLDER --tiny      # a tenth of the widths: whether the script works

Shows that the loader takes the file as it is published (every name at its size, in half precision here), and what it
costs. Writes docs/results/full_checkpoint.json.
"""

import argparse
import time
from pathlib import Path

import common
import torch

from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import published

GIB = 2**30


def peak() -> float:
    """Highest resident memory so far, in GiB."""
    return common.peak_mb() / 1024


def write(path: Path, shapes: dict[str, list[int]]) -> int:
    """All tensors of the published file, in half precision; how many."""
    state = published.schedule("vc2")
    for number, (name, shape) in enumerate(shapes.items()):
        if name in state:
            continue
        generator, count = torch.Generator().manual_seed(number), torch.Size(shape).numel()
        some = torch.randn(min(2**20, count), generator=generator) * max(1, torch.Size(shape[1:]).numel()) ** -0.5
        state[name] = some.half().repeat(-(-count // len(some)))[:count].reshape(shape)
    torch.save({"state_dict": state}, path)
    return len(state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="small widths")
    given = parser.parse_args()
    path, shapes = given.folder / "model.ckpt", (published.tiny_shapes if given.tiny else published.full_shapes)("vc2")
    found = {"tensors": write(path, shapes), "file_gib": path.stat().st_size / GIB, "peak_after_writing_gib": peak()}

    start = time.perf_counter()
    pipe = find_model(path).load(tokenizer=published.tokenizer())
    found |= {"load_mapped_seconds": time.perf_counter() - start}
    del pipe
    start = time.perf_counter()
    pipe = find_model(path).load(dtype=torch.float32, tokenizer=published.tokenizer())
    found |= {"load_float32_seconds": time.perf_counter() - start}
    model = registry.wrap(pipe)
    condition = model.condition(["a red ball"], height=64, width=64, guidance_scale=1.0)
    start = time.perf_counter()
    output = model.predict(torch.randn(1, 4, 2, 8, 8), torch.tensor([[100, 300]]), condition)
    found |= {"unet_pass_seconds": time.perf_counter() - start, "finite": bool(output.isfinite().all())}
    found |= {"output_std": float(output.std()), "peak_gib": peak(), "family": model.family}
    path.unlink()
    common.write("full_checkpoint", {"setting": "float32, 2 frames of 8x8 latents", "found": found})


if __name__ == "__main__":
    main()
