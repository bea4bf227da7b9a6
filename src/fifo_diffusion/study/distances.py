"""The Fréchet distances of the table of quality, in a named feature space."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.evaluation.metrics import frechet
from fifo_diffusion.evaluation.report import Section
from fifo_diffusion.evaluation.whole_files import load_array, save_array
from fifo_diffusion.study.results import Results, picture
from fifo_diffusion.study.tasks import base_folders
from fifo_diffusion.toybox import checker, world
from fifo_diffusion.video import read_frames

NOISES = 5, 10, 20, 40
NOISY_CLIPS = 768
REAL_CLIPS = 4 * world.PERIOD  # of a prompt


class _Distances:
    """Features, kept in parts/, and the clips that videos are compared with, by kind and prompt: the base model's own
    ("base"), and for toybox those of its world ("real"), one from each quarter of a frame until it repeats (from whole
    frames two halves of them would be 0.5 apart, which is much beside the distances of good methods).

    A video is compared with clips of its own prompt: other prompts look so different that all else would be nothing.
    """

    def __init__(self, results: Results) -> None:
        chosen = results.config.features
        self.space = frechet.I3D(chosen) if chosen else frechet.SmallFeatures()
        self._results = results
        base: dict[str, list[Callable[[], np.ndarray]]] = {}
        for prompt, folder in base_folders(results.config, results.folder):
            if folder.exists():
                base.setdefault(prompt, []).append(partial(read_frames, folder))
        if not base:
            raise ValueError("there are no base clips to compare with")
        self._clips = {"base": base}
        if results.config.model.startswith("toybox"):
            starts = np.arange(REAL_CLIPS) * world.PERIOD / REAL_CLIPS
            with suppress(ValueError):  # a sentence that its world does not know
                self._clips["real"] = {
                    prompt: [partial(world.render, checker.parse(prompt), start, frechet.CLIP) for start in starts]
                    for prompt in base
                }
        self._references = {
            kind: {prompt: self._all(own) for prompt, own in clips.items()} for kind, clips in self._clips.items()
        }
        self.kinds = tuple(self._references)
        for kind in self.kinds:
            self.reference(kind, list(base))

    def _all(self, clips: Sequence[Callable[[], np.ndarray]], noise: float = 0) -> np.ndarray:
        """Features of clips, with noise of this many grey levels added; each is in memory only while needed."""
        rng, found = np.random.default_rng(0), []
        for first in range(0, len(clips), frechet.AT_ONCE):
            some = np.stack([make() for make in clips[first : first + frechet.AT_ONCE]])
            if noise:
                some = np.clip(some + rng.normal(0, noise, some.shape), 0, 255).astype(np.uint8)
            found.append(self.space(some))
        return np.concatenate(found)

    def reference(self, kind: str, prompts: Sequence[str]) -> list[np.ndarray]:
        """Features of the clips of each of these prompts.

        Raises:
            ValueError: they are too few.
        """
        found = [self._references[kind][prompt] for prompt in prompts]
        frechet.check_enough(sum(map(len, found)), self.space.size)
        return found

    def of_row(self, row: str) -> list[tuple[str, np.ndarray]]:
        """Of each of a row's videos the prompt and the features of its sliding windows."""
        return [(prompt, self._of(folder)) for prompt, folder in self._results.videos(row)]

    def _of(self, folder: Path) -> np.ndarray:
        kept = self._results.folder / "parts" / f"features-{self.space.name}-{folder.parent.name}-{folder.name}.npy"
        found = load_array(kept)
        if found is None:
            found = frechet.features_of(self.space, read_frames(folder)).astype(np.float32)
            save_array(kept, found)
        return found.astype(np.float64)

    def check(self, kind: str, worst: float) -> dict[str, Any]:
        """What a distance of nothing looks like, and that more noise means more distance."""
        groups, growth = list(self._references[kind].values()), {}
        reference = np.concatenate(groups)
        clips = [clip for own in self._clips[kind].values() for clip in own][:: max(1, len(reference) // NOISY_CLIPS)]
        for deviation in NOISES:
            growth[str(deviation)] = round(frechet.frechet_distance(reference, self._all(clips, deviation)), 4)
        floor = frechet.half_split_floor(groups)
        found = {"clips": len(reference), "floor": round(floor, 4), "worst_method": round(worst, 4)}
        return found | {"floor_over_worst": round(floor / worst, 4), "distance_with_noise": growth}


def distances(results: Results, section: Section, table: dict[str, dict[str, Any]], numbers: dict[str, Any]) -> None:
    """Distances of all sliding windows, and over time."""
    try:
        known = _Distances(results)
    except ValueError as error:
        results.errors.append(f"no Fréchet distances: {error}")
        return
    name, checks, lines, left_out = known.space.name, {}, {}, {}
    videos = {}
    for row in table:
        try:
            videos[row] = known.of_row(row)
        except ValueError as error:
            results.errors.append(f"no Fréchet distance of {row}: {error}")
    most = max(map(len, videos.values()), default=0)
    for kind in known.kinds:
        found = {}
        for row, own in videos.items():
            prompts, features = zip(*own, strict=True)
            try:
                groups = known.reference(kind, prompts)
                reference = np.concatenate(groups)
                value = round(frechet.frechet_distance(reference, np.concatenate(features)), 4)
                curve = [(start, round(part, 4)) for start, part in frechet.over_time(reference, features)]
            except ValueError as error:
                # Where a row has fewer prompts by intention, that is not an error.
                (results.errors if len(own) == most else section.notes).append(
                    f"no Fréchet distance of {row} to {kind} clips: {error}"
                )
                continue
            table[row][f"FVD ({name}) to {kind} clips"] = value
            with suppress(ValueError):  # too few prompts for an error
                without = frechet.without_each(groups, features)
                table[row][f"FVD ({name}) to {kind} clips_se"] = round(frechet.jackknife(without), 4)
                left_out.setdefault(kind, {})[row] = [round(value, 4) for value in without]
            table[row][f"fvd_over_time ({kind} clips)"] = curve
            lines.setdefault(kind, {})[row] = tuple(map(list, zip(*curve, strict=True)))
            if len(own) == most:
                found[row] = value
        try:
            if found:
                checks[kind] = known.check(kind, max(found.values()))
        except ValueError as error:
            results.errors.append(f"no floor of the Fréchet distance to {kind} clips: {error}")
    numbers["frechet"] = {"space": name, "checks": checks, "without_each_prompt": left_out}
    section.notes.append(
        f"FVD: Fréchet distance in the feature space {name}, of windows of 16 frames, stride 1, to clips of the same "
        "prompts; its _se: jackknife over prompts. Rows of fewer prompts or other lengths are not to be compared by it."
    )
    section.notes += [_said(kind, check) for kind, check in checks.items()]
    for kind, own in lines.items():
        from fifo_diffusion.evaluation.figures import curves

        floor = checks[kind]["floor"] if kind in checks else None
        labels = "first window", f"FVD ({name}) to {kind} clips"
        for ending, rows in results.by_length(own).items():
            draw = partial(curves, {row: own[row] for row in rows}, *labels, level=floor, log=True)
            picture(results, section, draw, f"fvd-over-time-{kind}{ending}")


def _said(kind: str, check: dict[str, Any]) -> str:
    noise = ", ".join(f"{value:.3g} at {deviation}" for deviation, value in check["distance_with_noise"].items())
    return (
        f"{check['clips']} {kind} clips: two random halves of them are {check['floor']:.3g} apart, which is "
        f"{100 * check['floor_over_worst']:.1f} % of the worst method; with noise of so many grey levels added the "
        f"distance is {noise}."
    )
