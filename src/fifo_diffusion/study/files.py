"""The drift of videos that are there: any files, made by whatever made them."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.errors import Setting, UserError, usage
from fifo_diffusion.evaluation.drift_file import DriftFile, is_drift_file, read_drift
from fifo_diffusion.evaluation.report import Section, write_html
from fifo_diffusion.evaluation.whole_files import load_object, write_text
from fifo_diffusion.text import one_line
from fifo_diffusion.video import VideoFileError, iter_frames

NOTE = (
    "coherence: cosine of single frames, as stills in the feature space toybox-32, 2 to 500 frames apart, the mean "
    "over distances; colour_trend: slope of the mean colour over time, levels of 255 in 100 frames; contrast_trend: of "
    "the deviations over the picture; flicker: root mean square second difference of the mean colour; motion: mean "
    "length of the optical flow, pixels per frame; change: mean absolute difference from frame to frame; cuts: abrupt "
    "changes"
)


def measure_files(options: Mapping[str, Any], tell: Callable[[str], None] = lambda _: None) -> tuple[Path, list[str]]:
    """Measure the drift of each video, and write a report.

    Args:
        options: as passed on the command line: `videos`, paths of videos, folders of images, or files that
            `generate --drift` wrote; `output`, the folder of the report.
        tell: called with a line of text for each video.

    Returns:
        report.html, and a line for each video that could not be measured. report.json has the numbers; drift/ has
        the lines of each frame.

    Raises:
        UserError: options that do not fit, or a folder that is another's.
    """
    allowed = ("videos", "output", "quiet", "debug")
    for name, value in options.items():
        if name not in allowed and value is not None and value is not False:
            raise usage(Setting(name), " is for videos that are made: leave it out, or the files")
    folder, errors = Path(options["output"]), []
    _open(folder)
    found: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(dict.fromkeys(options["videos"])):
        tell(f"[{number + 1}/{len(options['videos'])}] {path}")
        try:
            found[path] = _measured(Path(path), folder / "drift" / f"{number:03d}-{Path(path).stem}.jsonl")
        except (VideoFileError, UserError, ValueError) as error:
            errors.append(f"{path}: {one_line(str(error))}")
    return _report(folder, found, errors), errors


def _open(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        before = load_object(folder / "report.json") if folder.is_dir() else None
        if before is None or "videos" not in before:
            raise usage(f"{folder} exists and holds no report of files: choose another -o")
    try:
        (folder / "drift").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error


def _measured(path: Path, lines: Path) -> dict[str, Any]:
    if is_drift_file(path):
        return read_drift(path).summary()
    frames = iter_frames(path)
    first = next(frames)
    with DriftFile(lines) as file:
        file.frame(0, first)
        for number, frame in enumerate(frames, 1):
            file.frame(number, frame)
    return file.drift.summary()


def _report(folder: Path, found: Mapping[str, dict[str, Any]], errors: list[str]) -> Path:
    section = Section("Drift", [f"{NOTE}."], errors=errors)
    for path, values in found.items():
        row = {name: value for name, value in values.items() if isinstance(value, int | float)}
        row["colour_trend"] = round(float(np.linalg.norm(values["colour_trend"])), 4)
        section.table.append({"video": path, **row})
    _figures(folder, found, section)
    about = {"date": datetime.now(UTC).date().isoformat(), "videos": found, "errors": errors}
    write_text(folder / "report.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    write_html(folder / "report.html", "Drift of videos", [section])
    return folder / "report.html"


def _figures(folder: Path, found: Mapping[str, dict[str, Any]], section: Section) -> None:
    by_distance = {
        path: ([int(d) for d in values["coherence_at"]], [*values["coherence_at"].values()])
        for path, values in found.items()
        if "coherence_at" in values
    }
    if not by_distance:
        return
    common = set.intersection(*({*distances} for distances, _ in by_distance.values()))
    draw: dict[str, Callable[[Any], Any]] = {
        "coherence": lambda f: f.curves(by_distance, "frames apart", "coherence", log_x=True)
    }
    if common:
        over = partial(_over_time, found, str(max(common)))
        draw["coherence-over-time"] = lambda f: f.curves(over(), "frame", f"coherence, {max(common)} frames apart")
    draw["brightness-over-time"] = lambda f: f.curves(_brightness(found), "frame", "mean of red, green and blue")
    try:
        from fifo_diffusion.evaluation import figures

        for name, make in draw.items():
            section.pictures.append(figures.save(make(figures), folder / "figures", name))
    except ImportError:
        section.errors.append("figures need matplotlib: pip install matplotlib, then the same command again")


def _over_time(
    found: Mapping[str, dict[str, Any]], distance: str
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    parts = {
        path: [
            (part["first"], part["coherence_at"][distance])
            for part in values["over_time"]
            if distance in part.get("coherence_at", {})
        ]
        for path, values in found.items()
    }
    return {path: tuple(zip(*pairs, strict=True)) for path, pairs in parts.items() if pairs}  # type: ignore[misc]


def _brightness(found: Mapping[str, dict[str, Any]]) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    return {
        path: ([p["first"] for p in values["over_time"]], [sum(p["colour"]) / 3 for p in values["over_time"]])
        for path, values in found.items()
    }
