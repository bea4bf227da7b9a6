"""How a video drifts: how much frames still have in common at distances of 2 to 500, colours, flicker, motion and cuts
over time. Frame by frame, with constant memory.

Legend: H and W height and width, D features.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.evaluation.feature_net import CLIP, FEATURES, as_pixels, shipped
from fifo_diffusion.evaluation.metrics.cuts import CUT_LEAST, CUT_RATIO
from fifo_diffusion.evaluation.metrics.optical_flow import flow_magnitudes

DISTANCES = (2, 5, 10, 20, 50, 100, 200, 500)
"""In frames (of latents: in latents), as VBench's long-horizon coherence has the first five."""
SPACE = f"toybox-{FEATURES}, of stills"
SLICES, SLICE = 64, 16
"""Most parts of the video that the summary has over time, and how long they are before they become twice as long."""
SMALL = 64
"""Pictures are compared at a size where the shorter side has at least so many pixels, and less than twice as many."""
RECENT, FEW = 64, 8
"""A change is a cut beside the median of so many before it; and needs at least so many."""
POOLED = 8
"""Latents are compared by the means over their channels, in at most so many rows and columns."""

Record = dict[str, Any]
"""What was measured of one frame, as plain values: a line of the file."""


class Drift:
    """Measures frames as they come.

    May be given as `callback_on_frame` to `FIFO.stream`. Everything but the picture of the last frame is a function of
    the records, which are rounded: whoever takes them in again stands where the first one stood.

    Args:
        motion: whether to measure the optical flow, which takes longest on large pictures.

    Attributes:
        frames: number of the next frame.
        picture: of the last frame, uint8 (H, W, 3), reduced; None: there is none.
    """

    def __init__(self, *, motion: bool = True) -> None:
        self._motion = motion
        self._net: Any = None
        self.picture: np.ndarray | None = None
        self.frames, self._latents = 0, 0
        self._vectors, self._of_latents = _Past(), _Past()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._colours: deque[tuple[int, list[float]]] = deque(maxlen=2)
        self._line, self._whole = _Line(6), _Slice(0)
        self._slices: list[_Slice] = []
        self._span = SLICE

    def __call__(self, number: int, frame_HWC: np.ndarray) -> None:
        """A frame, as a stream's `callback_on_frame` is told of it."""
        self.add(frame_HWC, number)

    def add(self, frame_HWC: np.ndarray, number: int | None = None, latents: Sequence[Sequence[float]] = ()) -> Record:
        """Measure the next frame.

        Args:
            frame_HWC: uint8.
            number: of the frame; None: one more than the last.
            latents: what `latent_vector` gives of the latents that were decoded since the last frame.

        Raises:
            ValueError: it is no frame of one video.
        """
        if frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3 or frame_HWC.dtype != np.uint8:
            raise ValueError(f"a frame is uint8 (height, width, 3), not {frame_HWC.dtype} {frame_HWC.shape}")
        number = self.frames if number is None else number
        vector = self._features(frame_HWC)
        colours = frame_HWC.astype(np.float64)
        record: Record = {
            "frame": number,
            "colour": colours.mean((0, 1)).round(3).tolist(),
            "spread": colours.std((0, 1)).round(3).tolist(),
            **self._changed(frame_HWC, number),
            "coherence": self._vectors.compared(number, vector),
            "features": vector.tolist(),
        }
        if latents:
            record["latents"] = [list(each) for each in latents]
        self.take(record)
        return record

    def take(self, record: Mapping[str, Any]) -> None:
        """What `add` gave, now or in an earlier run."""
        number = record["frame"]
        found = _Slice(number)
        found.count({"frames": 1, "cuts": int(record.get("cut", False))})
        found.sum({str(d): c for d, c in record["coherence"].items()}, "coherence")
        found.sum({name: record[name] for name in ("change", "motion") if name in record}, "means")
        found.sum(dict(zip("rgb", record["colour"], strict=True)), "colour")
        if len(self._colours) == 2 and self._colours[-1][0] == number - 1 == self._colours[0][0] + 1:
            (_, before), (_, last) = self._colours
            second = [a - 2 * b + c for a, b, c in zip(before, last, record["colour"], strict=True)]
            found.sum({"flicker": sum(x * x for x in second) / 3}, "means")
        for vector in record.get("latents", ()):
            place = np.array(vector)
            found.sum(self._of_latents.compared(self._latents, place), "latents")
            self._of_latents.keep(self._latents, place)
            self._latents += 1
        self._vectors.keep(number, np.array(record["features"]))
        self._colours.append((number, record["colour"]))
        self._recent.extend([record["change"]] if "change" in record else [])
        self._line.add(number, [*record["colour"], *record["spread"]])
        self.frames = number + 1
        self._whole.merge(found)
        self._put(found)

    def summary(self) -> dict[str, Any]:
        """Means over all frames so far, and over parts of the video.

        Returns:
            coherence_at: {distance: mean cosine of frames so far apart}, of those distances that occur; coherence:
                the mean of these. latent_coherence_at: the same of latents, in latents.
            colour_trend: levels of 255 in 100 frames, of red, green and blue: the slope of a straight line through the
                mean colours. contrast_trend: the same of the deviations over the picture, their mean.
            flicker, motion, cuts: as the metrics of the same names; here cuts are found beside the median of the last
                64 changes. change: mean absolute difference of a frame from the one before it.
            over_time: the same in parts of equal length.
        """
        slope = self._line.slope()
        trends = {
            "colour_trend": [round(100 * each, 4) for each in slope[:3]],
            "contrast_trend": round(100 * sum(slope[3:]) / 3, 4),
        }
        return {
            "features": SPACE,
            **self._whole.described(),
            **trends,
            "over_time": [s.described() for s in self._slices],
        }

    # ------------------------------------------------------------------ inside

    def _features(self, frame_HWC: np.ndarray) -> np.ndarray:
        """The frame as a still clip in the feature space: a unit vector (D,)."""
        self._net = self._net or shipped()
        with torch.no_grad():
            clip = as_pixels(frame_HWC[None, None].copy()).expand(-1, -1, CLIP, -1, -1)
            return _unit(self._net(clip)[0])

    def _changed(self, frame_HWC: np.ndarray, number: int) -> Record:
        """Beside the frame before it."""
        picture, factor = _reduced(frame_HWC)
        before, self.picture = self.picture, picture
        if before is None or before.shape != picture.shape or number != self.frames:
            return {}
        change = float(np.abs(picture.astype(np.float32) - before).mean())
        usual = float(np.median(self._recent)) if len(self._recent) >= FEW else np.inf
        found: Record = {"change": round(change, 3), "cut": bool(change > max(CUT_LEAST, CUT_RATIO * usual))}
        if self._motion:
            found["motion"] = round(factor * float(flow_magnitudes(np.stack([before, picture]))[0]), 3)
        return found

    def _put(self, found: "_Slice") -> None:
        """Into the part of the video that it belongs to; parts become longer as the video does."""
        start = found.first // self._span * self._span
        if not self._slices or self._slices[-1].first != start:
            self._slices.append(_Slice(start))
        self._slices[-1].merge(found)
        while len(self._slices) > SLICES:
            self._span *= 2
            longer: dict[int, _Slice] = {}
            for each in self._slices:
                first = each.first // self._span * self._span
                longer.setdefault(first, _Slice(first)).merge(each)
            self._slices = [*longer.values()]


