"""A tiny endless world: captioned clips, 64x64 pixels, whose motion goes on for ever. Toybox was trained on it.

Three families: shapes with one eye that look and move left, right, up or down and come back at the other edge;
landscapes that scroll; a robot that walks through them. Everything that a caption names can be read from the pixels.

The factors are few and strong on purpose, because a small model has to learn them in hours on a CPU:

* features are large (a latent cell is 8x8 pixels);
* everything in a picture depends on one number, the time: what moves comes back after 64 frames at most;
* motion is slow and of one speed, 2 pixels per frame, so that neighbouring frames correlate in every latent channel
  and a clip of 16 frames still shows a displacement of half a picture;
* what moves has a front: the appearance ties the words left, right, up and down to the motion.
"""

from collections.abc import Sequence

import numpy as np

SIZE = 64
FRAMES = 16
SPEED = 2.0
PERIOD = 64
COLORS = {"red": (225, 35, 35), "green": (40, 185, 65), "blue": (45, 95, 245), "yellow": (250, 215, 40),
          "purple": (165, 65, 215)}  # fmt: skip
BACKGROUNDS = {"black": (12, 12, 16), "white": (240, 240, 240), "navy": (28, 38, 105), "beige": (232, 212, 172)}
_GLOW = {"black": (150, 120, 80), "white": (145, 165, 190), "navy": (125, 135, 200), "beige": (165, 115, 75)}
SHAPES = ("ball", "square", "triangle")
VECTORS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOTIONS = {"left": ("moving left", "moving to the left"), "right": ("moving right", "moving to the right"),
           "up": ("moving up", "moving upwards"), "down": ("moving down", "moving downwards")}  # fmt: skip
PLACES = ("hills", "mountains", "city", "desert")
TIMES = {"day": ("on a sunny day", "by day"), "sunset": ("at sunset",), "night": ("at night", "by night")}

_SKY = {"day": ((90, 160, 240), (190, 225, 250)), "sunset": ((110, 50, 120), (255, 150, 70)),
        "night": ((8, 10, 40), (35, 40, 90))}  # fmt: skip
_SUN = {"day": (255, 235, 90), "sunset": (255, 220, 120), "night": (235, 235, 215)}
_LIGHT = {"day": 1.0, "sunset": 0.62, "night": 0.42}
_FAR = {"hills": (120, 200, 100), "mountains": (150, 150, 178), "city": (125, 125, 150), "desert": (240, 190, 115)}
_NEAR = {"hills": (60, 150, 60), "mountains": (105, 125, 85), "city": (70, 70, 82), "desert": (225, 160, 80)}
_THING = {"hills": (20, 90, 35), "mountains": (15, 75, 60), "city": (235, 225, 150), "desert": (45, 115, 55)}

_X = (np.arange(SIZE, dtype=np.float32) + 0.5)[None, None, :]
_Y = (np.arange(SIZE, dtype=np.float32) + 0.5)[None, :, None]
_EYE, _PUPIL = (250, 250, 250), (15, 15, 20)

Labels = dict[str, str]


def _paint(image: np.ndarray, distance: np.ndarray, color: Sequence[float]) -> None:
    """Paint the inside of a signed distance (pixels, broadcastable to (F, H, W)), with soft edges."""
    alpha = np.clip(0.5 - distance, 0, 1)[..., None]
    image += alpha * (np.asarray(color, np.float32) - image)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)[:, None, None]


def _pick(rng: np.random.Generator, options: Sequence | dict):
    options = list(options)
    return options[rng.integers(len(options))]


def _wrapped(offset: np.ndarray, period: float = SIZE) -> np.ndarray:
    """The offset on a ring of the given length, in [-period / 2, period / 2)."""
    return (offset + period / 2) % period - period / 2


def shape_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float = 14.0) -> np.ndarray:
    """Signed distance in pixels from the outline of a shape centred at the origin (y points down)."""
    if shape == "ball":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.86 * radius
    return np.maximum(np.maximum(0.894 * np.abs(x) - 0.447 * y - 0.5 * radius, y - 0.9 * radius), -y - 1.3 * radius)


def _shape(labels: Labels, n: np.ndarray) -> np.ndarray:
    """A shape that looks where it goes, along the middle of the picture, which is a ring in both directions.

    A glow stands on the side where it goes to, for the same reason as the sun in `_scene`.
    """
    (dx, dy), shape = VECTORS[labels["motion"]], labels["shape"]
    place = SIZE / 2 + SPEED * _column(n)
    x, y = _wrapped(_X - SIZE / 2 - dx * place), _wrapped(_Y - SIZE / 2 - dy * place)
    image = np.broadcast_to(np.asarray(BACKGROUNDS[labels["background"]], np.float32), (len(n), SIZE, SIZE, 3)).copy()
    glow = np.clip((25 - np.hypot(_X - 32 - 32 * dx, _Y - 32 - 32 * dy)) / 8, 0, 1)[..., None]
    image += glow * (np.asarray(_GLOW[labels["background"]], np.float32) - image)
    _paint(image, shape_distance(shape, x, y), COLORS[labels["color"]])
    reach = 4.0 if shape == "triangle" else 5.5
    ex, ey = x - reach * dx, y - reach * dy - (3.5 if shape == "triangle" else 0.0)
    _paint(image, np.hypot(ex, ey) - 6.2, _EYE)
    _paint(image, np.hypot(ex - 2.2 * dx, ey - 2.2 * dy) - 3.2, _PUPIL)
    return image


