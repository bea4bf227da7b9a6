"""The table of quality over time: measures of every video, and Fréchet distances in a named feature space."""

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.app.evaluate import Results, picture
from fifo_diffusion.app.evaluate_tasks import base_folders, rows_of, video_folders
from fifo_diffusion.evaluation import checker, frechet, world
from fifo_diffusion.evaluation.quality import SLICE, measure_video, summary
from fifo_diffusion.evaluation.report import Section

NOISES = 5, 10, 20, 40
SHOWN, SHORT = 2, 48
CURVES = ("score_slices", "fvd_over_time")  # and what begins so

NOTE = (
    "motion: mean length of the optical flow (Lucas-Kanade), pixels per frame. flicker: root mean square second "
    "difference of the mean colour. jerk: second difference of the pictures over the first (1.73: unrelated frames). "
    "cuts: abrupt changes per video. score: what toybox's checker reads in the frames, against the caption, in slices "
    "of 32 frames; speed and jitter of what moves, pixels per frame. _se: standard error over videos."
)


def quality(results: Results, numbers: dict[str, Any]) -> Section:
    """Measures of all rows whose videos are there."""
    section = Section("Quality over time", [NOTE])
    scorer = _clip_scorer(results)
    measured = {name: _measured(results, name, scorer) for name in rows_of(results.config, "quality")}
    measured = {name: videos for name, videos in measured.items() if videos}
    if not measured:
        return section
    table = {name: summary(videos) for name, videos in measured.items()}
    memory = {name: results.found.get(f"videos-{name}", {}).get("peak_mb") for name in table}
    numbers.update(quality=table, quality_host_mb_peak=memory)
    _distances(results, section, table, numbers)
    shown = {name: {k: v for k, v in row.items() if not k.startswith(CURVES)} for name, row in table.items()}
    section.table = [{"method": name, **row, "host MB, peak": memory[name]} for name, row in shown.items()]
    _pictures(results, section, measured)
    _exports(results, section, list(measured))
    return section


def _clip_scorer(results: Results) -> Any:
    if results.config.clip_model is None:
        return None
    from fifo_diffusion.evaluation.clip_score import ClipScore

    try:
        return ClipScore(results.config.clip_model)
    except ValueError as error:
        results.errors.append(str(error))
        return None


def _read(folder: Path) -> np.ndarray:
    from fifo_diffusion.video import read_frames

    return read_frames(folder)


def _there(results: Results, row: str) -> list[tuple[str, Path]]:
    """Prompts and folders of a row's videos that have been made."""
    places = video_folders(results.config, results.folder, row)
    return [(prompt, folder) for prompt, folder in places if folder.exists()]


def _measured(results: Results, row: str, scorer: Any) -> list[dict[str, Any]]:
    """Measures of a row's videos, kept in parts/ once they are known."""
    found = []
    for prompt, folder in _there(results, row):
        kept = results.part(f"measures-{row}-{folder.name}{'-clip' if scorer else ''}")
        if not kept.exists():
            frames = _read(folder)
            values = measure_video(frames, prompt)
            if scorer is not None:
                values["clip_score"] = scorer(frames, prompt)
            kept.write_text(json.dumps(values) + "\n")
        found.append(json.loads(kept.read_text()))
    return found


# ---------------------------------------------------------------------------- Fréchet distances


