# ruff: noqa: RUF005 - a tuple added to an array of points moves them
"""Journeys without end: captioned clips of a traveller in a landscape that scrolls by, drawn with antialiased layers.

    >>> frames = render(labels, start=0, frames=16)   # uint8 (16, 128, 128, 3), any start, any number of frames

A picture is 96 units wide and high, rendered at any multiple of 32 pixels up to 128. What made an earlier world of this
kind learnable holds here, too: slow even motion (near things move two units per frame, others less), a direction that
shows in every single frame (the traveller's face, the side of the light), and pictures that depend on one number, the
time; a journey repeats after `PERIOD` frames.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
from PIL import Image

from journeys.brush import Canvas, ellipse, limb, mix
from journeys.characters import COLORS, CYCLE, sprite, stands
from journeys.light import Tone
from journeys.places import FAR, GROUND, MIDDLE, NEAR, PAINTERS
from journeys.words import Labels, caption, draw_labels, move_of

UNITS = 96
SIZE = 128
FRAMES = 16
FPS = 10
PERIOD = 192
SPEED = 2
"""Units per frame of the ground; the middle layer moves half as much, the far one a quarter."""

_LOOPS = ((FAR, Fraction(1, 2)), (MIDDLE, Fraction(1)), (NEAR, Fraction(SPEED)), (NEAR, Fraction(SPEED)))


class _Layer:
    """A painted loop that moves to the left at an even speed; one picture for every fraction of a pixel that occurs."""

    def __init__(self, canvas: Canvas, speed: Fraction, scale: Fraction, size: int):
        self._step, self._size = speed * scale, size
        self._phases, self._top, self._bottom = [], size, 0
        count = self._step.denominator
        for phase in range(count):
            loop = canvas.done(phase / count)
            image = Image.new("RGBA", (loop.width + size, size))
            image.paste(loop, (0, 0))
            image.paste(loop.crop((0, 0, size, size)), (loop.width, 0))
            self._length = loop.width
            self._phases.append(image)
            area = image.getbbox()
            if area:
                self._top, self._bottom = min(self._top, area[1]), max(self._bottom, area[3])

    def onto(self, frame: Image.Image, n: int) -> None:
        """Lay frame n of the loop over a picture."""
        if self._bottom <= self._top:
            return
        shift = n * self._step
        whole = shift.numerator // shift.denominator
        image = self._phases[int((shift - whole) * len(self._phases))]
        left = whole % self._length
        frame.alpha_composite(image, (0, self._top), (left, self._top, left + self._size, self._bottom))


class _Fall:
    """Drops, flakes or bubbles: a tile that loops in both directions and moves by `step` units per frame."""

    def __init__(self, shapes: list[np.ndarray], color: tuple, opacity: float, step: tuple, scale: Fraction, size: int):
        dx, dy = (Fraction(s) * scale for s in step)
        self._phases, self._step, self._size = [], (dx, dy), size
        self._count = math.lcm(dx.denominator, dy.denominator)
        for phase in range(self._count):
            canvas = Canvas(UNITS, UNITS, float(scale), loop=True)
            for shape in shapes:
                moved = shape + (phase * step[0], (phase * step[1]) % UNITS)
                over = moved[:, 1].max() > UNITS
                canvas.paint([moved, moved - (0, UNITS)] if over or moved[:, 1].min() < 0 else moved, color)
                if moved[:, 1].min() < 0:
                    canvas.paint(moved + (0, UNITS), color)
            tile = canvas.done()
            tile.putalpha(tile.getchannel("A").point([round(opacity * v) for v in range(256)]))
            image = Image.new("RGBA", (2 * size, 2 * size))
            for x in (0, size):
                for y in (0, size):
                    image.paste(tile, (x, y))
            self._phases.append(image)

    def onto(self, frame: Image.Image, n: int) -> None:
        whole = n - n % self._count
        left, top = (int(-whole * step) % self._size for step in self._step)
        frame.alpha_composite(self._phases[n % self._count], (0, 0), (left, top, left + self._size, top + self._size))


def _sky(tone: Tone, scale: Fraction, size: int, low: float) -> Image.Image:
    rows = tone.gradient(size, low)
    image = Image.fromarray(np.repeat(np.clip(rows + 0.5, 0, 255).astype(np.uint8)[:, None], size, 1)).convert("RGBA")
    canvas, top = Canvas(UNITS, UNITS, float(scale)), tone.sky()[0]
    if tone.water:
        canvas.paint(ellipse(74, -4, 20, 9), mix(tone.sky()[0], (255, 255, 250), 0.4))
        for x, wide in ((78, 8), (60, 6), (40, 4)):
            canvas.veil(
                np.array([(x - wide / 2, 0), (x + wide, 0), (x - 22 + wide, 66), (x - 34 - wide, 66)]),
                (255, 255, 240),
                0.1,
            )
    elif tone.time is not None:
        _lights(canvas, tone, top)
    image.alpha_composite(canvas.done())
    return image


def _lights(canvas: Canvas, tone: Tone, top: tuple) -> None:
    """Sun, moon and stars; behind clouds they are pale, behind rain and snow there are none."""
    if tone.weather in ("rain", "snow"):
        return
    veil = 0.55 if tone.weather == "cloudy" else 0.0
    sky = tone.sky()
    if tone.time == "night":
        rng = np.random.default_rng(8)
        for _ in range(0 if veil else 34):
            r = 0.4 + 0.5 * rng.random() ** 2
            canvas.paint(ellipse(UNITS * rng.random(), 52 * rng.random(), r), (236, 238, 255))
        canvas.paint(ellipse(76, 17, 8.5), mix((250, 246, 220), top, veil))
        canvas.paint(
            [ellipse(73, 14.5, 1.8), ellipse(79.4, 19.4, 1.4), ellipse(75.4, 21, 1.0)], mix((222, 216, 190), top, veil)
        )
        return
    x, y, r, color = {"dawn": (78, 44, 9, (255, 244, 190)), "day": (76, 16, 9, (255, 232, 84)),
                      "sunset": (76, 42, 12, (255, 226, 110))}[tone.time]  # fmt: skip
    if tone.time == "day" and not veil:
        for a in np.arange(12) * np.pi / 6:
            canvas.paint(
                limb(x + 11.5 * np.cos(a), y + 11.5 * np.sin(a), x + 13.6 * np.cos(a), y + 13.6 * np.sin(a), 1.5), color
            )
    canvas.paint(ellipse(x, y, r), mix(color, sky[1], veil))


def _clouds(tone: Tone, scale: Fraction) -> Canvas:
    canvas = Canvas(FAR, UNITS, float(scale), loop=True)
    if tone.time is None or tone.water:
        return canvas
    white, shade = {
        "dawn": ((255, 236, 232), (226, 190, 210)),
        "day": ((255, 255, 255), (208, 226, 244)),
        "sunset": ((255, 190, 150), (196, 104, 124)),
        "night": ((72, 82, 138), (46, 54, 104)),
    }[tone.time]
    if tone.weather == "rain":
        white, shade = mix(white, tone.haze, 0.72), mix(shade, tone.sky()[0], 0.85)
        shade = mix(shade, (20, 22, 40), 0.3)
    elif tone.weather in ("cloudy", "snow"):
        white, shade = mix(white, tone.haze, 0.35), mix(shade, tone.haze, 0.5)
    some = ((18, 26, 0.8), (62, 12, 1.0))
    many = ((6, 9, 1.5), (30, 14, 1.25), (54, 8, 1.5), (78, 13, 1.35), (42, 25, 0.95), (90, 27, 0.9))
    for x, y, s in some if tone.weather == "clear" else many:
        puffs = [ellipse(x - 9 * s, y + 1.5 * s, 5 * s, 3.8 * s), ellipse(x - 2 * s, y - 1.5 * s, 7 * s, 5.6 * s),
                 ellipse(x + 7 * s, y + 0.6 * s, 6 * s, 4.6 * s), ellipse(x, y + 3 * s, 14 * s, 2.6 * s)]  # fmt: skip
        canvas.paint(puffs, shade)
        canvas.paint([p + (1.2 * s, -1.6 * s) for p in puffs], white, inside=puffs)
    return canvas


def _falling(place: str, tone: Tone, scale: Fraction, size: int) -> tuple[list[_Fall], list[_Fall]]:
    """What falls behind the traveller and before it."""
    rng = np.random.default_rng(5)

    def spots(count: int) -> list[tuple[float, float, float]]:
        side = int(np.ceil(np.sqrt(count)))
        grid = [(i, j) for i in range(side) for j in range(side)]
        return [
            ((i + rng.random()) * UNITS / side, (j + rng.random()) * UNITS / side, rng.random())
            for i, j in grid[:count]
        ]

    if tone.weather == "rain":
        drop = {"night": (150, 170, 214), "sunset": (250, 214, 206)}.get(tone.time or "", (226, 238, 250))
        near = [limb(x, y, x - 2.6, y + 5.2, 1.1) for x, y, _ in spots(36)]
        far = [limb(x, y, x - 1.7, y + 3.4, 0.8) for x, y, _ in spots(36)]
        return [_Fall(far, drop, 0.5, (-2, 4), scale, size)], [_Fall(near, drop, 0.8, (-2, 4), scale, size)]
    if tone.weather == "snow":
        flake = tuple(mix((255, 255, 255), tone.haze, 0.12))
        near = [ellipse(x, y, 1.2 + 0.5 * r) for x, y, r in spots(30)]
        far = [ellipse(x, y, 0.8 + 0.25 * r) for x, y, r in spots(36)]
        return [_Fall(far, flake, 0.9, (-1, 1), scale, size)], [_Fall(near, flake, 1.0, (-2, 2), scale, size)]
    if place == "reef":
        bubbles = [ellipse(x, y, 0.9 + 0.8 * r) for x, y, r in spots(12)]
        return [_Fall(bubbles, mix((226, 248, 255), tone.haze, 0.25), 0.75, (-1, -1), scale, size)], []
    return [], []


class _Scene:
    """All layers of a place under one time of day and weather, at one size."""

    def __init__(self, place: str, time: str | None, weather: str | None, size: int):
        scale, tone = Fraction(size, UNITS), Tone(time, weather, place == "reef")
        low = {"space": 1.0, "reef": 0.95, "sea": 0.6}.get(place, 0.7)
        self._sky = _sky(tone, scale, size, low)
        clouds = _Layer(_clouds(tone, scale), _LOOPS[0][1], scale, size)
        painted = []
        for painter, (loop, speed) in zip(PAINTERS[place], _LOOPS, strict=True):
            canvas = Canvas(loop, UNITS, float(scale), loop=True)
            painter(canvas, tone)
            painted.append(_Layer(canvas, speed, scale, size))
        behind, before = _falling(place, tone, scale, size)
        self.behind, self.before = [clouds, *painted[:3], *behind], [painted[3], *before]

    def background(self, n: int) -> Image.Image:
        """Everything behind the traveller."""
        frame = self._sky.copy()
        for layer in self.behind:
            layer.onto(frame, n)
        return frame


@functools.lru_cache(maxsize=128)
def _scene(place: str, time: str | None, weather: str | None, size: int) -> _Scene:
    return _Scene(place, time, weather, size)


@functools.lru_cache(maxsize=6000)
def _sprite(character: str, color: tuple, time: str | None, phase: int, size: int, spouts: bool) -> Image.Image:
    return sprite(character, color, time, phase / CYCLE, size / UNITS, spouts)


def height_of(character: str, place: str) -> float:
    """The y of a traveller's feet, wheels, keel or middle, in units."""
    if place == "sea" and character in ("boat", "whale"):
        return 75.0 if character == "boat" else 68.0
    return {"walking": GROUND, "driving": GROUND + 1, "swimming": 45.0}.get(move_of(character), 36.0)


