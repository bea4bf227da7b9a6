"""Score clips of held-out captions with the checker, attribute by attribute; JSON and a contact sheet.

python -m journeys.score --model work/base --json work/score.json --sheet work/score.png
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sheets import save_sheet

from journeys import checker
from journeys.model import Journeys
from journeys.words import ATTRIBUTES, caption, draw_labels


def summary(videos: np.ndarray, captions: list[str]) -> dict[str, float]:
    """Mean score, share of right clips per attribute, speed."""
    scores = [checker.score(video, text) for video, text in zip(videos, captions, strict=True)]
    shares = {name: float(np.mean([s[name] for s in scores if name in s])) for name in ATTRIBUTES}
    speeds = [float(checker.read(video)["speed"]) for video in videos]
    return {"score": checker.mean_score(scores), **shares, "speed": float(np.mean(speeds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="work/base", help="training folder or pipeline folder")
    add("--tokenizer", default="work/tokenizer")
    add("--vae", default="work/vae/folder")
    add("--clips", type=int, default=64)
    add("--batch", type=int, default=8)
    add("--steps", type=int, default=16)
    add("--scale", type=float, default=1.0, help="guidance")
    add("--seed", type=int, default=0)
    add("--json")
    add("--sheet")
    args = parser.parse_args()
    model, rng = Journeys(args.model, args.tokenizer, args.vae), np.random.default_rng([args.seed, 4])
    captions = [caption(draw_labels(rng, held=True), rng) for _ in range(args.clips)]
    videos = np.concatenate([
        model.decode(model.clips(captions[i : i + args.batch], args.steps, seed=args.seed * 1000 + i, scale=args.scale))
        for i in range(0, args.clips, args.batch)])  # fmt: skip
    result = {name: round(value, 3) for name, value in summary(videos, captions).items()}
    result |= {"clips": args.clips, "steps": args.steps, "scale": args.scale}
    print(json.dumps(result, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if args.sheet:
        save_sheet([video[::2] for video in videos[:16]], args.sheet, 8)


if __name__ == "__main__":
    main()