class _Distances:
    """Features, kept in parts/, and the clips that videos are compared with, by kind and prompt: the base model's own
    ("base"), and for toybox those of its world ("real"), one from each of the frames after which it repeats.

    A video is compared with clips of its own prompt: other prompts look so different that all else would be nothing.
    """

    def __init__(self, results: Results) -> None:
        chosen = results.config.features
        self.space = frechet.I3D(chosen) if chosen else frechet.SmallFeatures()
        self._results = results
        base: dict[str, list[np.ndarray]] = {}
        for prompt, folder in base_folders(results.config, results.folder):
            if folder.exists():
                base.setdefault(prompt, []).append(_read(folder))
        if not base:
            raise ValueError("there are no base clips to compare with")
        self._clips = {"base": base}
        if results.config.model.startswith("toybox"):
            with suppress(ValueError):  # a sentence that its world does not know
                self._clips["real"] = {
                    prompt: [world.render(checker.parse(prompt), n, frechet.CLIP) for n in range(world.PERIOD)]
                    for prompt in base
                }
        self._references = {
            kind: {prompt: self._all(own) for prompt, own in clips.items()} for kind, clips in self._clips.items()
        }
        self.kinds = tuple(self._references)
        for kind in self.kinds:
            self.reference(kind, list(base))

    def _all(self, clips: list[np.ndarray]) -> np.ndarray:
        parts = range(0, len(clips), frechet.AT_ONCE)
        return np.concatenate([self.space(np.stack(clips[k : k + frechet.AT_ONCE])) for k in parts])

    def reference(self, kind: str, prompts: Sequence[str]) -> np.ndarray:
        """Features of the clips of these prompts.

        Raises:
            ValueError: they are too few.
        """
        found = np.concatenate([self._references[kind][prompt] for prompt in dict.fromkeys(prompts)])
        frechet.check_enough(len(found), self.space.size)
        return found

    def of_row(self, row: str) -> list[tuple[str, np.ndarray]]:
        """Of each of a row's videos the prompt and the features of its sliding windows."""
        return [(prompt, self._of(folder)) for prompt, folder in _there(self._results, row)]

    def _of(self, folder: Path) -> np.ndarray:
        kept = self._results.folder / "parts" / f"features-{self.space.name}-{folder.parent.name}-{folder.name}.npy"
        if not kept.exists():
            np.save(kept, frechet.features_of(self.space, _read(folder)).astype(np.float32))
        return np.load(kept).astype(np.float64)

    def check(self, kind: str, worst: float) -> dict[str, Any]:
        """What a distance of nothing looks like, and that more noise means more distance."""
        groups, rng, growth = list(self._references[kind].values()), np.random.default_rng(0), {}
        reference, clips = np.concatenate(groups), [clip for own in self._clips[kind].values() for clip in own]
        for deviation in NOISES:
            noisy = [clip + rng.normal(0, deviation, clip.shape) for clip in clips]
            spoiled = self._all([np.clip(clip, 0, 255).astype(np.uint8) for clip in noisy])
            growth[str(deviation)] = round(frechet.frechet_distance(reference, spoiled), 4)
        floor = frechet.half_split_floor(groups)
        found = {"clips": len(reference), "floor": round(floor, 4), "worst_method": round(worst, 4)}
        return found | {"floor_over_worst": round(floor / worst, 4), "distance_with_noise": growth}