def _corner(character: str, place: str, size: int) -> tuple[int, int]:
    """Where the corner of a traveller's picture lies in the frame."""
    (x, y), scale = stands(character), size / UNITS
    return round((UNITS / 2 - x) * scale), round((height_of(character, place) - y) * scale)


def traveller_alone(
    character: str, place: str, time: str | None, size: int = SIZE, every: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of a traveller that faces right over one step, without the scene (the checker's templates).

    Returns `base`, `slope` (size, size, 3) and `cover` (size, size): in a colour RGB it looks like base + slope * RGB,
    and cover (0 to 1) says how often a pixel shows it.
    """
    sums, cover, corner = np.zeros((2, size, size, 3)), np.zeros((size, size)), _corner(character, place, size)
    for n in range(0, CYCLE, every):
        for k, color in enumerate(((0, 0, 0), (255, 255, 255))):
            frame = Image.new("RGBA", (size, size))
            _lay(frame, _sprite(character, color, time, n, size, place == "sea"), corner)
            pixels = np.asarray(frame, np.float32)
            sums[k] += pixels[..., 3:] / 255 * pixels[..., :3]
        cover += pixels[..., 3] / 255
    dark, bright = (sums / np.maximum(cover, 1e-6)[..., None]).astype(np.float32)
    return dark, (bright - dark) / 255, (cover * every / CYCLE).astype(np.float32)


def _lay(frame: Image.Image, image: Image.Image, corner: tuple[int, int]) -> None:
    """Lay a picture over a frame, beyond whose edges it may reach."""
    left, top = (max(0, -c) for c in corner)
    frame.alpha_composite(image, (max(0, corner[0]), max(0, corner[1])), (left, top))


def render(
    labels: Labels, start: int = 0, frames: int = FRAMES, size: int = SIZE, traveller: bool = True
) -> np.ndarray:
    """uint8 (frames, size, size, 3) of the endless journey that the labels name; it repeats after PERIOD frames.

    Args:
        labels: of `words.draw_labels`.
        start: number of the first frame.
        frames: how many; there is no last one.
        size: pixels, a multiple of 32.
        traveller: False leaves the character out (for the checker's templates).
    """
    place, time = labels["place"], labels.get("time")
    scene = _scene(place, time, labels.get("weather"), size)
    if traveller:
        character, color = labels["character"], COLORS[labels["color"]]
        corner = _corner(character, place, size)
    video = np.empty((frames, size, size, 3), np.uint8)
    for k in range(frames):
        n = (start + k) % PERIOD
        frame = scene.background(n)
        if traveller:
            _lay(frame, _sprite(character, color, time, n % CYCLE, size, place == "sea"), corner)
        for layer in scene.before:
            layer.onto(frame, n)
        video[k] = np.asarray(frame)[..., :3]
    return video if labels["direction"] == "right" else np.ascontiguousarray(video[:, :, ::-1])


def make_clip(
    rng: np.random.Generator, frames: int = FRAMES, size: int = SIZE, held: bool | None = False
) -> tuple[np.ndarray, str, Labels]:
    """One clip from a random start, its caption, its labels."""
    labels = draw_labels(rng, held)
    return render(labels, int(rng.integers(PERIOD)), frames, size), caption(labels, rng), labels
