"""The table of quality over time: measures of every video, and Fréchet distances in a named feature space."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.app.evaluate import Results, picture
from fifo_diffusion.app.evaluate_tasks import base_folders, rows_of, video_folders
from fifo_diffusion.evaluation import frechet
from fifo_diffusion.evaluation.quality import SLICE, measure_video, summary
from fifo_diffusion.evaluation.report import Section

WORLD_CLIPS, NOISES = 1024, (5, 10, 20, 40)
SHOWN, SHORT = 2, 48
CURVES = ("score_slices", "fvd_over_time")

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
    shown = {name: {k: v for k, v in row.items() if k not in CURVES} for name, row in table.items()}
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
    """Features, kept in parts/, and the clips that videos are compared with: the base model's own ("base"), and for
    toybox clips of its world ("real")."""

    def __init__(self, results: Results) -> None:
        chosen = results.config.features
        self.space = frechet.I3D(chosen) if chosen else frechet.SmallFeatures()
        self._results = results
        folders = [folder for _, folder in base_folders(results.config, results.folder) if folder.exists()]
        if not folders:
            raise ValueError("there are no base clips to compare with")
        self._clips = {"base": [_read(folder) for folder in folders]}
        if results.config.model.startswith("toybox"):
            from fifo_diffusion.evaluation.clips import world_clips

            self._clips["real"] = [clip for clip, _ in world_clips(WORLD_CLIPS, frechet.CLIP, 0)]
        self.references = {kind: self._all(clips) for kind, clips in self._clips.items()}
        for reference in self.references.values():
            frechet.check_enough(len(reference), self.space.size)

    def _all(self, clips: list[np.ndarray]) -> np.ndarray:
        parts = range(0, len(clips), frechet.AT_ONCE)
        return np.concatenate([self.space(np.stack(clips[k : k + frechet.AT_ONCE])) for k in parts])

    def of_row(self, row: str) -> list[np.ndarray]:
        """Features of the sliding windows of each of a row's videos."""
        return [self._of(folder) for _, folder in _there(self._results, row)]

    def _of(self, folder: Path) -> np.ndarray:
        kept = self._results.folder / "parts" / f"features-{self.space.name}-{folder.parent.name}-{folder.name}.npy"
        if not kept.exists():
            np.save(kept, frechet.features_of(self.space, _read(folder)).astype(np.float32))
        return np.load(kept).astype(np.float64)

    def check(self, kind: str, worst: float) -> dict[str, Any]:
        """What a distance of nothing looks like, and that more noise means more distance."""
        reference, rng, growth = self.references[kind], np.random.default_rng(0), {}
        for deviation in NOISES:
            noisy = [clip + rng.normal(0, deviation, clip.shape) for clip in self._clips[kind]]
            spoiled = self._all([np.clip(clip, 0, 255).astype(np.uint8) for clip in noisy])
            growth[str(deviation)] = round(frechet.frechet_distance(reference, spoiled), 4)
        floor = frechet.half_split_floor(reference)
        found = {"clips": len(reference), "floor": round(floor, 4), "worst_method": round(worst, 4)}
        return found | {"floor_over_worst": round(floor / worst, 4), "distance_with_noise": growth}


def _distances(results: Results, section: Section, table: dict[str, dict[str, Any]], numbers: dict[str, Any]) -> None:
    """Distances of all sliding windows, and over time."""
    lines, found, checks = {}, {}, {}
    try:
        distances = _Distances(results)
    except ValueError as error:
        results.errors.append(f"no Fréchet distances: {error}")
        return
    name = distances.space.name
    for row in table:
        try:
            videos = distances.of_row(row)
            for kind, reference in distances.references.items():
                value = frechet.frechet_distance(reference, np.concatenate(videos))
                found.setdefault(kind, []).append(value)
                table[row][f"FVD ({name}) to {kind} clips"] = round(value, 4)
            curve = frechet.over_time(distances.references["base"], videos)
        except ValueError as error:
            results.errors.append(f"Fréchet distance of {row}: {error}")
            continue
        table[row]["fvd_over_time"] = [[start, round(value, 4)] for start, value in curve]
        lines[row] = tuple(map(list, zip(*curve, strict=True)))
    for kind, values in found.items():
        try:
            checks[kind] = distances.check(kind, max(values))
        except ValueError as error:
            results.errors.append(f"no floor of the Fréchet distance to {kind} clips: {error}")
    numbers["frechet"] = {"space": name, "checks": checks}
    section.notes.append(f"FVD: Fréchet distance in the feature space {name}, windows of 16 frames, stride 1.")
    section.notes += [_said(kind, check) for kind, check in checks.items()]
    if lines:
        from fifo_diffusion.evaluation.figures import curves

        floor = checks["base"]["floor"] if "base" in checks else None
        labels = "first window", f"FVD ({name})"
        picture(results, section, lambda: curves(lines, *labels, level=floor, log=True), "fvd-over-time")


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
