"""Score base clips on held-out captions with the checker, attribute by attribute; JSON and a contact sheet.

    python training/score.py --json docs/results/toybox_clips.json --sheet docs/images/toybox_clips.png

Every caption names a combination of attributes that was never trained on. "ceiling" scores the rendered clips of the
same captions after encoding and decoding: what a perfect U-Net would reach with this autoencoder.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from latents import encode, load
from sheets import save_sheet
from toybox import Toybox

from fifo_diffusion.evaluation.metrics.flicker import flicker
from fifo_diffusion.evaluation.metrics.toybox import smoothness
from fifo_diffusion.toybox import checker
from fifo_diffusion.toybox.world import FAMILIES, make_clip


def summary(videos: np.ndarray, captions: list[str]) -> dict:
    """Mean score, scores per family and attribute, speed and evenness of the motion."""
    rows = [(checker.parse(text)["family"], checker.score(v, text)) for v, text in zip(videos, captions, strict=True)]
    result = {"score": checker.mean_score([s for _, s in rows])}
    for family in FAMILIES:
        part = [s for f, s in rows if f == family]
        result[family] = {name: float(np.mean([s[name] for s in part])) for name in part[0]} | {"clips": len(part)}
    moved = [smoothness(v) for v in videos]
    result |= {name: float(np.mean([m[name] for m in moved])) for name in moved[0]}
    return result | {"flicker": float(np.mean([flicker(v) for v in videos]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="src/fifo_diffusion/toybox/pipeline")
    add("--pipeline", default="src/fifo_diffusion/toybox/pipeline")
    add("--latents", default="training/latents.npz")
    add("--clips", type=int, nargs=3, default=(45, 20, 35), help="shapes, landscapes, robots")
    add("--guidance", type=float, default=2.5)
    add("--steps", type=int, default=25)
    add("--seed", type=int, default=0)
    add("--batch", type=int, default=10)
    add("--json")
    add("--sheet")
    add("--rows", type=int, nargs=3, default=(6, 4, 6), help="rows of the sheet per family")
    args = parser.parse_args()
    torch.set_num_threads(1)
    toybox, basis, rng = Toybox(args.model, args.pipeline), load(args.latents), np.random.default_rng([args.seed, 4])
    drawn = [make_clip(rng, family=f, held=True) for f, n in zip(FAMILIES, args.clips, strict=True) for _ in range(n)]
    captions, start, videos = [text for _, text, _ in drawn], time.process_time(), []
    for i in range(0, len(captions), args.batch):
        part = toybox.clips(captions[i : i + args.batch], args.steps, args.guidance, seed=args.seed * 1000 + i)
        videos.append(toybox.decode(part))
    seconds = time.process_time() - start
    truth = torch.from_numpy(encode(np.stack([frames for frames, _, _ in drawn]), basis)).permute(0, 4, 1, 2, 3)
    videos = np.concatenate(videos)
    result = {
        "guidance": args.guidance, "steps": args.steps, "seed": args.seed, "clips": len(captions),
        "core_seconds": round(seconds), "model": summary(videos, captions),
        "ceiling": summary(toybox.decode(truth), captions),
    }  # fmt: skip
    text = json.dumps(result, indent=1, default=float)
    text = json.dumps(json.loads(text, parse_float=lambda number: round(float(number), 3)), indent=1)
    print(text)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(text + "\n")
    if args.sheet:
        firsts = np.cumsum([0, *args.clips])
        rows = [videos[a + i] for a, n in zip(firsts, args.rows, strict=False) for i in range(n)]
        save_sheet(rows, args.sheet)


if __name__ == "__main__":
    main()