def _distances(results: Results, section: Section, table: dict[str, dict[str, Any]], numbers: dict[str, Any]) -> None:
    """Distances of all sliding windows, and over time."""
    try:
        distances = _Distances(results)
    except ValueError as error:
        results.errors.append(f"no Fréchet distances: {error}")
        return
    name, checks, lines = distances.space.name, {}, {}
    videos = {}
    for row in table:
        try:
            videos[row] = distances.of_row(row)
        except ValueError as error:
            results.errors.append(f"no Fréchet distance of {row}: {error}")
    most = max(map(len, videos.values()), default=0)
    for kind in distances.kinds:
        found = {}
        for row, own in videos.items():
            prompts, features = zip(*own, strict=True)
            try:
                reference = distances.reference(kind, prompts)
                value = round(frechet.frechet_distance(reference, np.concatenate(features)), 4)
                curve = [(start, round(part, 4)) for start, part in frechet.over_time(reference, features)]
            except ValueError as error:
                # Where a row has fewer prompts by intention, that is not an error.
                (results.errors if len(own) == most else section.notes).append(
                    f"no Fréchet distance of {row} to {kind} clips: {error}"
                )
                continue
            table[row][f"FVD ({name}) to {kind} clips"] = value
            table[row][f"fvd_over_time ({kind} clips)"] = curve
            lines.setdefault(kind, {})[row] = tuple(map(list, zip(*curve, strict=True)))
            if len(own) == most:
                found[row] = value
        try:
            if found:
                checks[kind] = distances.check(kind, max(found.values()))
        except ValueError as error:
            results.errors.append(f"no floor of the Fréchet distance to {kind} clips: {error}")
    numbers["frechet"] = {"space": name, "checks": checks}
    section.notes.append(
        f"FVD: Fréchet distance in the feature space {name}, of windows of 16 frames, stride 1, to clips of the same "
        "prompts."
    )
    section.notes += [_said(kind, check) for kind, check in checks.items()]
    for kind, own in lines.items():
        from fifo_diffusion.evaluation.figures import curves

        floor = checks[kind]["floor"] if kind in checks else None
        labels = "first window", f"FVD ({name}) to {kind} clips"
        draw = partial(curves, own, *labels, level=floor, log=True)
        picture(results, section, draw, f"fvd-over-time-{kind}")


def _said(kind: str, check: dict[str, Any]) -> str:
    noise = ", ".join(f"{value:.3g} at {deviation}" for deviation, value in check["distance_with_noise"].items())
    return (
        f"{check['clips']} {kind} clips: two random halves of them are {check['floor']:.3g} apart, which is "
        f"{100 * check['floor_over_worst']:.1f} % of the worst method; with noise of so many grey levels added the "
        f"distance is {noise}."
    )


# ---------------------------------------------------------------------------- to look at


def _pictures(results: Results, section: Section, measured: dict[str, list[dict[str, Any]]]) -> None:
    """Histogram of motion, scores over time, contact sheets, short videos."""
    from fifo_diffusion.evaluation import figures

    motions = {name: [video["motion"] for video in videos] for name, videos in measured.items()}
    picture(results, section, lambda: figures.histograms(motions, "mean optical flow, pixels per frame"), "motion")
    scores = {}
    for name, videos in measured.items():
        slices = [video["score_slices"] for video in videos if "score_slices" in video]
        if slices:
            mean = np.mean([own[: min(map(len, slices))] for own in slices], 0)
            scores[name] = [SLICE * k for k in range(len(mean))], mean.tolist()
    if scores:
        picture(results, section, lambda: figures.curves(scores, "frame", "checker's score"), "score-over-time")
    for k, prompt in enumerate(results.config.prompts[:SHOWN]):
        rows = {}
        for name in measured:
            for text, folder in _there(results, name):
                if text == prompt:
                    frames = _read(folder)
                    rows[name] = list(frames[:: max(1, len(frames) // 12)][:12])
                    section.videos.append((f"{name}: {prompt}", _short_mp4(results, name, folder, frames)))
        if rows:
            picture(results, section, lambda rows=rows: figures.sheet(rows), f"frames-{k}")


def _short_mp4(results: Results, row: str, folder: Path, frames: np.ndarray) -> Path:
    """The first frames as a small file for the report."""
    from fifo_diffusion.video import write_video

    target = results.folder / "short" / f"{row}-{folder.name}.mp4"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        write_video(target, frames[:SHORT], fps=10)
    return target


def _exports(results: Results, section: Section, names: list[str]) -> None:
    """Videos for VBench, and the pages of a user study."""
    from fifo_diffusion.evaluation import study, vbench

    videos = {name: _there(results, name) for name in names}
    commands = vbench.export(results.folder / "vbench", videos)
    section.notes.append(f"VBench (custom input), where it is installed: {'; '.join(commands)}")
    if "fifo" in videos and len(videos) > 1:
        study.write(results.folder / "study", videos, "fifo", seed=results.config.seed)
        section.notes.append("User study: open study/index.html; study/README.txt says how answers are analysed.")