def latent_vector(latent_BCFHW: Tensor) -> list[float]:
    """A clean latent of one video as a unit vector: the mean over its channels, in at most 8 x 8 places."""
    mean = latent_BCFHW[0, :, -1].float().mean(0)
    size = [min(POOLED, side) for side in mean.shape]
    return _unit(torch.nn.functional.adaptive_avg_pool2d(mean[None], size)[0].flatten()).tolist()


class _Past:
    """Vectors of as many frames as the longest distance needs."""

    def __init__(self) -> None:
        self._of: dict[int, np.ndarray] = {}

    def keep(self, number: int, vector: np.ndarray) -> None:
        self._of[number] = vector
        while next(iter(self._of)) <= number - max(DISTANCES):
            del self._of[next(iter(self._of))]

    def compared(self, number: int, vector: np.ndarray) -> dict[str, float]:
        """{distance: cosine}."""
        return {str(d): round(float(self._of[number - d] @ vector), 4) for d in DISTANCES if number - d in self._of}


class _Slice:
    """Sums over frames of a part of the video."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._counts: dict[str, int] = {}
        self._sums: dict[tuple[str, str], tuple[int, float]] = {}

    def count(self, values: Mapping[str, int]) -> None:
        for name, value in values.items():
            self._counts[name] = self._counts.get(name, 0) + value

    def sum(self, values: Mapping[str, float], kind: str) -> None:
        for name, value in values.items():
            self._add((kind, name), 1, value)

    def merge(self, other: "_Slice") -> None:
        self.count(other._counts)
        for key, (count, total) in other._sums.items():
            self._add(key, count, total)

    def _add(self, key: tuple[str, str], count: int, total: float) -> None:
        before = self._sums.get(key, (0, 0.0))
        self._sums[key] = before[0] + count, before[1] + total

    def described(self) -> dict[str, Any]:
        def means(kind: str, digits: int) -> dict[str, float]:
            return {name: round(total / count, digits) for (k, name), (count, total) in self._sums.items() if k == kind}

        at, of_latents = (
            dict(sorted(means(kind, 4).items(), key=lambda x: int(x[0]))) for kind in ("coherence", "latents")
        )
        found: dict[str, Any] = {"first": self.first, **self._counts}
        found |= {"coherence": round(sum(at.values()) / len(at), 4)} if at else {}
        found |= {"coherence_at": at} if at else {}
        found |= {"latent_coherence_at": of_latents} if of_latents else {}
        more = means("means", 6)
        if "flicker" in more:
            more["flicker"] = more["flicker"] ** 0.5
        return (
            found | {name: round(value, 4) for name, value in more.items()} | {"colour": [*means("colour", 3).values()]}
        )


class _Line:
    """Straight lines through several values over time, by least squares."""

    def __init__(self, size: int) -> None:
        self._n, self._t, self._tt = 0, 0, 0
        self._y, self._ty = [0.0] * size, [0.0] * size

    def add(self, time: int, values: Sequence[float]) -> None:
        self._n, self._t, self._tt = self._n + 1, self._t + time, self._tt + time * time
        self._y = [a + v for a, v in zip(self._y, values, strict=True)]
        self._ty = [a + time * v for a, v in zip(self._ty, values, strict=True)]

    def slope(self) -> list[float]:
        spread = self._n * self._tt - self._t**2
        if not spread:
            return [0.0] * len(self._y)
        return [(self._n * ty - self._t * y) / spread for y, ty in zip(self._y, self._ty, strict=True)]


def _reduced(frame_HWC: np.ndarray) -> tuple[np.ndarray, int]:
    """A smaller picture, uint8, and how many times it is smaller: means over squares of pixels."""
    factor = max(1, min(frame_HWC.shape[:2]) // SMALL)
    if factor == 1:
        return frame_HWC.copy(), 1
    height, width = (side // factor for side in frame_HWC.shape[:2])
    cut = frame_HWC[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return cut.mean((1, 3)).round().astype(np.uint8), factor


def _unit(vector: Tensor) -> np.ndarray:
    """Of length 1, to 4 digits."""
    return np.round(torch.nn.functional.normalize(vector.double(), dim=-1).cpu().numpy(), 4)
