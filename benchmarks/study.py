"""Settings of FIFO on toybox side by side: the same captions and seeds for all, frames counted after the queue is full.

    python benchmarks/study.py make benchmarks/study_levels.json work/    # in as many processes as there are cores
    python benchmarks/study.py report benchmarks/study_levels.json work/  # docs/results/study_levels.json, a table
    python benchmarks/study.py table docs/results/study_levels.json       # its tables, in Markdown

A configuration names a model, captions, how many frames are counted, and rows: settings of a stream each. The videos of
four captions are made in one batch; a task that is done is kept in the folder, and what was stopped goes on when the
same is typed again. A report keeps the rows of an earlier one whose videos are not in the folder, and says which. Work
is counted where it is done: frames that went through the U-Net, opening clip, filling and guidance included.

Measured are those of `fifo_diffusion.evaluation.metrics`, the Fréchet distance (toybox-32) to real clips of the same
captions, and how alike clips of 16 frames are at a distance: the mean cosine of their features, less the mean feature
of all real clips. Errors are standard errors over captions; those of Fréchet distances are of the jackknife.
"""

import argparse
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from PIL import Image

from fifo_diffusion import FIFO
from fifo_diffusion.evaluation import figures
from fifo_diffusion.evaluation.metrics import METRICS, frechet
from fifo_diffusion.toybox import checker, world

AT_ONCE = 4  # videos in a batch
MEASURES = ("motion", "flicker", "jerk", "cuts", "toybox")
SHOWN = ("score", "score_last", "flicker", "jerk", "jitter", "motion", "cuts")
DISTANCES = (16, 20, 50, 100, 200, 500)
REAL_CLIPS = 4 * world.PERIOD
SHEET = 12  # frames of each row on the contact sheet


class Config:
    """A configuration, with what follows from it."""

    def __init__(self, path: Path) -> None:
        values = json.loads(path.read_text())
        self.name, self.values = path.stem, values
        self.model, self.first = values["model"], values["first"]
        self.rows: dict[str, dict[str, Any]] = values["rows"]

    def of(self, row: str, name: str) -> Any:
        """A value of a row's own ("model", "captions", "frames", "seed"), or that of all."""
        return self.rows[row].get(name, self.values.get(name))

    def captions(self, row: str) -> list[str]:
        return self.values["captions"][: self.of(row, "num_captions")]

    def settings(self, row: str) -> dict[str, Any]:
        return self.rows[row]["settings"]

    def tasks(self, folder: Path) -> list[tuple[str, int, Path]]:
        """(row, number of its first caption, file), in the order of the configuration."""
        return [
            (row, k, folder / f"{row}-{k:03d}.npz")
            for row in self.rows
            for k in range(0, len(self.captions(row)), AT_ONCE)
        ]


# ---------------------------------------------------------------------------- making


