"""The pictures of the documentation, made by the embedded model, and what can be measured on them.

python benchmarks/pictures.py endless    # docs/images/endless.png: frames of the demo's videos
python benchmarks/pictures.py continue   # docs/images/continue.png, docs/results/continue.json: image start, seam
python benchmarks/pictures.py change     # docs/images/prompt-change.png: the three ways to change a prompt
python benchmarks/pictures.py ablation   # docs/images/ablation.png: the method, part by part

The prompt change of `change` comes in the middle of its videos.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import common
import numpy as np
from PIL import Image

IMAGES = common.IMAGES
DEMO = {"num_partitions": 2, "seed": 0}
ENDLESS = {
    "a red robot walking to the right in the hills on a sunny day": 160,
    "mountains scrolling to the left at sunset": 160,
    "a yellow ball moving right on a navy background": 160,
}


def sheet(rows: Iterable[Sequence[np.ndarray]], name: str, scale: int = 1) -> None:
    """Rows of frames (H, W, 3) as one PNG, with white lines between."""
    lined = [np.concatenate([np.pad(f, ((1, 1), (1, 1), (0, 0)), constant_values=255) for f in row], 1) for row in rows]
    picture = np.concatenate(lined).repeat(scale, 0).repeat(scale, 1)
    IMAGES.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(IMAGES / f"{name}.png", optimize=True)
    print(f"wrote {IMAGES / name}.png")


def endless(fifo) -> None:
    """16 frames spread over a video, then 16 in a row from its end."""
    rows = []
    for prompt, count in ENDLESS.items():
        frames = list(fifo.stream(prompt, num_frames=count, **DEMO))
        rows += [frames[:: count // 16][:16], frames[-16:]]
    sheet(rows, "endless")


def differences(frames: Sequence[np.ndarray]) -> list[float]:
    """Mean absolute difference between neighbours, in grey levels of 255."""
    return [float(np.abs(a.astype(int) - b).mean()) for a, b in pairwise(frames)]


def continued(fifo) -> None:
    """A video file goes on, and pictures start to move; the step across the seam against all others."""
    from fifo_diffusion import write_video

    rows, results = [], []
    for prompt in ENDLESS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "first.mp4"
            write_video(path, fifo.stream(prompt, num_frames=32, **DEMO))
            whole = list(fifo.stream(prompt, num_frames=64, start=path, include_start=True, **DEMO | {"seed": 7}))
            runs = [("continued video", whole, 31)]
            for picture, seed in product((20, 44), (8, 9)):
                path = Path(folder) / "picture.png"
                Image.fromarray(whole[picture]).save(path)
                call = DEMO | {"start": path, "include_start": True, "seed": seed}
                runs.append(("start from a picture", list(fifo.stream(prompt, num_frames=33, **call)), 0))
        rows += [whole[24:40], runs[1][1][:16], runs[-1][1][:16]]
        for kind, frames, seam in runs:
            steps = differences(frames)
            others = steps[:seam] + steps[seam + 1 :]
            results.append(
                {
                    "prompt": prompt,
                    "kind": kind,
                    "seam": round(steps[seam], 3),
                    "others_lowest": round(min(others), 3),
                    "others_median": round(float(np.median(others)), 3),
                    "others_highest": round(max(others), 3),
                    "within_range": min(others) <= steps[seam] <= max(others),
                }
            )
            print(results[-1])
    sheet(rows, "continue")
    for kind in ("continued video", "start from a picture"):
        runs = [run for run in results if run["kind"] == kind]
        print(kind, sum(run["within_range"] for run in runs), "of", len(runs), "within the range of the other steps")
    common.write("continue", {"unit": "mean absolute difference of neighbouring frames, of 255", "runs": results})


def change(fifo, count: int = 96) -> None:
    """The prompt changes half-way: at the tail, in the whole queue, and blended from frame 0 on."""
    keys = {0: "a red robot walking to the right in the hills on a sunny day"}
    keys[count // 2] = "a blue robot walking to the right in the desert at sunset"
    rows = []
    for way in ("tail", "queue", "blend"):
        frames = list(fifo.stream(keys, num_frames=count, prompt_change=way, **DEMO))
        rows.append(frames[:: max(1, count // 16)])
    sheet(rows, "prompt-change")


def ablation(fifo) -> None:
    """Three rows for each prompt: the diagonal alone, in partitions, with lookahead; every fourth frame."""
    settings = [{"num_partitions": 1, "lookahead": False}, {"num_partitions": 2, "lookahead": False}, {}]
    rows = []
    for prompt in list(ENDLESS)[::2]:
        for setting in settings:
            frames = list(fifo.stream(prompt, num_frames=96, **DEMO | setting))
            rows.append(frames[32::4])
    sheet(rows, "ablation")


def main() -> None:
    makers = {"endless": endless, "continue": continued, "change": change, "ablation": ablation}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=makers, default=[])
    parser.add_argument("--frames", type=int, help="of each video of `change`")
    given = parser.parse_args()
    makers["change"] = partial(change, **({"count": given.frames} if given.frames else {}))
    from fifo_diffusion import FIFO

    fifo = FIFO.from_pretrained("toybox")
    for what in given.what or makers:
        makers[what](fifo)


if __name__ == "__main__":
    sys.exit(main())
