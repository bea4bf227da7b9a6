"""What is measured of videos: each metric is one file of this folder, and one entry of `METRICS`.

A metric of single videos is a function, or an object with a `__call__`, that takes frames (F, H, W, 3) uint8 and the
prompt, and gives numbers by name; none where it says nothing about such a video. `evaluate` needs no more than its
entry. Metrics of sets of videos (Fréchet distances, the inception score) are put together in `study`. Nothing in this
file imports PyTorch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

Measure = Callable[[np.ndarray, str], dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """One metric, and what it needs.

    Attributes:
        title: for people.
        measure: "module:name" in this folder: a `Measure`; or, with `given`, a class that makes one of that file.
        note: what its numbers are, for the report.
        package: that must be installed.
        install: what to type for it.
        given: the setting of an evaluation that names the file or folder it needs.
        reference: it compares with clips: those of the base model, or real ones.
        of_sets: it is of all videos of a row together, not of each.
    """

    title: str
    measure: str
    note: str = ""
    package: str = ""
    install: str = ""
    given: str = ""
    reference: bool = False
    of_sets: bool = False

    def lacks(self, config: Mapping[str, Any]) -> str:
        """Why it cannot be computed in an evaluation with these settings; empty where it can."""
        if self.package and not installed(self.package):
            return f"needs {self.package}: {self.install}"
        if self.given and not config.get(self.given):
            return f"needs --{self.given.replace('_', '-')}"
        if self.reference and not config.get("base_clips"):
            return "needs clips to compare with: --base-clips"
        return ""

    def load(self, config: Mapping[str, Any]) -> Any:
        """The metric of single videos as a `Measure`.

        Raises:
            ValueError: its file is not what it must be.
        """
        module, name = self.measure.split(":")
        found = getattr(import_module(f"{__name__}.{module}"), name)
        return found(config[self.given]) if self.given else found


METRICS: dict[str, Metric] = {
    "motion": Metric(
        "motion",
        "optical_flow:measure",
        "motion: mean length of the optical flow (Lucas-Kanade), pixels per frame",
    ),
    "flicker": Metric(
        "flicker",
        "flicker:measure",
        "flicker: root mean square second difference of the mean colour",
    ),
    "jerk": Metric(
        "jerk",
        "jerk:measure",
        "jerk: second difference of the pictures over the first (1.73: unrelated frames)",
    ),
    "cuts": Metric(
        "cuts",
        "cuts:measure",
        "cuts: abrupt changes per video",
    ),
    "drift": Metric(
        "drift",
        "drift:measure",
        "coherence: cosine of single frames, as stills in the feature space toybox-32, 2 to 500 frames apart, the mean "
        "over distances; colour_trend: slope of the mean colour over time, levels of 255 in 100 frames",
    ),
    "toybox": Metric(
        "score of toybox's checker",
        "toybox:measure",
        "score: what toybox's checker reads in the frames, against the caption, in slices of 32 frames; speed and "
        "jitter: of what moves, pixels per frame; jumps: steps of more than 8 pixels off the usual one, in 100 frames",
    ),
    "clip_score": Metric(
        "CLIP score",
        "clip_score:ClipScore",
        "clip_score: mean cosine between the embeddings of the prompt and of every eighth frame, times 100",
        given="clip_model",
    ),
    "scene_cuts": Metric(
        "scene cuts",
        "scene_cuts:measure",
        "scene_cuts: cuts that PySceneDetect finds",
        package="scenedetect",
        install="pip install scenedetect-headless",
    ),
    "fvd": Metric(
        "Fréchet distance",
        "frechet:SmallFeatures",
        reference=True,
        of_sets=True,
    ),
    "inception": Metric(
        "inception score",
        "inception:Classifier",
        given="classifier",
        of_sets=True,
    ),
}
"""By name, in the order in which the report has them."""


def skipped(config: Mapping[str, Any]) -> list[str]:
    """What an evaluation with these settings will not measure, and why: one line each."""
    lacking = {metric.title: metric.lacks(config) for metric in METRICS.values()}
    return [f"no {title}: it {why}" for title, why in lacking.items() if why]


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return find_spec(package) is not None