def make(config: Config, folder: Path) -> None:
    """All tasks that are not done and that no other process is at."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded: dict[str, FIFO] = {}
    for row, first, path in config.tasks(folder):
        with mine(path) as free:
            if not free or path.exists():
                continue
            model = config.of(row, "model")
            if model not in loaded:
                loaded[model] = FIFO.from_pretrained(model, dtype=getattr(torch, config.values["dtype"]))
            captions = config.captions(row)[first : first + AT_ONCE]
            seeds = [config.values["seed"] + first + k for k in range(len(captions))]
            found = videos(loaded[model], captions, seeds, config.of(row, "frames"), config.settings(row))
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, **found)
            partial.rename(path)
            print(f"{path.stem}: {found['forwards']:.0f} frame-forwards", flush=True)


@contextmanager
def mine(path: Path) -> Iterator[bool]:
    """Whether no other process is at this task."""
    with path.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def videos(
    fifo: FIFO, captions: list[str], seeds: list[int], count: int, settings: dict[str, Any]
) -> dict[str, np.ndarray | float]:
    """Measures, features and a few frames of a batch of videos, and the work of each."""
    work = Work(fifo)
    with work, fifo.stream(captions, seed=seeds, **settings) as stream:
        layout = stream.settings.queue_layout
        skipped = layout.frames + layout.slots  # the opening clip, and what was in the queue with it
        frames = np.stack(list(islice(stream, skipped, skipped + count)), 1)
    space, measures, features = frechet.SmallFeatures(), [], []
    for video, caption in zip(frames, captions, strict=True):
        measures.append(measured(video, caption))
        features.append(frechet.features_of(space, video).astype(np.float32))
    return {
        "measures": np.array(json.dumps(measures)),
        "features": np.stack(features),
        "shown": frames[:, :: max(1, count // SHEET)][:, :SHEET],
        "forwards": work.frames / len(captions) / (skipped + count),
    }


def measured(video: np.ndarray, caption: str) -> dict[str, Any]:
    """All measures of one video."""
    return {key: value for name in MEASURES for key, value in METRICS[name].load({})(video, caption).items()}


class Work:
    """Counts frames that go through the U-Net."""

    def __init__(self, fifo: FIFO) -> None:
        self.frames, self._unet = 0, fifo.pipe.unet

    def __enter__(self) -> "Work":
        self._hook = self._unet.register_forward_pre_hook(self._count, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _count(self, _: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows, _, frames, *_ = (given[0] if given else named["sample"]).shape
        self.frames += rows * frames


# ---------------------------------------------------------------------------- reporting


class Real:
    """Features of real clips of each caption."""

    def __init__(self, captions: list[str]) -> None:
        space, starts = frechet.SmallFeatures(), np.arange(REAL_CLIPS) * world.PERIOD / REAL_CLIPS
        self.of: dict[str, np.ndarray] = {}
        for caption in captions:
            labels = checker.parse(caption)
            clips = np.stack([world.render(labels, start, frechet.CLIP) for start in starts])
            self.of[caption] = np.concatenate([space(clips[k : k + 32]) for k in range(0, len(clips), 32)])
        self.mean = np.concatenate(list(self.of.values())).mean(0)


def report(config: Config, folder: Path) -> None:
    """The JSON, the contact sheet and the table of what is done."""
    done: dict[str, dict[str, Any]] = {}
    before = reported(config)
    for row in config.rows:
        paths = [path for own, _, path in config.tasks(folder) if own == row]
        if not all(path.exists() for path in paths):
            print(f"{row}: {'kept as reported' if row in before else 'not done'}")
            continue
        parts = [np.load(path) for path in paths]
        done[row] = {
            "measures": [each for part in parts for each in json.loads(str(part["measures"]))],
            "features": [video.astype(float) for part in parts for video in part["features"]],
            "shown": np.concatenate([part["shown"] for part in parts]),
            "forwards": float(np.mean([part["forwards"] for part in parts])),
        }
    if not done:
        raise SystemExit(f"{folder}: no row is done; first type  python benchmarks/study.py make ...")
    real = Real(config.values["captions"][: max(len(config.captions(row)) for row in done)])
    for row, own in done.items():
        own["coherence"] = [coherence(video, real.mean) for video in own["features"]]
        clips = [real.of[caption] for caption in config.captions(row)]
        own["without"] = frechet.without_each(clips, own["features"]) if len(clips) > 1 else []
        own["distance"] = frechet.frechet_distance(np.concatenate(clips), np.concatenate(own["features"]))
    rows = before | {row: summary(config, row, done) for row in done}
    rows = {row: rows[row] for row in config.rows if row in rows}
    found = {"config": config.values, "rows": rows, "real videos": real_videos(config)}
    common.write(config.name, found)
    print(table(found))
    if before.keys() - done.keys():
        return  # their frames are not here for the sheet
    chosen = config.values.get("sheet_rows", list(config.rows))
    sheet = figures.sheet(
        {
            f"{row}, {k + 1}": list(done[row]["shown"][k])
            for k in config.values.get("sheet", [0])
            for row in chosen
            if row in done
        }
    )
    sheet.savefig(pixels := BytesIO(), dpi=70)
    common.IMAGES.mkdir(parents=True, exist_ok=True)
    with Image.open(pixels) as picture:
        path = common.IMAGES / f"{config.name.replace('_', '-')}.png"
        picture.convert("RGB").quantize(128).save(path, optimize=True)


def real_videos(config: Config) -> dict[str, Any]:
    """Measures of what the world itself renders for the captions of all rows: what a perfect model would have."""
    captions, frames = config.values["captions"][: config.values.get("num_captions")], config.values["frames"]
    found = []
    for caption in captions:
        found.append(measured(world.render(checker.parse(caption), 0, frames), caption))
    values = {name: [each[name] for each in found if name in each] for name in SHOWN}
    return {"captions": len(captions), "frames": frames} | {name: with_error(v) for name, v in values.items() if v}


def reported(config: Config) -> dict[str, dict[str, Any]]:
    """Rows of an earlier report with the same captions, frames and settings; each says where and when it was made."""
    path = common.RESULTS / f"{config.name}.json"
    if not path.exists():
        return {}
    results = json.loads(path.read_text())
    old, new = results["config"], config.values
    if any(old.get(name) != new[name] for name in new if name not in ("rows", "sheet", "sheet_rows")):
        return {}
    made = {"made": {name: results[name] for name in ("date", "hardware")}}
    same = [row for row in results["rows"] if old["rows"][row] == config.rows.get(row)]
    return {row: made | results["rows"][row] for row in same}


def coherence(features_ND: np.ndarray, mean_D: np.ndarray) -> dict[str, float]:
    """Mean cosine of the features of clips that begin so many frames apart."""
    unit = features_ND - mean_D
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return {str(d): float((unit[d:] * unit[:-d]).sum(1).mean()) for d in DISTANCES if d < len(unit) - d // 4}


def summary(config: Config, row: str, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means with standard errors, and how they differ from the first row's over the same captions."""
    own, first = done[row], done.get(config.of(row, "against") or config.first)
    found: dict[str, Any] = {"settings": config.settings(row), "captions": len(own["measures"])}
    found |= {"frames": config.of(row, "frames"), "frame_forwards_per_frame": round(own["forwards"], 2)}
    values = {name: [each[name] for each in own["measures"] if name in each] for name in SHOWN}
    values |= {f"coherence at {d}": [each[d] for each in own["coherence"]] for d in own["coherence"][0]}
    found |= {name: with_error(each) for name, each in values.items() if each}
    found["FVD to real clips"] = [round(own["distance"], 3)]
    if own["without"]:
        found["FVD to real clips"].append(round(frechet.jackknife(own["without"]), 3))
    slices = [each["score_slices"] for each in own["measures"] if "score_slices" in each]
    if config.of(row, "frames") > 2000:
        tenths = np.array_split(np.mean(slices, 0), 10)
        found["score by tenths"] = [round(float(part.mean()), 4) for part in tenths]
    if first is None or first is own or len(first["measures"]) != len(own["measures"]):
        return found
    theirs = {name: [each[name] for each in first["measures"] if name in each] for name in SHOWN}
    theirs |= {f"coherence at {d}": [each[d] for each in first["coherence"]] for d in first["coherence"][0]}
    found["less_first"] = {
        name: with_error(list(np.subtract(each, theirs[name])))
        for name, each in values.items()
        if each and len(each) == len(theirs.get(name, ()))
    }
    if own["without"]:
        error = frechet.jackknife(list(np.subtract(own["without"], first["without"])))
        found["less_first"]["FVD to real clips"] = [round(own["distance"] - first["distance"], 3), round(error, 3)]
    return found


