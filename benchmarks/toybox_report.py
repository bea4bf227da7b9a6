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

from fifo_diffusion.evaluation.frechet import jackknife

IMAGES = common.RESULTS.parent / "images"
PICTURES = ("frames-0", "frames-1", "fvd-over-time-real", "fvd-over-time-real-10000", "memory")
MEASURES = ("score", "motion", "flicker", "jerk", "jitter", "cuts", "scene_cuts")
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


def tables(document: dict[str, Any]) -> str:
    """Those of docs/evaluation.md."""
    results, space = document["results"], document["results"]["frechet"]["space"]
    columns = [("FVD real", f"FVD ({space}) to real clips"), ("FVD base", f"FVD ({space}) to base clips")]
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
        [row, *(f"{own[name][0]:+.2g} ± {own[name][1]:.1g}" if name in own else "" for name in names)]
        for row, own in changes.items()
    ]
    cost: dict[str, dict[int, dict[str, Any]]] = {}
    for line in results["cost"]:
        cost.setdefault(line["method"], {})[line["frames"]] = line
    lengths = sorted({line["frames"] for line in results["cost"]})
    kinds = ("beyond loading", "s per frame", "first frame, s")
    costs = [
        [row, *(f"{own[n][kind]:.3g}" if kind in own.get(n, {}) else "" for kind in kinds for n in lengths)]
        for row, own in cost.items()
    ]
    heads = [f"{kind}, {n} frames" for kind in ("MB", "s per frame", "first frame, s") for n in lengths]
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
    report = {"note": given.note} | report | {"against_fifo": against_first(given.folder, report)}
    path = common.RESULTS / "toybox_report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    for name in PICTURES:
        with Image.open(given.folder / "figures" / f"{name}.png") as picture:
            picture.convert("RGB").quantize(256).save(IMAGES / f"report-{name}.png", optimize=True)
    print(tables(report))


if __name__ == "__main__":
    main()
