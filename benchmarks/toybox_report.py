"""The small form of the report of all methods on toybox: docs/results/toybox_report.json, its pictures in docs/images,
and on the screen the tables of docs/evaluation.md.

    fifo-diffusion evaluate --config benchmarks/toybox_report.json -o report/
    python benchmarks/toybox_report.py report/

Besides what the report holds, the difference of each row to FIFO with lookahead is worked out over the prompts, which
(and whose seeds) are the same: for means with its standard error, for Fréchet distances by the jackknife.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from fifo_diffusion import FIFO
from fifo_diffusion.baselines import sampler_of
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.evaluation.metrics.frechet import jackknife
from fifo_diffusion.study.checks import ROW_KEYS

IMAGES = common.RESULTS.parent / "images"
PICTURES = ("frames-0", "frames-1", "fvd-over-time-real", "fvd-over-time-real-10000", "memory")
MEASURES = ("score", "flicker", "jerk", "jitter", "motion", "scene_cuts")
FIRST = "fifo"


def against_first(folder: Path, report: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """{row: {measure: [mean difference to FIFO, standard error]}} of rows with the same prompts."""
    results = report["results"]
    rows, found = results["quality"], {}
    for row in rows:
        if row == FIRST or (rows[row]["videos"], rows[row]["frames"]) != (rows[FIRST]["videos"], rows[FIRST]["frames"]):
            continue
        prompts = range(rows[row]["videos"])
        own, first = (
            [json.loads((folder / "parts" / f"measures-{name}-{k:03d}.json").read_text()) for k in prompts]
            for name in (row, FIRST)
        )
        found[row] = {}
        for name in MEASURES:
            pairs = [(a[name], b[name]) for a, b in zip(own, first, strict=True) if name in a and name in b]
            if pairs:
                change = np.subtract(*np.array(pairs, dtype=float).T)
                found[row][name] = [float(change.mean()), float(change.std(ddof=1) / len(change) ** 0.5)]
        for kind, left_out in results["frechet"]["without_each_prompt"].items():
            label = f"FVD ({results['frechet']['space']}) to {kind} clips"
            error = jackknife(np.subtract(left_out[row], left_out[FIRST]))
            found[row][f"FVD to {kind} clips"] = [rows[row][label] - rows[FIRST][label], error]
    return {row: {name: [round(x, 4) for x in pair] for name, pair in own.items()} for row, own in found.items()}


def table(head: list[str], lines: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]) + "\n"


def forwards(fifo: FIFO, row: dict[str, Any], count: int) -> float:
    """Frames sent through the U-Net for each frame of a video of so many, without guidance; FIFO's in the long run."""
    given = {name: value for name, value in row.items() if name not in ("method", *ROW_KEYS)}
    if row["method"] == "fifo":
        layout = fifo.layout(num_partitions=given["num_partitions"], lookahead=given["lookahead"])
        return layout.frame_forwards_per_frame
    settings = BaselineSettings.collect(fifo.model, row["method"], num_frames=count, **given)
    return sampler_of(row["method"]).frames_per_step(settings) * settings.num_inference_steps / count


def tables(document: dict[str, Any]) -> str:
    """Those of docs/evaluation.md."""
    results, space = document["results"], document["results"]["frechet"]["space"]
    fifo, config = FIFO.from_pretrained(document["config"]["model"]), document["config"]["rows"]
    columns = [(f"FVD, {kind} clips", f"FVD ({space}) to {kind} clips") for kind in ("real", "base")]
    columns += [(name, name) for name in MEASURES]

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row:
            return ""
        error = f" ± {row[name + '_se']:.2g}" if row.get(name + "_se") else ""
        return f"{row[name]:.3g}{error}"

    quality = [
        [f"{name} ({row['videos']} x {row['frames']:,.0f})", *(cell(row, key) for _, key in columns)]
        for name, row in results["quality"].items()
    ]
    changes = document["against_fifo"]
    names = list(dict.fromkeys(name for own in changes.values() for name in own))
    differences = [
        [row, *(f"{own[name][0]:+.2g} ± {own[name][1]:.2g}" if any(own[name]) else "0" for name in names)]
        for row, own in changes.items()
    ]
    cost: dict[str, list[dict[str, Any]]] = {}
    for line in results["cost"]:
        cost.setdefault(line["method"], []).append(line)
    kinds = {"beyond loading": ".0f", "s per frame": ".2f", "first frame, s": ".0f"}
    costs = [
        [row, f"{forwards(fifo, config[row], own[-1]['frames']):.0f}"]
        + [" / ".join(f"{line[kind]:{form}}" for line in own) for kind, form in kinds.items()]
        for row, own in cost.items()
    ]
    heads = ["frame-forwards per frame", "MB beyond loading", "s per frame", "first frame, s"]
    return "\n".join(
        [
            table(["row (videos x frames)", *(name for name, _ in columns)], quality),
            table(["less FIFO", *names], differences),
            table(["row", *heads], costs),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the report")
    parser.add_argument("--note", default="", help="how it was measured")
    given = parser.parse_args()
    report = json.loads((given.folder / "report.json").read_text())
    making = {
        row: json.loads((given.folder / "parts" / f"videos-{row}.json").read_text())
        for row in report["results"]["quality"]
    }
    report = {"note": given.note} | report
    report |= {"against_fifo": against_first(given.folder, report), "making_videos_in_the_last_run": making}
    path = common.RESULTS / "toybox_report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    for name in PICTURES:
        with Image.open(given.folder / "figures" / f"{name}.png") as picture:
            picture.convert("RGB").quantize(256).save(IMAGES / f"report-{name}.png", optimize=True)
    print(tables(report))


if __name__ == "__main__":
    main()