def table(results: dict[str, Any]) -> str:
    """Of the docs, in Markdown: means with standard errors."""
    rows = results["rows"]
    names = ("score", "FVD to real clips", "flicker", "jitter", "jerk", "motion")
    cells = [["row", "captions x frames", "frame-forwards per frame", *names]]
    for row, own in rows.items():
        counts = [f"{own['captions']} x {own['frames']:,}", f"{own['frame_forwards_per_frame']:.1f}"]
        cells.append([row, *counts, *(" ± ".join(f"{value:.3g}" for value in own.get(name, ())) for name in names)])
    if real := results.get("real videos"):
        counts = [f"{real['captions']} x {real['frames']:,}", ""]
        cells.append(["real videos", *counts, *(" ± ".join(f"{v:.3g}" for v in real.get(name, ())) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in [cells[0], ["---"] * len(cells[0]), *cells[1:]])


def coherences(results: dict[str, Any]) -> str:
    """Of the docs, in Markdown: how alike clips are that begin so many frames apart, of each row."""
    rows = {
        row: {n: own[f"coherence at {n}"] for n in DISTANCES if f"coherence at {n}" in own}
        for row, own in results["rows"].items()
    }
    distances = list(next(iter(rows.values())))
    lines = [["frames apart", *map(str, distances)], ["---"] * (1 + len(distances))]
    lines += [[row, *(" ± ".join(f"{value:.3f}" for value in own[n]) for n in distances)] for row, own in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_error(values: list[float]) -> list[float]:
    """[mean, standard error]; the mean alone of one value."""
    mean = round(float(np.mean(values)), 4)
    return [mean, round(float(np.std(values, ddof=1) / len(values) ** 0.5), 4)] if len(values) > 1 else [mean]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "report", "table"])
    parser.add_argument("config", type=Path, help="of the study; for a table, its results")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("work"), help="of the tasks that are done")
    given = parser.parse_args()
    if given.what == "table":
        results = json.loads(given.config.read_text())
        print(table(results), coherences(results), sep="\n\n")
    else:
        {"make": make, "report": report}[given.what](Config(given.config), given.folder)


if __name__ == "__main__":
    main()
