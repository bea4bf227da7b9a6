"""Relative error of diagonal denoising on the embedded model, n = 1, 2, 4, with and without lookahead.

    python benchmarks/toybox_relative_mse.py --clips 8

Writes docs/results/toybox_relative_mse.json. The known clips are rendered by training/world.py from combinations of
attributes that were never trained on.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from common import write

from fifo_diffusion import FIFO
from fifo_diffusion.evaluation.relative_mse import relative_error
from fifo_diffusion.method import QueueLayout

TRAINING = Path(__file__).resolve().parents[1] / "training"


def main() -> None:
    sys.path.insert(0, str(TRAINING))
    from latents import encode, load
    from world import FAMILIES, make_clip

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--partitions", type=int, nargs="*", default=(1, 2, 4))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="toybox_relative_mse")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, basis = FIFO.from_pretrained(args.model).model, load(TRAINING / "latents.npz")
    rng, generator = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed)
    frames = max(args.partitions) * model.frames + model.frames // 2
    families = [FAMILIES[i % len(FAMILIES)] for i in range(args.clips)]
    drawn = [make_clip(rng, frames, family, held=True) for family in families]
    latents = np.stack([encode(clip, basis) for clip, _, _ in drawn])
    clips = torch.from_numpy(latents).permute(0, 4, 1, 2, 3).contiguous()
    noise = torch.randn(clips.shape, generator=generator)
    condition = model.condition([text for _, text, _ in drawn], height=64, width=64, guidance_scale=1.0)
    rows = []
    for n in args.partitions:
        layouts = [QueueLayout(model.frames, n, lookahead) for lookahead in (False, True)]
        first = frames - n * model.frames - model.frames // 2  # the same last frames for every n
        levels = model.levels(n * model.frames)
        results = relative_error(model, levels, layouts, clips[:, :, first:], noise[:, :, first:], condition)
        for layout, result in zip(layouts, results, strict=True):
            norms, errors = result.ratio_of_norms(), result.ratio_of_errors()
            rows.append({"partitions": n, "lookahead": layout.lookahead, "ratio_of_norms": round(norms[0], 4),
                         "ratio_of_norms_se": round(norms[1], 4), "ratio_of_errors": round(errors[0], 4),
                         "ratio_of_errors_se": round(errors[1], 4),
                         "reference_error": round(float(result.reference_BS.mean()), 5),
                         "curve": [round(value, 4) for value in result.curve()]})  # fmt: skip
            print({key: value for key, value in rows[-1].items() if key != "curve"}, flush=True)
    write(args.name, {"clips": args.clips, "seed": args.seed, "guidance": None, "settings": rows})


if __name__ == "__main__":
    main()
