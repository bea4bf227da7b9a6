"""Read what a video of the toybox world shows, and score it against its caption. Needs numpy only.

The world is made so that everything a caption names can be read from pixels: colours from fixed palettes, shapes by
their outline, directions from the movement of one phase per frame. No network judges another one here.

    >>> read(frames)["motion"], read(frames)["speed"]
    ('left', 2.0)
    >>> score(frames, "a red ball moving left on a black background")
    {'color': 1.0, 'shape': 1.0, 'background': 1.0, 'motion': 1.0}

Frames are uint8 (F, 64, 64, 3) throughout, x to the right, y down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

SIZE = 64
COLORS = {"red": (225, 35, 35), "green": (40, 185, 65), "blue": (45, 95, 245), "yellow": (250, 215, 40),
          "purple": (165, 65, 215)}  # fmt: skip
BACKGROUNDS = {"black": (12, 12, 16), "white": (240, 240, 240), "navy": (28, 38, 105), "beige": (232, 212, 172)}
SHAPES = ("ball", "square", "triangle")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
PLACES = ("hills", "mountains", "city", "desert")
TIMES = {"day": ("sunny day", "by day"), "sunset": ("sunset",), "night": ("night",)}

_GLOWS = {"black glow": (150, 120, 80), "white glow": (145, 165, 190), "navy glow": (125, 135, 200),
          "beige glow": (165, 115, 75)}  # fmt: skip
_SKY = {"day": (90, 160, 240), "sunset": (110, 50, 120), "night": (8, 10, 40)}
_LIGHT = {"day": 1.0, "sunset": 0.62, "night": 0.42}
_NEAR = {"hills": (60, 150, 60), "mountains": (105, 125, 85), "city": (70, 70, 82), "desert": (225, 160, 80)}
_THING = {"hills": (20, 90, 35), "mountains": (15, 75, 60), "city": (235, 225, 150), "desert": (45, 115, 55)}
_THING_ROWS = {"hills": (32, 46), "mountains": (36, 50), "city": (55, 60), "desert": (34, 55)}
_THING_PERIOD = 32
_STILL = 0.5  # pixels per frame, a quarter of the world's speed

Labels = dict[str, str]
Reading = dict[str, str | float]


def parse(caption: str) -> Labels:
    """The labels that a caption names: family, and its attributes. Raises ValueError for other sentences."""
    words = re.findall(r"[a-z]+", caption.lower())
    text = " ".join(words)

    def find(options: Iterable[str]) -> str | None:
        return next((option for option in options if option in words), None)

    motion = find(DIRECTIONS) or ("up" if "upwards" in words else "down" if "downwards" in words else None)
    time = next((name for name, phrases in TIMES.items() if any(phrase in text for phrase in phrases)), None)
    if "robot" in words:
        labels = {"family": "robot", "color": find(COLORS), "place": find(PLACES), "time": time, "motion": motion}
    elif "scrolling" in words:
        labels = {"family": "landscape", "place": find(PLACES), "time": time, "motion": motion}
    else:
        labels = {"family": "shape", "color": find(COLORS), "shape": find(SHAPES), "background": find(BACKGROUNDS),
                  "motion": motion}  # fmt: skip
    missing = [name for name, value in labels.items() if value is None]
    if missing:
        raise ValueError(f"cannot read {', '.join(missing)} in the caption {caption!r}")
    return labels


def read(frames: np.ndarray) -> Reading:
    """What the frames show: family and its attributes, `motion` ("still" below half a pixel per frame) and `speed`.

    `speed` is the mean displacement in pixels per frame along `motion`; a robot's motion is its own, opposite to
    that of the ground.
    """
    pixels = frames.astype(np.float32)
    shares = {name: float((_distance(pixels, rgb) < 32).mean()) for name, rgb in BACKGROUNDS.items()}
    background = max(shares, key=shares.get)
    if shares[background] > 0.4:
        return _read_shape(pixels, background)
    return _read_scene(pixels)


def score(frames: np.ndarray, caption: str) -> dict[str, float]:
    """1 or 0 for every attribute that the caption names; all 0 where the frames show another kind of scene."""
    wanted, seen = parse(caption), read(frames)
    same = wanted.pop("family") == seen["family"]
    return {name: float(same and seen[name] == value) for name, value in wanted.items()}


def displacements(frames: np.ndarray) -> np.ndarray:
    """What moves from frame to frame, (F - 1, 2) pixels to the right and down: the shape, or the ground (0 down)."""
    pixels, seen = frames.astype(np.float32), read(frames)
    if seen["family"] == "shape":
        return np.stack(_track_shape(_body(pixels)[1]), 1)
    across = _track_things(pixels, str(seen["place"]), str(seen["time"]), seen["family"] == "robot")
    return np.stack([across, np.zeros_like(across)], 1)


def mean_score(scores: Sequence[dict[str, float]]) -> float:
    """Mean over videos of the mean over attributes."""
    return float(np.mean([np.mean(list(s.values())) for s in scores]))


def _distance(pixels: np.ndarray, rgb: Sequence[float], light: float = 1.0) -> np.ndarray:
    """Euclidean distance in RGB of every pixel from one colour."""
    return np.sqrt(((pixels - np.asarray(rgb, np.float32) * light) ** 2).sum(-1))


def _nearest(pixels: np.ndarray, palette: dict[str, tuple], light: float = 1.0) -> dict[str, float]:
    """Share of the pixels for which each colour is the nearest one."""
    distance = np.stack([_distance(pixels, rgb, light) for rgb in palette.values()])
    counts = np.bincount(distance.argmin(0).ravel(), minlength=len(palette))
    return dict(zip(palette, counts / max(1, counts.sum()), strict=True))


def _phase_steps(weights: np.ndarray, period: int, columns: np.ndarray | None = None) -> np.ndarray:
    """Displacement per frame of a pattern (F, W) on a ring, from the phase of its first harmonic."""
    x = np.arange(weights.shape[1]) if columns is None else columns
    phase = np.angle((weights * np.exp(2j * np.pi * x / period)).sum(1))
    step = (np.diff(phase) + np.pi) % (2 * np.pi) - np.pi
    return step * period / (2 * np.pi)


def _motion(across: np.ndarray, down: np.ndarray) -> tuple[str, float]:
    """Name and speed of the mean displacement."""
    mean = np.array([across.mean(), down.mean()])
    axis = int(np.abs(mean).argmax())
    speed = float(abs(mean[axis]))
    if speed < _STILL:
        return "still", speed
    return (("left", "right"), ("up", "down"))[axis][int(mean[axis] > 0)], speed


def _body(pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """The colour of the object and how far each pixel has it (F, H, W), its eye left out."""
    names = [*COLORS, *BACKGROUNDS, *_GLOWS, "eye", "pupil"]
    palette = [*COLORS.values(), *BACKGROUNDS.values(), *_GLOWS.values(), (250, 250, 250), (15, 15, 20)]
    shares = _nearest(pixels[:, ::2, ::2], dict(zip(names, palette, strict=True)))
    color = max(COLORS, key=lambda name: shares[name])
    return color, np.clip((110 - _distance(pixels, COLORS[color])) / 60, 0, 1)


def _track_shape(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _phase_steps(mask.sum(1), SIZE), _phase_steps(mask.sum(2), SIZE)


def _read_shape(pixels: np.ndarray, background: str) -> Reading:
    color, mask = _body(pixels)
    motion, speed = _motion(*_track_shape(mask))
    shape, overlap = _outline(mask)
    return {"family": "shape", "color": color, "shape": shape, "background": background, "motion": motion,
            "speed": speed, "overlap": overlap}  # fmt: skip


def _templates() -> tuple[list[str], np.ndarray]:
    """Outlines of the three shapes in several sizes, centred at the origin of the ring."""
    axis = (np.arange(SIZE) + SIZE / 2) % SIZE - SIZE / 2
    x, y = axis[None, :], axis[:, None]
    names, masks = [], []
    for radius in (11.0, 12.5, 14.0, 15.5):
        distances = {"ball": np.hypot(x, y) - radius, "square": np.maximum(np.abs(x), np.abs(y)) - 0.86 * radius}
        sides = np.maximum(0.894 * np.abs(x) - 0.447 * y - 0.5 * radius, y - 0.9 * radius)
        distances["triangle"] = np.maximum(sides, -y - 1.3 * radius)
        names += list(distances)
        masks += [np.clip(0.5 - d, 0, 1) for d in distances.values()]
    return names, np.stack(masks)


_NAMES, _MASKS = _templates()
_SPECTRA = np.conj(np.fft.rfft2(_MASKS))


def _outline(mask: np.ndarray) -> tuple[str, float]:
    """The shape that most frames overlap best, anywhere on the ring, and its mean intersection over union."""
    chosen = mask[np.linspace(0, len(mask) - 1, min(len(mask), 8)).astype(int)]
    votes, best = dict.fromkeys(SHAPES, 0), []
    for frame in chosen:
        common = np.fft.irfft2(np.fft.rfft2(frame)[None] * _SPECTRA, s=(SIZE, SIZE)).max((1, 2))
        overlap = common / (frame.sum() + _MASKS.sum((1, 2)) - common)
        votes[_NAMES[int(overlap.argmax())]] += 1
        best.append(overlap.max())
    return max(votes, key=votes.get), float(np.mean(best))


def _track_things(pixels: np.ndarray, place: str, time: str, robot: bool) -> np.ndarray:
    """Displacement per frame of what stands or lies on the ground, which comes back every 32 pixels."""
    columns = np.arange(SIZE)
    if robot:  # the robot hides the middle; what is left is exactly one period
        columns = np.concatenate([columns[:16], columns[48:]])
    low, high = _THING_ROWS[place]
    rows, light = pixels[:, low:high][:, :, columns], _LIGHT[time]
    thing = np.asarray(_THING[place], np.float32) * light
    reach = 0.45 * np.linalg.norm(thing - np.asarray(_NEAR[place], np.float32) * light)
    weights = np.exp(-0.5 * (_distance(rows, thing) / reach) ** 2).sum(1)
    return _phase_steps(weights, _THING_PERIOD, columns)


def _read_scene(pixels: np.ndarray) -> Reading:
    times = _nearest(pixels[:, :5, 24:40], _SKY)
    time = max(times, key=times.get)
    light = _LIGHT[time]
    edges = np.concatenate([pixels[:, 60:, :16], pixels[:, 60:, 48:]], 2)
    places = _nearest(edges, _NEAR, light)
    place = max(places, key=places.get)

    body = pixels[:, 27:41, 26:38]
    scene = {f"far {name}": tuple(np.asarray(rgb) * light) for name, rgb in _NEAR.items()}
    scene |= {f"thing {name}": tuple(np.asarray(rgb) * light) for name, rgb in _THING.items()}
    painted = {name: tuple(np.asarray(rgb) * max(light, 0.7)) for name, rgb in COLORS.items()}
    shares = _nearest(body, {**painted, **scene, **_scene_colors(light)})
    color = max(painted, key=lambda name: shares[name])
    robot = shares[color] > 0.6

    across = _track_things(pixels, place, time, robot)
    motion, speed = _motion(-across if robot else across, np.zeros_like(across))
    reading: Reading = {"family": "robot" if robot else "landscape", "place": place, "time": time, "motion": motion,
                        "speed": speed}  # fmt: skip
    return reading | {"color": color} if robot else reading


def _scene_colors(light: float) -> dict[str, tuple]:
    """What else may fill the middle of a landscape: far layers, snow, lamps and the low sky."""
    far = {"hills": (120, 200, 100), "mountains": (140, 140, 165), "city": (125, 125, 150), "desert": (240, 190, 115)}
    colors = {f"layer {name}": tuple(np.asarray(rgb) * light) for name, rgb in far.items()}
    snow = tuple(np.asarray((245, 248, 255)) * max(light, 0.5))
    return colors | {"snow": snow, "lamp": (255, 215, 100), "pane": (200, 225, 245), "noon": (190, 225, 250),
                     "dusk": (220, 125, 80), "dark": (30, 35, 80)}  # fmt: skip
