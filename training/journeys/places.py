# ruff: noqa: RUF005 - a tuple added to an array of points moves them
"""The eight places, painted in layers that each loop: far, middle, near, and what passes in front of the traveller.

Light falls from the right, where the journey goes to. Ground level (feet, wheels) is `GROUND`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from journeys.brush import Canvas, blob, box, ellipse, limb, mix, polygon, ribbon
from journeys.light import SNOW, Tone

GROUND = 82.0
FAR, MIDDLE, NEAR = 96.0, 192.0, 384.0  # lengths of the loops


def _dice(place: str, layer: int) -> np.random.Generator:
    return np.random.default_rng([sum(place.encode()), layer])


def _slots(rng: np.random.Generator, loop: float, gap: float, jitter: float = 0.3) -> list[float]:
    """Places along a loop, about `gap` apart."""
    count = round(loop / gap)
    return [(k + 0.5 + jitter * (rng.random() - 0.5)) * loop / count for k in range(count)]


def _ridge(loop: float, base: float, waves: tuple[tuple[float, int, float], ...], bottom: float = 98.0) -> np.ndarray:
    """Land below a sum of waves (height, number in the loop, phase)."""
    x = np.linspace(-2, loop + 2, int(loop * 1.5))
    y = base - sum(h * np.sin(2 * np.pi * n * x / loop + p) for h, n, p in waves)
    return np.concatenate([np.stack([x, y], 1), [(loop + 2, bottom), (-2, bottom)]])


def _ground(c: Canvas, tone: Tone, top: float, colors: tuple, road: tuple, mark: tuple, loop: float = NEAR) -> None:
    """Ground with a lit edge, and a way with marks on it."""
    c.paint(box(-4, top, loop + 4, 98), tone.cover(colors[0]))
    c.paint(box(-4, top, loop + 4, top + 1.6), tone.cover(colors[1], amount=1.0))
    c.paint(box(-4, 77, loop + 4, 89), tone.cover(road, amount=0.4))
    c.paint(box(-4, 77, loop + 4, 77.9), tone.cover(mix(road, (0, 0, 0), 0.25), amount=0.5))
    for k in range(round(loop / 16)):
        c.paint(box(16 * k + 2, 82.6, 16 * k + 10, 84.4, 0.8), tone(mark))


def _tree(c: Canvas, tone: Tone, x: float, foot: float, size: float, leaf: tuple, depth: float = 0.0) -> None:
    c.paint(box(x - 0.11 * size, foot - 0.45 * size, x + 0.11 * size, foot), tone((122, 80, 50), depth))
    crown = [ellipse(x, foot - 0.8 * size, 0.38 * size), ellipse(x - 0.27 * size, foot - 0.58 * size, 0.28 * size),
             ellipse(x + 0.27 * size, foot - 0.58 * size, 0.28 * size)]  # fmt: skip
    c.paint(crown, tone(mix(leaf, (10, 20, 60), 0.28), depth))
    lit = [s + (0.1 * size, -0.06 * size) for s in crown]
    c.paint(lit, tone.cover(leaf, depth, 0.62), inside=crown)


def _pine(c: Canvas, tone: Tone, x: float, foot: float, size: float, leaf: tuple, depth: float = 0.0) -> None:
    c.paint(box(x - 0.06 * size, foot - 0.2 * size, x + 0.06 * size, foot), tone((112, 76, 50), depth))
    for k in range(3):
        top, low, half = foot - size * (1 - 0.26 * k), foot - size * (0.52 - 0.2 * k), size * (0.2 + 0.07 * k)
        c.paint(polygon((x, top), (x + half, low), (x - half, low)), tone(mix(leaf, (10, 20, 60), 0.3), depth))
        c.paint(polygon((x, top), (x + half, low), (x - 0.15 * half, low)), tone.cover(leaf, depth, 0.3))
        if tone.snowy:
            c.paint(
                polygon(
                    (x, top), (x + 0.55 * half, top + 0.5 * (low - top)), (x - 0.5 * half, top + 0.45 * (low - top))
                ),
                tone(SNOW, depth),
            )


def _bush(c: Canvas, tone: Tone, x: float, foot: float, size: float, leaf: tuple) -> None:
    shapes = [ellipse(x + dx * size, foot - 0.35 * size, 0.42 * size, 0.42 * size) for dx in (-0.45, 0, 0.45)]
    c.paint(shapes, tone(mix(leaf, (10, 20, 60), 0.25)))
    c.paint([s + (0.12 * size, -0.12 * size) for s in shapes], tone.cover(leaf, 0.0, 0.7), inside=shapes)


def _flower(c: Canvas, tone: Tone, x: float, foot: float, color: tuple) -> None:
    c.paint(limb(x, foot, x + 0.3, foot - 3.2, 0.8), tone((52, 124, 48)))
    c.paint([ellipse(x + 0.3 + 1.2 * np.cos(a), foot - 4 + 1.2 * np.sin(a), 1.05) for a in np.arange(5) * 1.257],
            tone.cover(color, amount=0.4))  # fmt: skip
    c.paint(ellipse(x + 0.3, foot - 4, 0.8), tone((255, 220, 90)))


def _rock(c: Canvas, tone: Tone, x: float, foot: float, size: float, color: tuple, depth: float = 0.0) -> None:
    shape = blob((x - size, foot + 0.5), (x - 0.8 * size, foot - 0.7 * size), (x, foot - 1.1 * size),
                 (x + 0.8 * size, foot - 0.6 * size), (x + size, foot + 0.5), steps=4)  # fmt: skip
    c.paint(shape, tone(mix(color, (10, 10, 40), 0.3), depth))
    c.paint(shape + (0.35 * size, -0.2 * size), tone.cover(color, depth, 0.85), inside=shape)


# --- far: 96 units, half a unit per frame --------------------------------------------------------------------------


def _meadow_far(c: Canvas, tone: Tone) -> None:
    c.paint(_ridge(FAR, 56, ((6, 1, 0.4), (2.5, 2, 1.0))), tone.cover((104, 172, 138), 0.5))
    c.paint(_ridge(FAR, 62, ((4, 1, 2.6), (2, 3, 0.2))), tone.cover((116, 190, 104), 0.28))


def _forest_far(c: Canvas, tone: Tone) -> None:
    rng = _dice("forest", 0)
    for x in _slots(rng, FAR, 8):
        _pine(c, tone, x, 74, 34 + 12 * rng.random(), (58, 122, 104), 0.5)
    c.paint(box(-2, 70, FAR + 2, 98), tone.cover((58, 110, 84), 0.4))


def _mountains_far(c: Canvas, tone: Tone) -> None:
    for x, top, half in ((18, 15, 32), (66, 22, 30), (43, 30, 24), (90, 33, 22)):
        peak, stone = polygon((x, top), (x + half, 72), (x - half, 72)), (132, 138, 170)
        c.paint(peak, tone(mix(stone, (20, 20, 70), 0.34), 0.22))
        c.paint(
            polygon((x, top), (x + half, 72), (x + 0.1 * half, 72), (x - 4, top + 22), (x + 2, top + 14)),
            tone(stone, 0.22),
            inside=peak,
        )
        cap = 0.5 if tone.snowy else 0.3
        low = top + cap * (72 - top)
        jag = polygon(
            (x, top - 1),
            (x + cap * half + 1, low),
            (x + 0.5 * cap * half, low - 3.5),
            (x + 0.1 * half, low + 2.5),
            (x - 0.45 * cap * half, low - 3.5),
            (x - cap * half - 1, low),
        )
        c.paint(jag, tone((206, 214, 236), 0.1), inside=peak)
        c.paint(
            polygon((x, top - 1), (x + cap * half + 1, low + 3), (x, low + 3), (x - 1.5, top + 9)),
            tone(SNOW, 0.04),
            inside=jag,
        )


def _desert_far(c: Canvas, tone: Tone) -> None:
    for x, top, wide in ((20, 38, 15), (48, 48, 9), (74, 34, 12)):
        mesa = polygon(
            (x - wide, 68),
            (x - 0.8 * wide, top + 3),
            (x - 0.7 * wide, top),
            (x + 0.7 * wide, top),
            (x + 0.8 * wide, top + 3),
            (x + wide, 68),
        )
        c.paint(mesa, tone((176, 88, 66), 0.3))
        c.paint(mesa + (0.7 * wide, 0), tone((220, 122, 82), 0.3), inside=mesa)
        for k in range(3):
            c.paint(box(x - wide, top + 6 + 8 * k, x + wide, top + 8.4 + 8 * k), tone((150, 72, 60), 0.3), inside=mesa)
        c.paint(box(x - wide, top - 1, x + wide, top + 2), tone.cover((224, 136, 94), 0.3, 1.0), inside=mesa)
    c.paint(_ridge(FAR, 62, ((3, 1, 1.0),)), tone.cover((236, 184, 116), 0.25))


def _city_far(c: Canvas, tone: Tone) -> None:
    rng = _dice("city", 0)
    for x in np.arange(6, FAR, 12):
        top, half = 26 + 22 * rng.random(), 5.4
        c.paint(box(x - half, top, x + half, 80), tone((122, 134, 166), 0.42))
        c.paint(box(x + 1, top, x + half, 80), tone((146, 158, 188), 0.42))
        c.paint(box(x - half, top, x + half, top + 1.4), tone.cover((140, 152, 182), 0.4))
        if rng.random() < 0.5:
            c.paint(limb(x, top, x, top - 6, 1.0), tone((122, 134, 166), 0.42))
        for row in np.arange(top + 4, 74, 5):
            for dx in (-3.2, 0, 3.2):
                if rng.random() < 0.6:
                    c.paint(
                        box(x + dx - 0.9, row, x + dx + 0.9, row + 2.2),
                        tone.lamp((176, 190, 214), (255, 214, 120), 0.5),
                    )


def _sea_far(c: Canvas, tone: Tone) -> None:
    c.paint(box(-2, 54, FAR + 2, 98), tone((52, 132, 190), 0.34))
    c.paint(box(-2, 54, FAR + 2, 55), tone((120, 190, 226), 0.3))
    for x, wide, tall in ((22, 13, 8), (72, 8, 5)):
        hill = blob(
            (x - wide, 54.5),
            (x - 0.5 * wide, 54.5 - tall),
            (x + 0.2 * wide, 54.5 - 0.7 * tall),
            (x + 0.6 * wide, 54.5 - 0.9 * tall),
            (x + wide, 54.5),
        )
        c.paint([hill], tone.cover((88, 148, 128), 0.4))
    for k, x in enumerate(np.arange(4, FAR, 13)):
        c.paint(limb(x, 57.5 + 2 * (k % 2), x + 6, 57.5 + 2 * (k % 2), 0.9), tone((128, 196, 228), 0.3))


def _reef_far(c: Canvas, tone: Tone) -> None:
    c.paint(_ridge(FAR, 68, ((9, 1, 0.5), (4, 2, 2.0))), tone((40, 106, 146), 0.55))
    for x, top in ((14, 34), (52, 42), (80, 30)):
        c.paint(
            blob((x - 9, 80), (x - 7, top + 12), (x - 2, top), (x + 5, top + 6), (x + 10, 80)),
            tone((44, 112, 150), 0.5),
        )


def _space_far(c: Canvas, tone: Tone) -> None:
    rng = _dice("space", 0)
    for _ in range(46):
        x, y, r = FAR * rng.random(), 70 * rng.random(), 0.35 + 0.5 * rng.random() ** 2
        c.paint(ellipse(x, y, r), mix((200, 205, 255), (255, 244, 200), rng.random()))
    for x, y, rx, ry in ((20, 50, 26, 5), (70, 34, 20, 4), (58, 58, 24, 5)):
        c.veil(ellipse(x, y, rx, ry, -0.25), (236, 96, 190), 0.12)
        c.veil(ellipse(x + 3, y, 0.6 * rx, 0.6 * ry, -0.25), (120, 170, 255), 0.14)
    planet = ellipse(26, 22, 9.5)
    c.paint(planet, (196, 104, 84))
    c.paint([box(10, 16, 40, 18.6), box(10, 23, 40, 26.2)], (232, 160, 116), inside=planet)
    c.paint(ellipse(29, 19.4, 9.8), (240, 176, 124), inside=[ellipse(32, 18, 6)])
    ring = ribbon(
        [(26 + 16 * np.cos(a), 22 + 4.6 * np.sin(a) - 3.4 * np.cos(a)) for a in np.linspace(0.15, np.pi - 0.15, 24)],
        [1.7] * 24,
    )
    c.paint(ring, (255, 222, 160))
    c.paint(ellipse(76, 46, 5.2), (92, 150, 206))
    c.paint(ellipse(77.4, 44.8, 5.2), (142, 202, 232), inside=ellipse(76, 46, 5.2))


# --- middle: 192 units, one unit per frame -------------------------------------------------------------------------


def _meadow_middle(c: Canvas, tone: Tone) -> None:
    rng = _dice("meadow", 1)
    hill = _ridge(MIDDLE, 67, ((4, 2, 0.0), (1.6, 5, 1.0)))
    c.paint(hill, tone.cover((122, 200, 84), 0.1))
    x0 = 60.0  # a windmill
    c.paint(polygon((x0 - 5, 66), (x0 - 3.4, 46), (x0 + 3.4, 46), (x0 + 5, 66)), tone((240, 232, 214), 0.06))
    c.paint(polygon((x0 - 5, 66), (x0 - 3.4, 46), (x0 - 0.8, 46), (x0 - 1.4, 66)), tone((198, 186, 184), 0.06))
    c.paint(polygon((x0 - 4.6, 46.4), (x0, 40), (x0 + 4.6, 46.4)), tone.cover((204, 78, 62), 0.06))
    for a in np.arange(4) * np.pi / 2 + 0.4:
        c.paint(limb(x0, 46, x0 + 11 * np.cos(a), 46 + 11 * np.sin(a), 1.6), tone((150, 110, 84), 0.06))
    x0 = 150.0  # a house
    c.paint(box(x0 - 8, 55, x0 + 8, 67), tone((250, 238, 214), 0.06))
    c.paint(box(x0 - 8, 55, x0 - 3, 67), tone((214, 196, 184), 0.06))
    c.paint(polygon((x0 - 10.5, 56), (x0 - 5, 47.5), (x0 + 6, 47.5), (x0 + 10.5, 56)), tone.cover((212, 92, 70), 0.06))
    c.paint([box(x0 + 1, 58, x0 + 4.6, 62)], tone.lamp((150, 200, 226), (255, 214, 110)))
    for x in (12, 28, 92, 108, 122, 178):
        _tree(c, tone, x + 5 * rng.random(), 68, 11 + 4 * rng.random(), (86, 170, 74), 0.1)


def _forest_middle(c: Canvas, tone: Tone) -> None:
    rng = _dice("forest", 1)
    for k, x in enumerate(_slots(rng, MIDDLE, 14)):
        if k % 3 == 2:
            _tree(c, tone, x, 74, 40 + 8 * rng.random(), (72, 140, 66), 0.16)
        else:
            _pine(c, tone, x, 74, 44 + 14 * rng.random(), (44, 116, 76), 0.16)
    c.paint(box(-2, 70, MIDDLE + 2, 98), tone.cover((58, 104, 56), 0.1))


def _mountains_middle(c: Canvas, tone: Tone) -> None:
    rng = _dice("mountains", 1)
    c.paint(_ridge(MIDDLE, 64, ((5, 2, 0.7), (2.4, 5, 0.0))), tone.cover((112, 136, 112), 0.14))
    for x in _slots(rng, MIDDLE, 16, 0.7):
        _pine(c, tone, x, 71, 12 + 6 * rng.random(), (52, 110, 92), 0.12)
    c.paint(box(-2, 69, MIDDLE + 2, 98), tone.cover((120, 138, 104), 0.1))


def _desert_middle(c: Canvas, tone: Tone) -> None:
    c.paint(_ridge(MIDDLE, 64, ((5.5, 2, 0.0), (1.4, 5, 2.0))), tone.cover((240, 188, 108), 0.08))
    for x0 in (30.0, 128.0):  # the dark side of the dunes
        c.paint(
            blob((x0 - 34, 72), (x0 - 16, 60), (x0 - 6, 59.4), (x0 - 14, 68), (x0 - 20, 74)),
            tone.cover((212, 152, 88), 0.08),
        )
    for x, big in ((72, 16), (92, 11)):  # pyramids
        c.paint(polygon((x - big, 70), (x, 70 - 1.2 * big), (x + big, 70)), tone((188, 134, 84), 0.1))
        c.paint(polygon((x - 0.25 * big, 70), (x, 70 - 1.2 * big), (x + big, 70)), tone.cover((238, 190, 120), 0.1))
    c.paint(box(-2, 69, MIDDLE + 2, 98), tone.cover((240, 190, 110), 0.06))


def _city_middle(c: Canvas, tone: Tone) -> None:
    rng, walls = _dice("city", 1), ((206, 108, 92), (236, 196, 130), (122, 164, 176), (196, 160, 184), (160, 130, 116))
    for k, x in enumerate(np.arange(12, MIDDLE, 24)):
        top, half, wall = 30 + 20 * rng.random(), 10.6, walls[k % 5]
        c.paint(box(x - half, top, x + half, 78), tone(wall, 0.08))
        c.paint(box(x - half, top, x - half + 5, 78), tone(mix(wall, (20, 10, 60), 0.25), 0.08))
        c.paint(
            box(x - half - 0.8, top - 1.6, x + half + 0.8, top + 1.2),
            tone.cover(mix(wall, (255, 255, 255), 0.4), 0.06, 1.0),
        )
        for row in np.arange(top + 5, 62, 8.5):
            for dx in (-5.6, 0, 5.6):
                lit = tone.lamp((150, 196, 222), (255, 214, 110) if rng.random() < 0.7 else (70, 72, 110), 0.05)
                c.paint(box(x + dx - 1.7, row, x + dx + 1.7, row + 5), lit)
        awning = ((226, 70, 70), (250, 250, 250), (66, 150, 200))[k % 3]
        c.paint(box(x - 8, 66, x + 8, 75), tone.lamp((126, 160, 186), (255, 224, 150)))
        c.paint(box(x - 9, 63.5, x + 9, 66.5), tone.cover(awning, amount=0.5))


def _sea_middle(c: Canvas, tone: Tone) -> None:
    x = np.linspace(-2, MIDDLE + 2, 300)
    for base, high, count, color in ((62, 1.2, 12, (40, 122, 190)), (68, 1.5, 8, (32, 106, 178))):
        y = base - high * np.abs(np.sin(np.pi * count * x / MIDDLE)) * 1.6
        c.paint(np.concatenate([np.stack([x, y], 1), [(MIDDLE + 2, 98), (-2, 98)]]), tone(color, 0.12))
        c.paint(ribbon(np.stack([x, y + 0.3], 1), np.full(len(x), 0.9)), tone((150, 212, 236), 0.1))
    light = 96.0  # a lighthouse on a rock
    c.paint(
        blob((light - 12, 66), (light - 7, 58), (light + 6, 57.5), (light + 13, 66)), tone.cover((124, 112, 118), 0.08)
    )
    tower = polygon((light - 4, 59), (light - 2.8, 36), (light + 2.8, 36), (light + 4, 59))
    c.paint(tower, tone((246, 242, 236), 0.05))
    c.paint(
        [box(light - 6, 40, light + 6, 45), box(light - 6, 50, light + 6, 55)], tone((216, 62, 60), 0.05), inside=tower
    )
    c.paint(box(light - 2.2, 31.5, light + 2.2, 36), tone.lamp((190, 220, 230), (255, 240, 150)))
    c.paint(polygon((light - 3.2, 31.8), (light, 28), (light + 3.2, 31.8)), tone.cover((216, 62, 60), 0.05))


def _reef_middle(c: Canvas, tone: Tone) -> None:
    rng = _dice("reef", 1)
    c.paint(_ridge(MIDDLE, 78, ((4, 2, 0.3), (2, 5, 1.0))), tone((52, 112, 140), 0.3))
    for k, x in enumerate(_slots(rng, MIDDLE, 12, 0.6)):
        color = ((190, 92, 140), (214, 132, 96), (110, 100, 180), (70, 150, 140))[k % 4]
        if k % 3 == 0:
            for dx in (-3, 0, 3):
                sway = [(x + dx + 1.6 * np.sin(0.22 * h + k), 80 - h) for h in range(0, int(26 + 10 * rng.random()), 3)]
                c.paint(ribbon(sway, np.linspace(2.6, 0.8, len(sway))), tone((44, 140, 120), 0.25))
        else:
            for a, r in ((-0.7, 10), (-0.2, 14), (0.3, 12), (0.8, 9)):
                c.paint(limb(x, 80, x + r * np.sin(a), 78 - r * np.cos(a), 2.8), tone(color, 0.3))


def _space_middle(c: Canvas, tone: Tone) -> None:
    c.paint(_ridge(MIDDLE, 66, ((5, 2, 1.0), (2.4, 5, 0.4))), tone((112, 96, 152), 0.24))
    for x, y, r in ((30, 70, 6), (84, 68, 4), (118, 71, 7), (170, 69, 4.5)):
        c.paint(ellipse(x, y, r, 0.34 * r), tone((84, 70, 124), 0.2))
        c.paint(ellipse(x - 0.4, y + 0.5, r * 0.86, 0.24 * r), tone((128, 112, 168), 0.2))
    x0 = 62.0  # a domed station
    c.paint(box(x0 - 10, 59, x0 + 10, 68), tone((196, 200, 214)))
    c.paint(ellipse(x0, 59, 8.6, 8), tone((120, 200, 226)))
    c.paint(ellipse(x0 + 2.6, 57, 3.0, 3.4), tone((206, 240, 250)))
    c.paint(box(x0 - 11, 58.6, x0 + 11, 61.4, 1), tone((158, 164, 186)))


# --- near: 384 units, two units per frame --------------------------------------------------------------------------


def _meadow_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("meadow", 2)
    for x in _slots(rng, NEAR, 48):
        _tree(c, tone, x, 74, 26 + 6 * rng.random(), (74, 168, 60))
    _ground(c, tone, 72, ((104, 190, 70), (152, 222, 98)), (222, 188, 134), (190, 150, 100))
    for k, x in enumerate(_slots(rng, NEAR, 32)):
        if k % 2:
            _bush(c, tone, x, 77, 8, (92, 184, 66))
        else:
            for dx in (-6, 0, 6):
                c.paint(box(x + dx - 1.1, 68, x + dx + 1.1, 77, 0.6), tone.cover((236, 226, 206), amount=0.3))
            c.paint([box(x - 9, 70, x + 9, 71.6), box(x - 9, 73.4, x + 9, 75)], tone((236, 226, 206)))


def _forest_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("forest", 2)
    for k, x in enumerate(_slots(rng, NEAR, 48)):
        wide = 5 + 1.6 * rng.random()
        trunk = polygon(
            (x - wide - 2.4, 79),
            (x - wide, 66),
            (x - wide + 0.6, -2),
            (x + wide - 0.6, -2),
            (x + wide, 66),
            (x + wide + 3, 79),
        )
        c.paint(trunk, tone((92, 62, 44)))
        c.paint(trunk + (0.75 * wide, 0), tone((132, 92, 62)), inside=trunk)
        if k % 2:
            c.paint(ellipse(x + 0.4, 48, 1.8, 2.8), tone((58, 38, 32)))
        crown = [ellipse(x + dx, y, 13, 9) for dx, y in ((-13, 0), (0, 4), (13, 0))]
        c.paint(crown, tone((40, 104, 52)))
        c.paint([s + (2, -3) for s in crown], tone.cover((66, 144, 62), amount=0.6), inside=crown)
    _ground(c, tone, 75, ((66, 122, 52), (104, 160, 66)), (170, 128, 88), (132, 96, 64))
    for k, x in enumerate(_slots(rng, NEAR, 24)):
        if k % 2:
            c.paint(box(x - 1.2, 72.5, x + 1.2, 77.5, 0.8), tone((246, 232, 210)))
            cap = blob((x - 4.2, 73.4), (x - 2.6, 69.6), (x, 68.6), (x + 2.6, 69.6), (x + 4.2, 73.4), (x, 74))
            c.paint(cap, tone.cover((222, 62, 54), amount=0.5))
            c.paint([ellipse(x - 1.8, 71.4, 0.8), ellipse(x + 1.4, 70.8, 0.9)], tone((255, 250, 240)))
        else:
            for a in (-0.9, -0.45, 0, 0.45, 0.9):
                c.paint(
                    limb(x, 78, x + 6 * np.sin(a), 78 - 6.6 * np.cos(a), 1.5), tone.cover((92, 160, 60), amount=0.5)
                )


def _mountains_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("mountains", 2)
    for k, x in enumerate(_slots(rng, NEAR, 32)):
        if k % 3:
            _pine(c, tone, x, 76, 26 + 9 * rng.random(), (44, 124, 98))
        else:
            _rock(c, tone, x, 76, 9 + 3 * rng.random(), (150, 150, 160))
    _ground(c, tone, 74, ((138, 148, 108), (174, 182, 134)), (184, 172, 156), (146, 132, 122))
    for x in _slots(rng, NEAR, 28):
        _rock(c, tone, x, 77.5, 2.6 + 1.4 * rng.random(), (168, 164, 168))


def _desert_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("desert", 2)
    for k, x in enumerate(_slots(rng, NEAR, 48)):
        if k % 4 == 3:
            _rock(c, tone, x, 75, 9, (206, 128, 88))
            continue
        top = 46 + 8 * rng.random()
        arms = [limb(x, 76, x, top, 6.4), limb(x, 62, x - 8, 62, 4.6), limb(x - 8, 62, x - 8, top + 8, 4.6),
                limb(x, 66, x + 8, 66, 4.6), limb(x + 8, 66, x + 8, top + 10, 4.6)]  # fmt: skip
        c.paint(arms, tone((34, 116, 72)))
        c.paint([s + (1.5, -0.6) for s in arms], tone.cover((72, 168, 92), amount=0.35), inside=arms)
        c.paint([ellipse(x, top - 3, 1.8), ellipse(x + 8, top + 7.4, 1.4)], tone.cover((255, 120, 160), amount=0.6))
    _ground(c, tone, 72, ((248, 204, 122), (255, 226, 156)), (232, 178, 104), (204, 146, 84))
    for x in _slots(rng, NEAR, 26):
        _rock(c, tone, x, 76.5, 2.2 + 1.2 * rng.random(), (214, 150, 104))


def _city_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("city", 2)
    for k, x in enumerate(_slots(rng, NEAR, 32)):
        if k % 2:
            _tree(c, tone, x, 75, 22, (96, 172, 86))
            c.paint(box(x - 4, 72, x + 4, 76), tone((170, 120, 92)))
            continue
        c.paint(box(x - 0.9, 42, x + 0.9, 76), tone((70, 78, 96)))
        c.paint([limb(x, 42.6, x + 6, 42.6, 1.6), box(x + 3, 42, x + 9, 44.4, 1)], tone((70, 78, 96)))
        c.paint(ellipse(x + 6, 45.2, 2.6, 1.5), tone.lamp((240, 240, 220), (255, 236, 140)))
    _ground(c, tone, 73, ((176, 176, 184), (214, 214, 220)), (92, 94, 108), (250, 226, 120))
    for k, x in enumerate(_slots(rng, NEAR, 48)):
        if k % 2:
            c.paint(
                [box(x - 1.8, 70, x + 1.8, 77, 1.2), box(x - 2.8, 72, x + 2.8, 73.6, 0.6)],
                tone.cover((226, 60, 54), amount=0.3),
            )
        else:
            c.paint(box(x - 6, 71.4, x + 6, 73), tone.cover((160, 110, 70), amount=0.6))
            c.paint([box(x - 5, 73, x - 3.6, 77), box(x + 3.6, 73, x + 5, 77)], tone((70, 78, 96)))
    c.paint(box(-4, 75.4, NEAR + 4, 77), tone.cover((206, 206, 214), amount=0.4))


def _sea_near(c: Canvas, tone: Tone) -> None:
    x = np.linspace(-2, NEAR + 2, 700)
    y = 73 - 2.6 * np.abs(np.sin(np.pi * 16 * x / NEAR))
    c.paint(np.concatenate([np.stack([x, y], 1), [(NEAR + 2, 98), (-2, 98)]]), tone((30, 110, 186)))
    c.paint(ribbon(np.stack([x, y + 0.3], 1), np.full(len(x), 1.3)), tone((206, 238, 248)))
    buoy = 60.0
    c.paint(
        [blob((buoy - 5, 72), (buoy - 2, 60), (buoy + 2, 60), (buoy + 5, 72))], tone.cover((230, 74, 58), amount=0.3)
    )
    c.paint(box(buoy - 4, 65, buoy + 4, 67.6), tone((250, 246, 240)))
    isle = 230.0
    c.paint(blob((isle - 26, 75), (isle - 14, 69), (isle + 10, 68), (isle + 26, 75)), tone.cover((246, 214, 140)))
    c.paint(ribbon([(isle - 2, 70), (isle, 56), (isle + 5, 44)], (3.6, 2.8, 2.2)), tone((150, 104, 66)))
    for a in (-2.6, -1.9, -1.1, -0.4, 0.3):
        c.paint(
            blob(
                (isle + 5, 44),
                (isle + 5 + 7 * np.cos(a), 41 + 5 * np.sin(a)),
                (isle + 5 + 13 * np.cos(a), 46 + 5 * np.sin(a)),
                (isle + 5 + 7 * np.cos(a), 44 + 5 * np.sin(a)),
            ),
            tone.cover((60, 160, 80), amount=0.6),
        )
    for rx in (140.0, 330.0):
        _rock(c, tone, rx, 74, 8, (134, 122, 130))


def _reef_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("reef", 2)
    for k, x in enumerate(_slots(rng, NEAR, 24)):
        color = ((240, 96, 140), (250, 150, 80), (150, 110, 220), (255, 200, 90))[(k * 3) % 4]
        kind = k % 3
        if kind == 0:
            for dx in (-4, 0, 4):
                high = 22 + 16 * rng.random()
                sway = [(x + dx + 2.2 * np.sin(0.16 * h + k + dx), 84 - h) for h in np.arange(0, high, 3)]
                c.paint(ribbon(sway, np.linspace(4.2, 1.2, len(sway))), tone((38, 150, 92)))
        elif kind == 1:
            for a, r in ((-0.9, 11), (-0.45, 17), (0.0, 21), (0.45, 18), (0.9, 12)):
                c.paint([limb(x, 84, x + r * np.sin(a), 82 - r * np.cos(a), 3.8)], tone(color))
                c.paint(
                    ellipse(x + r * np.sin(a) + 0.6, 82 - r * np.cos(a) - 0.6, 1.2),
                    tone(mix(color, (255, 255, 255), 0.6)),
                )
        else:
            dome = ellipse(x, 82, 10, 8)
            c.paint(dome, tone(mix(color, (20, 10, 70), 0.3)))
            c.paint(dome + (3, -2), tone(color), inside=dome)
            for dx, dy in ((-5, -3), (-1, -5), (4, -4), (1, -1)):
                c.paint(ellipse(x + dx, 81 + dy, 1.0), tone(mix(color, (20, 10, 70), 0.4)))
    c.paint(_ridge(NEAR, 83, ((1.6, 12, 0.0),)), tone((240, 216, 158)))
    for k in range(24):
        c.paint(limb(16 * k + 3, 88 + 2 * (k % 3), 16 * k + 9, 87.6 + 2 * (k % 3), 1.0), tone((208, 176, 122)))
    for k, x in enumerate(_slots(rng, NEAR, 64)):
        arms = np.arange(10) * np.pi / 5 + 0.3
        r = np.where(np.arange(10) % 2, 1.7, 4.0)
        c.paint(
            np.stack([x + r * np.cos(arms), 90 + 0.7 * r * np.sin(arms)], 1),
            tone(((250, 120, 90), (255, 170, 200))[k % 2]),
        )


def _space_near(c: Canvas, tone: Tone) -> None:
    rng = _dice("space", 2)
    for k, x in enumerate(_slots(rng, NEAR, 64)):
        if k % 2:
            for dx, top, half in ((-4, 66, 2.6), (0, 58, 3.4), (4.4, 64, 2.6)):
                crystal = polygon(
                    (x + dx - half, 76),
                    (x + dx - half, top + 5),
                    (x + dx, top),
                    (x + dx + half, top + 5),
                    (x + dx + half, 76),
                )
                c.paint(crystal, tone((60, 170, 200)))
                c.paint(crystal + (half, 0), tone((150, 240, 246)), inside=crystal)
        else:
            _rock(c, tone, x, 76, 8, (150, 136, 184))
    _ground(c, tone, 73, ((146, 132, 184), (182, 170, 214)), (168, 156, 202), (126, 112, 164))
    for x in _slots(rng, NEAR, 30):
        c.paint(ellipse(x, 92.5, 6, 1.8), tone((112, 98, 150)))
        c.paint(ellipse(x - 0.3, 93, 5, 1.2), tone((160, 148, 196)))


# --- in front of the traveller: 384 units, two units per frame -----------------------------------------------------


def _tufts(c: Canvas, tone: Tone, place: str, colors: tuple, gap: float = 12.0) -> None:
    rng = _dice(place, 3)
    for k, x in enumerate(_slots(rng, NEAR, gap, 0.8)):
        for a in (-0.6, -0.2, 0.2, 0.6):
            c.paint(limb(x, 97, x + 5 * np.sin(a), 97 - 6 * np.cos(a), 1.6), tone.cover(colors[0], amount=0.7))
        if k % 2 and len(colors) > 1:
            _flower(c, tone, x + 4, 95, colors[1 + (k // 2) % (len(colors) - 1)])


def _sea_front(c: Canvas, tone: Tone) -> None:
    x = np.linspace(-2, NEAR + 2, 700)
    for base, count, color, shift in ((78, 12, (26, 96, 174), 0.0), (88, 8, (20, 80, 158), 1.1)):
        y = base - 3.0 * np.abs(np.sin(np.pi * count * x / NEAR + shift))
        c.paint(np.concatenate([np.stack([x, y], 1), [(NEAR + 2, 98), (-2, 98)]]), tone(color))
        c.paint(ribbon(np.stack([x, y + 0.4], 1), np.full(len(x), 1.5)), tone((190, 230, 246)))


def _city_front(c: Canvas, tone: Tone) -> None:
    c.paint(box(-4, 91, NEAR + 4, 98), tone.cover((188, 188, 196), amount=0.6))
    c.paint(box(-4, 91, NEAR + 4, 92), tone.cover((226, 226, 232), amount=0.8))
    for k in range(24):
        c.paint(box(16 * k + 7.4, 92, 16 * k + 8.6, 98), tone((140, 140, 152)))
        if k % 2:
            c.paint(box(16 * k - 1.6, 86, 16 * k + 1.6, 95, 1.4), tone((70, 78, 96)))
            c.paint(box(16 * k - 1.6, 88, 16 * k + 1.6, 90), tone((250, 226, 120)))


def _space_front(c: Canvas, tone: Tone) -> None:
    rng = _dice("space", 3)
    for k, x in enumerate(_slots(rng, NEAR, 16, 0.7)):
        _rock(c, tone, x, 97, 2.4 + 3 * rng.random(), ((120, 106, 160), (170, 120, 190))[k % 2])


def _front(place: str) -> Callable[[Canvas, Tone], None]:
    grass = {
        "meadow": ((84, 172, 58), (255, 110, 130), (255, 255, 250), (255, 214, 80)),
        "forest": ((56, 116, 48), (250, 240, 250)),
        "mountains": ((112, 136, 88), (190, 160, 240)),
        "desert": ((176, 160, 80),),
        "reef": ((40, 140, 96),),
    }
    gap = {"desert": 32.0, "mountains": 16.0}.get(place, 12.0)
    return lambda c, tone: _tufts(c, tone, place, grass[place], gap)


PAINTERS: dict[str, tuple[Callable[[Canvas, Tone], None], ...]] = {
    "meadow": (_meadow_far, _meadow_middle, _meadow_near, _front("meadow")),
    "forest": (_forest_far, _forest_middle, _forest_near, _front("forest")),
    "mountains": (_mountains_far, _mountains_middle, _mountains_near, _front("mountains")),
    "desert": (_desert_far, _desert_middle, _desert_near, _front("desert")),
    "city": (_city_far, _city_middle, _city_near, _city_front),
    "sea": (_sea_far, _sea_middle, _sea_near, _sea_front),
    "reef": (_reef_far, _reef_middle, _reef_near, _front("reef")),
    "space": (_space_far, _space_middle, _space_near, _space_front),
}
"""Per place: far, middle, near, front."""
