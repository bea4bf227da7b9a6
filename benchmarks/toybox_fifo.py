"""Long FIFO videos of the embedded model, scored slice by slice: does anything drift, does anything stop?

    python benchmarks/toybox_fifo.py run --share 0 2 & python benchmarks/toybox_fifo.py run --share 1 2
    python benchmarks/toybox_fifo.py score
    python benchmarks/toybox_fifo.py run --out work/band-13 --lookahead banded --band 13      (and windows, 9, 11, 12)
    python benchmarks/toybox_fifo.py look --folders work/fifo work/band-* --share 0 2 --frames 200 --name toybox_bands
    python benchmarks/toybox_fifo.py score --out work/band-13 --lookahead banded --band 13 --name toybox_fifo_banded
    python benchmarks/toybox_fifo.py compare --name toybox_fifo_banded       (with toybox_fifo, video by video)

`run` makes 2,000 frames for each of eight captions that name combinations never trained on (three shapes, two
landscapes, three robots), all captions of a share as one batch. Frames and state are written every 100 frames into
--out; the same command goes on where it was stopped. `score` reads them and writes docs/results/NAME.json and
docs/images/NAME.png.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, write
from pictures import sheet

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.evaluation.metrics.jerk import jerk
from fifo_diffusion.evaluation.metrics.toybox import drift
from fifo_diffusion.layout_list import LAYOUTS
from fifo_diffusion.method.layouts import partitions
from fifo_diffusion.toybox.world import caption, draw_labels

FAMILIES = ("shape", "landscape", "robot", "shape", "robot", "shape", "landscape", "robot")
NUM_PARTITIONS = 2
LOOKAHEAD = {"yes": True, "no": False, "banded": "banded"}
SLICE = 100
MEASURES = ("score", "speed", "flicker", "jitter", "jerk")


def captions(seed: int = 5) -> list[str]:
    """Eight held-out captions."""
    rng, drawn = np.random.default_rng(seed), {}
    for family in FAMILIES:
        labels = draw_labels(rng, family, held=True)
        while tuple(labels.values()) in drawn:
            labels = draw_labels(rng, family, held=True)
        drawn[tuple(labels.values())] = caption(labels, rng)
    return list(drawn.values())


def setting(lookahead: str) -> dict[str, Any]:
    """Arguments of the stream."""
    return {"num_partitions": NUM_PARTITIONS, "lookahead": LOOKAHEAD[lookahead]}


def choose_band(band: str) -> None:
    """Another band for every stream. Streams have no such argument: which band is best is for studies like this one."""
    number = int(band) if band.isdigit() else band
    banded = replace(LAYOUTS["partitions"], make=lambda settings: replace(partitions(settings), band=number))
    LAYOUTS["partitions"] = banded


def run(
    out: Path, share: tuple[int, int], frames: int, model: str, precision: str, compiled: bool, lookahead: str
) -> None:
    """Make the videos of one share, or go on with them."""
    torch.set_num_threads(1)
    numbers = range(share[0], len(FAMILIES), share[1])
    pipe = FIFO.from_pretrained(model, dtype=getattr(torch, precision)).pipe
    if compiled:
        torch._dynamo.config.cache_size_limit = 64
        pipe.unet.compile()
    fifo, saved = FIFO(pipe), out / f"state-{share[0]}-{share[1]}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    prompts = [captions()[k] for k in numbers]
    if saved.exists():
        stream = fifo.stream(start=RunState.load(saved), num_frames=frames)
    else:
        stream = fifo.stream(prompts, seed=list(numbers), num_frames=frames, windows_per_batch=1, **setting(lookahead))
    files = [out / f"video-{k}.rgb" for k in numbers]
    for file in files:  # what was written after the last state is made again
        file.touch()
        os.truncate(file, stream.frame_index * 64 * 64 * 3)
    handles = [file.open("ab") for file in files]
    for pictures in stream:
        for handle, picture in zip(handles, pictures, strict=True):
            handle.write(picture.tobytes())
        if stream.frame_index % SLICE == 0:
            for handle in handles:
                handle.flush()
            stream.state().save(saved)
            print(f"{stream.frame_index} of {frames} frames", flush=True)


def frames_of(out: Path, k: int) -> np.ndarray:
    """A video that `run` has made, or what is there of it."""
    return np.fromfile(out / f"video-{k}.rgb", np.uint8).reshape(-1, 64, 64, 3)


def slices_of(frames: np.ndarray, text: str) -> list[dict[str, float]]:
    """All measures, slice by slice."""
    slices = drift(frames, text, SLICE)
    for number, row in enumerate(slices):
        row["jerk"] = jerk(frames[number * SLICE : (number + 1) * SLICE])
    return slices


def score(out: Path, precision: str, compiled: bool, lookahead: str, band: str | None, name: str) -> None:
    """Table, JSON and contact sheet of what `run` has made."""
    base = json.loads((RESULTS / "toybox_clips.json").read_text())["model"]
    videos, rows = [], []
    for k, text in enumerate(captions()):
        frames = frames_of(out, k)
        slices = slices_of(frames, text)
        videos.append((text, slices))
        rows.append([*frames[:: max(1, len(frames) // 16)][:16]])
        first, last = slices[0], slices[-1]
        speed = float(np.mean([s["speed"] for s in slices]))
        print(f"{text:70} first {first['score']:.2f} last {last['score']:.2f} speed {speed:.2f}")
    count = min(len(slices) for _, slices in videos)
    table = np.array([[s["score"] for s in slices[:count]] for _, slices in videos])
    speeds = np.array([[s["speed"] for s in slices[:count]] for _, slices in videos])
    change = table[:, -1] - table[:, 0]
    result = {
        "frames": count * SLICE,
        "setting": setting(lookahead) | {"band": band, "precision": precision, "compiled": compiled},
        "score_first_100": round(float(table[:, 0].mean()), 4),
        "score_last_100": round(float(table[:, -1].mean()), 4),
        "change": round(float(change.mean()), 4),
        "change_se": round(float(change.std(ddof=1) / len(change) ** 0.5), 4),
        "score_of_slices": [round(float(v), 4) for v in table.mean(0)],
        "speed": round(float(speeds.mean()), 4),
        "speed_se": round(float(speeds.mean(1).std(ddof=1) / len(speeds) ** 0.5), 4),
        "speed_last_100": round(float(speeds[:, -1].mean()), 4),
        "speed_of_base_clips": round(base["speed"], 4),
        "videos": [
            {"caption": text, "slices": [{k: round(float(v), 4) for k, v in s.items()} for s in slices]}
            for text, slices in videos
        ],
    }
    print({key: value for key, value in result.items() if key != "videos"})
    write(name, result)
    sheet(rows, name)


def compare(name: str) -> None:
    """Means over the videos of two settings, and of their differences video by video, added to the JSON of the one.

    Where one of the two is shorter, both are compared over its length."""
    path = RESULTS / f"{name}.json"
    ours, others = (json.loads((RESULTS / f"{n}.json").read_text()) for n in (name, "toybox_fifo"))
    assert [v["caption"] for v in ours["videos"]] == [v["caption"] for v in others["videos"]]
    count = min(len(result["videos"][0]["slices"]) for result in (ours, others))
    found: dict[str, Any] = {"frames": count * SLICE}
    for measure in MEASURES:
        mine, theirs = (
            np.array([np.mean([row[measure] for row in video["slices"][:count]]) for video in result["videos"]])
            for result in (ours, others)
        )
        values = {"mean": mine, "mean_of_lookahead": theirs, "difference": mine - theirs}
        found[measure] = {key: round(float(value.mean()), 4) for key, value in values.items()}
        found[measure]["difference_se"] = round(float((mine - theirs).std(ddof=1) / len(mine) ** 0.5), 4)
        print(measure, found[measure])
    path.write_text(json.dumps(ours | {"against_lookahead": found}, indent=1) + "\n")


def look(folders: list[Path], share: tuple[int, int], frames: int, name: str) -> None:
    """A first look at several settings: means over the first frames of one share, and their distance from those in the
    first of the folders, video by video."""
    texts, rows, first = captions(), {}, None
    numbers = range(share[0], len(FAMILIES), share[1])
    for folder in folders:
        videos = [slices_of(frames_of(folder, k)[:frames], texts[k]) for k in numbers]
        table = np.array([[np.mean([s[measure] for s in slices]) for measure in MEASURES] for slices in videos])
        first = table if first is None else first
        errors = (table - first).std(0, ddof=1) / len(table) ** 0.5
        rows[folder.name] = {
            measure: dict(zip(("mean", "difference", "difference_se"), np.round(values, 4).tolist(), strict=True))
            for measure, *values in zip(MEASURES, table.mean(0), (table - first).mean(0), errors, strict=True)
        }
        print(folder.name, rows[folder.name])
    write(name, {"frames": frames, "captions": [texts[k] for k in numbers], "settings": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "score", "compare", "look"))
    parser.add_argument("--out", type=Path, default=Path("work/fifo"))
    parser.add_argument("--share", type=int, nargs=2, default=(0, 1), metavar=("K", "OF"), help="which captions")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--compile", action="store_true", help="a tenth faster on a CPU, after two minutes")
    parser.add_argument("--lookahead", choices=LOOKAHEAD, default="yes")
    parser.add_argument("--band", metavar="C", help='if banded: "windows", or how many cleaner slots a slot sees')
    parser.add_argument("--folders", type=Path, nargs="*", help="what to look at, the first to compare with")
    parser.add_argument("--name", default="toybox_fifo", help="of what score writes")
    args = parser.parse_args()
    if args.band:
        choose_band(args.band)
    if args.what == "run":
        run(args.out, tuple(args.share), args.frames, args.model, args.precision, args.compile, args.lookahead)
    elif args.what == "compare":
        compare(args.name)
    elif args.what == "look":
        look(args.folders, tuple(args.share), args.frames, args.name)
    else:
        score(args.out, args.precision, args.compile, args.lookahead, args.band, args.name)


if __name__ == "__main__":
    main()
