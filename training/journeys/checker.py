"""Read every attribute of a journey from the pixels of a clip, and score it against its caption. Needs numpy only.

    >>> read(frames)
    {'character': 'cat', 'color': 'red', 'direction': 'left', 'place': 'forest', ..., 'speed': 2.0, 'faces': 'left'}
    >>> score(frames, "a red cat walking to the left through the snowy forest")
    {'character': 1.0, 'color': 1.0, 'direction': 1.0, 'place': 1.0, 'weather': 1.0}

No network judges another one here. The place, the time of day and the weather come from the colours at the sides of the
picture, row by row; the character and its colour from the mean picture in the middle; both are compared with what the
world itself paints. The direction is the movement of the ground alone: it is right only where the world scrolls the
right way. Frames are uint8 (F, S, S, 3), S a multiple of 32; 16 frames (one step of every character) or more.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from journeys.characters import COLORS, CYCLE
from journeys.words import PLACES, RESIDENTS, Labels, factors, parse
from journeys.world import PERIOD, render, traveller_alone

Reading = dict[str, str | float]

_COARSE, _FINE = 32, 96
_STILL = 0.5  # units per frame, a quarter of the world's speed
_SIDES = np.r_[0:6, 26:32]  # columns of the coarse picture that no character reaches
_STARTS = range(0, PERIOD, 32)
_GROUND_ROWS = slice(76, 96)


def _resized(frames: np.ndarray, size: int) -> np.ndarray:
    """float32 frames of another size: exact means, or between pixels."""
    old = frames.shape[1]
    if frames.ndim != 4 or frames.shape[2] != old or old % 32 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames must be uint8 (F, S, S, 3) with S a multiple of 32, not {frames.dtype} {frames.shape}"
        )
    pixels = frames.astype(np.float32)
    if old == size:
        return pixels
    common = np.lcm(old, size)
    up, down = common // old, common // size
    for axis in (1, 2):
        pixels = _resampled(pixels, axis, int(up), int(down))
    return pixels


def _resampled(pixels: np.ndarray, axis: int, up: int, down: int) -> np.ndarray:
    """Area means: every pixel repeated `up` times, then means of `down`."""
    pixels = np.moveaxis(pixels, axis, -1)
    length = pixels.shape[-1] * up // down
    weights = np.zeros((pixels.shape[-1], length), np.float32)
    for fine in range(pixels.shape[-1] * up):
        weights[fine // up, fine // down] += 1 / down
    return np.moveaxis(pixels @ weights, -1, axis)


def _softened(pictures: np.ndarray) -> np.ndarray:
    """Means of 3 x 3 pixels of (..., H, W, C): templates and clips compare with the same slight blur."""
    for axis in (-3, -2):
        pictures = (np.roll(pictures, 1, axis) + pictures + np.roll(pictures, -1, axis)) / 3
    return pictures


# --- place, time of day, weather -----------------------------------------------------------------------------------


def _scene_features(coarse: np.ndarray) -> np.ndarray:
    """Mean and spread of every row at the sides, (2 x 32 x 3,)."""
    sides = coarse[:, :, _SIDES]
    return np.concatenate([sides.mean((0, 2)).ravel(), 0.7 * sides.std((0, 2)).ravel()])


@functools.cache
def _scene_templates() -> tuple[list[Labels], np.ndarray]:
    """Features of every place under every time and weather, from several parts of its loop."""
    labels, features = [], []
    for place in PLACES:
        ways = factors(place)
        for time in ways.get("time", (None,)):
            for weather in ways.get("weather", (None,)):
                named = {"place": place, "time": time, "weather": weather}
                scene = {name: value for name, value in named.items() if value is not None}
                whole = {**scene, "direction": "right"}
                for start in _STARTS:
                    frames = np.concatenate(
                        [render(whole, start + k, 1, _COARSE, traveller=False) for k in (0, 5, 10, 15)]
                    )
                    labels.append(scene)
                    features.append(_scene_features(frames.astype(np.float32)))
    return labels, np.stack(features)


def _read_scene(coarse: np.ndarray) -> Labels:
    labels, features = _scene_templates()
    distance = np.abs(features - _scene_features(coarse)).sum(1)
    return labels[int(distance.argmin())]


# --- character and colour ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """The mean picture of one character over a step, and how surely each pixel shows it."""

    name: str
    color: str
    faces: str
    area: tuple[slice, slice]
    picture: np.ndarray
    weight: np.ndarray


@functools.cache
def _looks(name: str, at_sea: bool, time: str | None) -> list[_Look]:
    """A character in every colour, facing right and left. Of what stands lower than plants and waves reach, nothing."""
    base, slope, cover = traveller_alone(name, "sea" if at_sea else "meadow", time, _FINE)
    base, slope, sure = _softened(base), _softened(slope), _softened(cover[..., None])[..., 0]
    weight = np.where(sure > 0.6, sure, 0.0) ** 2
    weight[74 if at_sea and name in ("boat", "whale") else 88 :] = 0.0
    rows, columns = np.nonzero(weight.sum(1))[0], np.nonzero(weight.sum(0))[0]
    area = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    other = area[0], slice(_FINE - area[1].stop, _FINE - area[1].start)
    found = []
    for color, rgb in COLORS.items():
        picture = base[area] + slope[area] * rgb
        found.append(_Look(name, color, "right", area, picture, weight[area]))
        found.append(_Look(name, color, "left", other, picture[:, ::-1], weight[area][:, ::-1]))
    return found


def _read_traveller(fine: np.ndarray, place: str, time: str | None) -> _Look:
    mean = _softened(fine.mean(0))

    def error(look: _Look) -> float:
        part = mean[look.area]
        return float((look.weight * np.abs(part - look.picture).sum(-1)).sum() / look.weight.sum())

    looks = [look for name in RESIDENTS[place] for look in _looks(name, place == "sea", time)]
    return min(looks, key=error)


# --- motion --------------------------------------------------------------------------------------------------------


_REACH, _BAND, _LARGE = 10, 4, 20.0


def displacements(frames: np.ndarray) -> np.ndarray:
    """How far the ground moved from frame to frame, in units to the right, (F - 1,); between whole pixels, too."""
    return np.array([_least(curve) for curve in _shift_errors(_resized(frames, _FINE), 1)])


def _ground_speed(fine: np.ndarray) -> float:
    """Units per frame to the right: from frames two apart, where drops and flakes disturb half as much."""
    return _least(_shift_errors(fine, 2).mean(0)) / 2


def _shift_errors(fine: np.ndarray, lag: int) -> np.ndarray:
    """Differences between frames `lag` apart at shifts of -10 to 10 pixels, (F - lag, 21), on the ground."""
    bands = _softened(fine)[:, _GROUND_ROWS].mean(-1)  # bands of some rows: drops and flakes are small against them
    bands = bands.reshape(len(fine), -1, _BAND, _FINE).mean(2)
    bands = bands - bands.mean(2, keepdims=True)
    inner = slice(_REACH, _FINE - _REACH)
    weight = np.ones((bands.shape[1], _FINE), np.float32)
    weight[:-2, 20:76] = 0.0  # the character, its wheels and feet
    errors = []
    for shift in range(-_REACH, _REACH + 1):
        moved = np.roll(bands[:-lag], shift, 2)[:, :, inner]
        errors.append((weight[:, inner] * np.minimum(np.abs(bands[lag:, :, inner] - moved), _LARGE)).mean((1, 2)))
    return np.stack(errors, 1)


def _least(curve: np.ndarray) -> float:
    """The shift of least error, refined by a parabola."""
    k = int(curve.argmin())
    if 0 < k < len(curve) - 1:
        a, b, c = curve[k - 1 : k + 2]
        bend = a - 2 * b + c
        return k - _REACH + (0.5 * (a - c) / bend if bend > 0 else 0.0)
    return float(k - _REACH)


# --- all of it -----------------------------------------------------------------------------------------------------


def read(frames: np.ndarray) -> Reading:
    """What the frames show: every attribute, `speed` (units per frame along the journey) and the side it `faces`.

    `direction` is "still" where the ground moves less than half a unit per frame.
    """
    if len(frames) < 3:
        raise ValueError("the direction of a journey shows in three frames at least")
    scene = _read_scene(_resized(frames, _COARSE))
    fine = _resized(frames, _FINE)
    step = len(fine) // CYCLE * CYCLE or len(fine)
    look = _read_traveller(fine[:step], scene["place"], scene.get("time"))
    ground = _ground_speed(fine)
    direction = "still" if abs(ground) < _STILL else "left" if ground > 0 else "right"
    reading: Reading = {"character": look.name, "color": look.color, "direction": direction, **scene}
    return reading | {"speed": abs(ground), "faces": look.faces}


def score(frames: np.ndarray, text: str) -> dict[str, float]:
    """1 or 0 for every attribute that the text names.

    Raises:
        ValueError: the text names nothing of this world, or two values of one attribute.
    """
    wanted = parse(text).labels
    if not wanted:
        raise ValueError(f"nothing in {text!r} can be checked; see words.describe()")
    seen = read(frames)
    return {name: float(seen.get(name) == value) for name, value in wanted.items()}


def mean_score(scores: Sequence[dict[str, float]]) -> float:
    """Mean over videos of the mean over attributes."""
    return float(np.mean([np.mean(list(s.values())) for s in scores]))