def _shaded(color: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Colours (F, H, W, 3) of something that light falls on from the side; amount 1 is lit, 0 is in shadow."""
    return color * (0.5 + 0.5 * amount[..., None])


def _far_layer(image: np.ndarray, labels: Labels, u: np.ndarray, base: float, sun_side: int) -> None:
    """What moves at half the speed; `u` (F, 1, W) runs over its 64 pixels."""
    place, time = labels["place"], labels["time"]
    wave, far = 2 * np.pi * u / SIZE, np.asarray(_FAR[place], np.float32) * _LIGHT[time]
    if place == "city":
        height = np.asarray((14, 30, 20, 25), np.float32)[np.floor(u / 16).astype(int) % 4]
        x = u % 16 - 8
        _paint(image, np.maximum(np.abs(x) - 7.5, base - height - _Y), _shaded(far, (x * sun_side > -3.5)))
        window = np.maximum(np.abs(x - sun_side) - 2.6, np.abs((_Y - base + height) % 10 - 6) - 3)
        lamp = (200, 225, 245) if time == "day" else (255, 215, 100)
        _paint(image, np.maximum(window, base - height + 2 - _Y), lamp)
    elif place == "mountains":
        outline = (base - 34 + np.abs(u - 32) * 1.0 - _Y) * 0.75
        face = (u - 32) * sun_side > 0
        snow = np.asarray((245, 248, 255), np.float32) * max(_LIGHT[time], 0.5)
        _paint(image, outline, _shaded(far, face))
        _paint(image, np.maximum(outline, _Y - base + 20), _shaded(snow, 0.4 + 0.6 * face))
    elif place == "desert":
        amount = np.clip(0.5 - 0.8 * np.cos(wave / 2) * sun_side, 0, 1)
        _paint(image, (base - 2 - 16 * np.abs(np.sin(wave / 2)) - _Y) * 0.85, _shaded(far, amount))
    else:
        amount = np.clip(0.5 - 0.6 * np.cos(wave) * sun_side, 0, 1)
        _paint(image, (base - 8 - 9 * np.sin(wave) - _Y) * 0.85, _shaded(far, amount))


def _near_thing(image: np.ndarray, place: str, x: np.ndarray, light: float, sun_side: int) -> None:
    """A tree, a pine, a cactus or a road mark at x = 0 (F, 1, W)."""
    color = _shaded(np.asarray(_THING[place], np.float32) * light, x * sun_side > -1)
    if place == "city":
        _paint(image, np.maximum(np.abs(x) - 8, np.abs(_Y - 57) - 2.5), color)
    elif place == "mountains":
        _paint(image, np.maximum(np.maximum(0.9 * np.abs(x) - 0.44 * (_Y - 32), _Y - 50), 30 - _Y), color)
    elif place == "desert":
        trunk = np.maximum(np.abs(x) - 3, np.abs(_Y - 44) - 11)
        arms = np.maximum(np.abs(x) - 8, np.abs(_Y - 44) - 2.2)
        tips = np.maximum(np.abs(np.abs(x) - 6.5) - 2, np.abs(_Y - 41) - 5)
        _paint(image, np.minimum(trunk, np.minimum(arms, tips)), color)
    else:
        _paint(image, np.maximum(np.abs(x) - 2, np.abs(_Y - 48) - 5), np.asarray((110, 70, 40)) * light)
        _paint(image, np.hypot(x, _Y - 38) - 7.5, color)


def _scene(labels: Labels, n: np.ndarray, direction: int) -> np.ndarray:
    """Sky, a far layer at half the speed and a near one with one thing every 32 pixels; direction +1: to the right.

    The sun stands on the side where the journey goes, and everything is lit from there: stills, too, say at every
    place in the picture which way it moves.
    """
    place, time = labels["place"], labels["time"]
    light, shift = _LIGHT[time], direction * SPEED * n
    top, low = (np.asarray(c, np.float32) for c in _SKY[time])
    image = np.broadcast_to(top + (low - top) * np.clip(_Y / 48, 0, 1)[..., None], (len(n), SIZE, SIZE, 3)).copy()
    sun = (SIZE / 2 - 20 * direction, 26 if time == "sunset" else 12)
    _paint(image, np.hypot(_X - sun[0], _Y - sun[1]) - (9 if time == "sunset" else 8), _SUN[time])
    base = 46.0
    _far_layer(image, labels, (_X - _column(shift / 2)) % SIZE, base, -direction)
    _paint(image, base - _Y, np.asarray(_NEAR[place], np.float32) * light)
    _near_thing(image, place, _wrapped(_X - _column(shift), 32), light, -direction)
    return image


def _robot(labels: Labels, n: np.ndarray) -> np.ndarray:
    """A robot that walks in the middle of the picture, in step with the landscape that goes the other way."""
    side = VECTORS[labels["motion"]][0]
    image = _scene(labels, n, -side)
    body = np.asarray(COLORS[labels["color"]], np.float32) * max(_LIGHT[labels["time"]], 0.7)
    phase = _column(2 * np.pi * n / 16)
    x, y = (_X - 32) * side, _Y + 1.5 * np.abs(np.sin(phase))
    for swing, shade in ((np.pi, 0.45), (0.0, 0.65)):  # the far leg is the darker one
        leg = x - np.tan(0.6 * np.sin(phase + swing)) * np.maximum(y - 42, 0)
        _paint(image, np.maximum(np.abs(leg) - 3, np.abs(y - 50) - 9), body * shade)
    _paint(image, np.maximum(np.abs(x) - 8.5, np.abs(y - 34) - 9), body)
    _paint(image, np.maximum(np.abs(x - 1) - 7, np.abs(y - 18) - 6), body)
    _paint(image, np.hypot(x - 4, y - 18) - 4, _EYE)
    _paint(image, np.hypot(x - 5.5, y - 18) - 2, _PUPIL)
    return image


FACTORS: dict[str, dict[str, Sequence[str]]] = {
    "shape": {"shape": SHAPES, "color": tuple(COLORS), "motion": tuple(VECTORS), "background": tuple(BACKGROUNDS)},
    "landscape": {"place": PLACES, "time": tuple(TIMES), "motion": ("left", "right")},
    "robot": {"color": tuple(COLORS), "place": PLACES, "time": tuple(TIMES), "motion": ("left", "right")},
}
WEIGHTS = {"shape": 0.36, "landscape": 0.24, "robot": 0.4}
FAMILIES = tuple(FACTORS)


def render(labels: Labels, start: float = 0, frames: int = FRAMES) -> np.ndarray:
    """uint8 (frames, 64, 64, 3) from any frame, or between two, of the endless video that the labels name; it repeats
    after PERIOD."""
    n = (start + np.arange(frames)) % PERIOD
    family = labels["family"]
    if family == "shape":
        image = _shape(labels, n)
    else:
        image = _robot(labels, n) if family == "robot" else _scene(labels, n, VECTORS[labels["motion"]][0])
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def caption(labels: Labels, rng: np.random.Generator) -> str:
    """One of the sentences that name the labels."""
    if labels["family"] == "shape":
        color, shape, words = labels["color"], labels["shape"], _pick(rng, MOTIONS[labels["motion"]])
        back = labels["background"]
        return _pick(rng, (f"a {color} {shape} {words} on a {back} background", f"{color} {shape} {words} over {back}"))
    place, motion, when = labels["place"], labels["motion"], _pick(rng, TIMES[labels["time"]])
    to = _pick(rng, ("to the ", ""))
    if labels["family"] == "landscape":
        return f"{place} scrolling {to}{motion} {when}"
    return f"a {labels['color']} robot walking {to}{motion} in the {place} {when}"


def held_out(labels: Labels) -> bool:
    """Whether this combination of attributes is kept for measurements: about one in eight, never trained on."""
    factors = FACTORS[labels["family"]]
    n = {name: list(factors[name]).index(labels[name]) for name in factors}
    if labels["family"] == "shape":
        return (n["shape"] + 2 * n["color"] + 3 * n["motion"] + n["background"]) % 8 == 0
    return (n["place"] + n["time"] + 2 * n["motion"] + n.get("color", 7)) % 8 == 0


def draw_labels(rng: np.random.Generator, family: str | None = None, held: bool | None = False) -> Labels:
    """Random labels: `held=False` draws training combinations, `True` held-out ones, `None` any."""
    while True:
        kind = family or FAMILIES[rng.choice(len(FAMILIES), p=list(WEIGHTS.values()))]
        labels = {"family": kind} | {name: _pick(rng, options) for name, options in FACTORS[kind].items()}
        if held is None or held_out(labels) == held:
            return labels


def make_clip(
    rng: np.random.Generator, frames: int = FRAMES, family: str | None = None, held: bool | None = False
) -> tuple[np.ndarray, str, Labels]:
    """One clip, its caption, its labels, from a random start. `frames` may be any length."""
    labels = draw_labels(rng, family, held)
    return render(labels, int(rng.integers(PERIOD)), frames), caption(labels, rng), labels
