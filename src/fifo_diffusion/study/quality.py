"""The table of quality over time: measures of every video."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.evaluation.drift import DISTANCES
from fifo_diffusion.evaluation.metrics import METRICS, Measure, skipped
from fifo_diffusion.evaluation.metrics.toybox import SLICE
from fifo_diffusion.evaluation.report import Section
from fifo_diffusion.evaluation.summary import summary
from fifo_diffusion.evaluation.whole_files import load_array, load_object, save_array, video_once, write_text
from fifo_diffusion.study.distances import distances
from fifo_diffusion.study.results import Results, picture
from fifo_diffusion.study.tasks import rows_with
from fifo_diffusion.video import read_frames

SHOWN, SHORT = 2, 48
CURVES = ("score_slices", "fvd_over_time", "coherence_curve")  # and what begins so


def quality(results: Results, numbers: dict[str, Any]) -> Section:
    """Measures of all rows whose videos are there."""
    measures = _measures(results)
    notes = [*(METRICS[name].note for name in measures), "_se: standard error over videos"]
    section = Section("Quality over time", [f"{'. '.join(notes)}.", *skipped(asdict(results.config))])
    measured = {name: _measured(results, name, measures) for name in rows_with(results.config, "quality")}
    measured = {name: videos for name, videos in measured.items() if videos}
    if not measured:
        return section
    table = {name: summary(videos) for name, videos in measured.items()}
    memory = {name: results.found.get(f"videos-{name}", {}).get("peak_mb") for name in table}
    numbers.update(quality=table, quality_host_mb_peak=memory)
    distances(results, section, table, numbers)
    _inception(results, section, table)
    shown = {name: {k: v for k, v in row.items() if not k.startswith(CURVES)} for name, row in table.items()}
    section.table = [{"method": name, **row, "host MB, peak": memory[name]} for name, row in shown.items()]
    _pictures(results, section, measured)
    _exports(results, section, list(measured))
    return section


def _measures(results: Results) -> dict[str, Measure]:
    """The metrics of single videos that have what they need."""
    found, config = {}, asdict(results.config)
    for name, metric in METRICS.items():
        if metric.of_sets or metric.lacks(config):
            continue
        try:
            found[name] = metric.load(config)
        except ValueError as error:
            results.errors.append(str(error))
    return found


def _measured(results: Results, row: str, measures: dict[str, Measure]) -> list[dict[str, Any]]:
    """What was measured of each of a row's videos. It is kept in parts/, by metric: those that come later are added."""
    found = []
    for prompt, folder in results.videos(row):
        kept = results.part(f"measures-{row}-{folder.name}")
        known = {name: values for name, values in (load_object(kept) or {}).items() if isinstance(values, dict)}
        if missing := [name for name in ("video", *measures) if name not in known]:
            frames = read_frames(folder)
            more = {"video": lambda frames, prompt: {"frames": len(frames)}} | measures
            known |= {name: more[name](frames, prompt) for name in missing}
            write_text(kept, json.dumps(known) + "\n")
        found.append({key: value for name in ("video", *METRICS) for key, value in known.get(name, {}).items()})
    return found


def _inception(results: Results, section: Section, table: dict[str, dict[str, Any]]) -> None:
    """Inception scores, given a classifier."""
    if results.config.classifier is None:
        return
    from fifo_diffusion.evaluation.metrics.inception import Classifier, inception_score, probabilities

    try:
        classifier = Classifier(results.config.classifier)
    except ValueError as error:
        results.errors.append(str(error))
        return
    for row in table:
        found = []
        try:
            for _, folder in results.videos(row):
                kept = results.folder / "parts" / f"classes-{row}-{folder.name}.npy"
                values = load_array(kept)
                if values is None:
                    values = probabilities(classifier, read_frames(folder))
                    save_array(kept, values)
                found.append(values)
        except ValueError as error:
            results.errors.append(f"no inception score of {row}: {error}")
            continue
        samples = np.concatenate(found)
        table[row] |= {"IS": round(inception_score(samples), 3), "IS_clips": len(samples)}
    section.notes.append(
        "IS: inception score of IS_clips stretches of 16 frames, by the given classifier "
        f"({Path(results.config.classifier).name}); it grows with their number, so compare equal ones."
    )


# ---------------------------------------------------------------------------- to look at


def _pictures(results: Results, section: Section, measured: dict[str, list[dict[str, Any]]]) -> None:
    """Histogram of motion, scores over time, coherence by distance, contact sheets, short videos."""
    from fifo_diffusion.evaluation import figures

    motions = {name: [video["motion"] for video in videos] for name, videos in measured.items()}
    picture(results, section, lambda: figures.histograms(motions, "mean optical flow, pixels per frame"), "motion")
    scores = {}
    for name, videos in measured.items():
        slices = [video["score_slices"] for video in videos if "score_slices" in video]
        if slices:
            mean = np.mean([own[: min(map(len, slices))] for own in slices], 0)
            scores[name] = [SLICE * k for k in range(len(mean))], mean.tolist()
    for ending, rows in results.by_length(scores).items():
        lines = {row: scores[row] for row in rows}
        draw = partial(figures.curves, lines, "frame", "checker's score")
        picture(results, section, draw, f"score-over-time{ending}")
    coherence = {}
    for name, videos in measured.items():
        found = [video["coherence_curve"] for video in videos if "coherence_curve" in video]
        if found:
            mean = np.mean([own[: min(map(len, found))] for own in found], 0)
            coherence[name] = DISTANCES[: len(mean)], mean.tolist()
    if coherence:
        draw = partial(figures.curves, coherence, "frames apart", "coherence", log_x=True)
        picture(results, section, draw, "coherence")
    for k, prompt in enumerate(results.config.prompts[:SHOWN]):
        rows = {}
        for name in measured:
            for text, folder in results.videos(name):
                if text == prompt:
                    frames = read_frames(folder)
                    rows[name] = list(frames[:: max(1, len(frames) // 12)][:12])
                    section.videos.append((f"{name}: {prompt}", _short_mp4(results, name, folder, frames)))
        if rows:
            picture(results, section, lambda rows=rows: figures.sheet(rows), f"frames-{k}")


def _short_mp4(results: Results, row: str, folder: Path, frames: np.ndarray) -> Path:
    """The first frames as a small file for the report."""
    target = results.folder / "short" / f"{row}-{folder.name}.mp4"
    video_once(target, lambda: frames[:SHORT], 10)
    return target


def _exports(results: Results, section: Section, names: list[str]) -> None:
    """Videos for VBench, and the pages of a user study."""
    from fifo_diffusion.study import vbench
    from fifo_diffusion.study.user_study import write_study

    videos = {name: results.videos(name) for name in names}
    commands = vbench.export(results.folder / "vbench", videos)
    section.notes.append(f"VBench (custom input), where it is installed: {'; '.join(commands)}")
    if "fifo" in videos and len(videos) > 1:
        write_study(results.folder / "study", videos, "fifo", seed=results.config.seed)
        section.notes.append("User study: open study/index.html; study/README.txt says how answers are analysed.")
