"""The twelve travellers, facing right, in every phase of their step.

A character stands with its feet (wheels, keel, middle of the body) at the origin of its canvas; `phase` runs from 0 to
1 in `CYCLE` frames. Everything about it is painted in the body's colour, white, or colours that are no body's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from journeys.brush import INK, Canvas, Color, blob, box, ellipse, limb, mix, polygon, ribbon, times, turned

CYCLE = 16
"""Frames of one step, one turn of a wheel, one beat of wings."""
COLORS = {"red": (228, 42, 48), "yellow": (255, 208, 36), "green": (52, 178, 70), "blue": (44, 104, 240),
          "purple": (142, 62, 208), "pink": (255, 126, 186)}  # fmt: skip
LIGHT = {"dawn": (1.0, 0.95, 0.96), "day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.88, 0.82), "night": (0.9, 0.9, 1.0),
         None: (0.95, 0.95, 1.0)}  # fmt: skip

WIDTH, HEIGHT = 66.0, 58.0
ORIGIN = (33.0, 50.0)
WHITE, PUPIL, GLASS, BEAK, CREAM, METAL = ((252, 252, 250), (24, 20, 32), (178, 226, 246), (255, 152, 40),
                                           (255, 238, 208), (188, 194, 206))  # fmt: skip


@dataclass
class Figure:
    """A canvas with the colours of one character under the light of one time of day."""

    canvas: Canvas
    color: Color
    light: Color
    spouts: bool = True

    def body(self, shade: float = 0.0) -> Color:
        """The colour of the body; shade -1 is black, +1 white."""
        toward = (255, 255, 255) if shade > 0 else (20, 10, 40)
        return times(mix(self.color, toward, abs(shade)), self.light)

    def paint(self, shapes, fill: Color, ink: bool = True, width: float = 1.0, inside=None) -> None:
        self.canvas.paint(shapes, fill, INK if ink else None, width, inside)

    def other(self, color: Color) -> Color:
        return times(color, self.light)

    def round_body(self, shapes, x: float, y: float, rx: float, ry: float) -> None:
        """Body with its outline, darker behind and below, lighter where the light falls from the front."""
        self.paint(shapes, self.body(-0.22))
        self.paint(ellipse(x + 0.14 * rx, y - 0.16 * ry, rx, ry), self.body(), False, inside=shapes)
        self.paint(
            ellipse(x + 0.42 * rx, y - 0.5 * ry, 0.34 * rx, 0.2 * ry, 0.3), self.body(0.45), False, inside=shapes
        )

    def eye(self, x: float, y: float, size: float, look: float = 0.3) -> None:
        self.paint(ellipse(x, y, size, size * 1.12), self.other(WHITE), width=0.7)
        self.paint(ellipse(x + look * size, y + 0.08 * size, 0.56 * size, 0.64 * size), PUPIL, False)
        self.paint(ellipse(x + (look + 0.2) * size, y - 0.22 * size, 0.2 * size), (255, 255, 255), False)

    def cheek(self, x: float, y: float, size: float = 1.6) -> None:
        self.canvas.veil(ellipse(x, y, size * 1.2, size * 0.8), (255, 90, 110), 0.55)

    def smile(self, x: float, y: float, size: float) -> None:
        angle = np.linspace(0.15 * np.pi, 0.85 * np.pi, 9)
        curve = [(x + size * np.cos(a), y + 0.75 * size * np.sin(a)) for a in angle]
        self.paint(ribbon(curve, [0.9] * 9), INK, False)

    def legs(self, hips, height: float, width: float, phase: float, swing: float = 4.0, back: bool = False) -> None:
        """Legs that swing from hips [(x, phase offset)]; `back`: those on the far side, in shadow."""
        for x, offset in hips:
            angle = 2 * np.pi * (phase + offset)
            foot, lift = x + swing * np.cos(angle), max(0.0, -np.sin(angle)) * 2.4
            shade = -0.5 if back else -0.14
            shapes = [limb(x, -height, foot, -1.6 - lift, width), ellipse(foot + 0.9, -1.3 - lift, width * 0.72, 1.5)]
            self.paint(shapes, self.body(shade))

    def wheel(self, x: float, y: float, radius: float, phase: float) -> None:
        self.paint(ellipse(x, y, radius), self.other((58, 54, 66)))
        self.paint(ellipse(x, y, radius * 0.58), self.other((226, 226, 232)), width=0.5)
        for k in range(2):
            angle = 2 * np.pi * phase + k * np.pi / 2
            dx, dy = 0.5 * radius * np.cos(angle), 0.5 * radius * np.sin(angle)
            self.paint(limb(x - dx, y - dy, x + dx, y + dy, 1.0), self.other((92, 88, 104)), False)


def _wave(phase: float, offset: float = 0.0) -> float:
    return float(np.sin(2 * np.pi * (phase + offset)))


def _cat(f: Figure, p: float) -> None:
    bob = -0.8 * abs(_wave(p))
    f.legs(((-8.5, 0.5), (7.0, 0.0)), 9, 4.0, p, back=True)
    sway = 2.2 * _wave(p)
    tail = [(-11, -17 + bob), (-16, -19 + bob), (-19.5, -25 + bob), (-18.5 + sway, -32), (-14.5 + 1.6 * sway, -36)]
    f.paint([ribbon(tail, (4, 3.9, 3.8, 3.6, 3.0)), ellipse(*tail[-1], 1.7)], f.body(-0.1))
    f.legs(((-10.5, 0.0), (5.0, 0.5)), 9, 4.2, p)
    f.round_body(ellipse(-2.5, -14.5 + bob, 12, 7.4), -2.5, -14.5 + bob, 12, 7.4)
    for x in (-8, -3.5, 1):
        f.paint(limb(x, -21.5 + bob, x - 0.8, -17.5 + bob, 1.5), f.body(-0.4), False)
    hx, hy = 11.0, -22.5 + 1.2 * bob
    ears = [polygon((hx - 8.6, hy - 2), (hx - 7.4, hy - 13.5), (hx - 0.2, hy - 7)),
            polygon((hx + 8.6, hy - 2), (hx + 8.0, hy - 13.5), (hx + 1, hy - 7))]  # fmt: skip
    f.paint(ears, f.body(-0.1))
    for ear in ears:
        f.paint(0.55 * ear + 0.45 * ear.mean(0), f.other((255, 190, 190)), False)
    f.round_body(ellipse(hx, hy, 9.6, 8.6), hx, hy, 9.6, 8.6)
    f.eye(hx - 1.6, hy - 0.8, 2.5)
    f.eye(hx + 5.0, hy - 0.8, 2.5)
    f.paint(ellipse(hx + 2.6, hy + 3.2, 3.8, 2.4), f.other(CREAM), False)
    f.paint(polygon((hx + 1.6, hy + 1.6), (hx + 4.2, hy + 1.6), (hx + 2.9, hy + 3.1)), f.other((220, 90, 110)), False)
    f.smile(hx + 2.9, hy + 2.6, 1.8)
    f.cheek(hx - 4.6, hy + 3.2)


def _robot(f: Figure, p: float) -> None:
    bob = -1.0 * abs(_wave(p))
    f.legs(((1.5, 0.5),), 10, 4.2, p, 4.5, back=True)
    swing = 3.6 * _wave(p, 0.25)
    f.paint(limb(1, -20 + bob, 3.5 - swing, -12.5 + bob, 3.2), f.body(-0.5))
    f.legs(((-1.5, 0.0),), 10, 4.6, p, 4.5)
    chest = box(-9.5, -24.5 + bob, 9.5, -8 + bob, 4)
    f.paint(chest, f.body(-0.22))
    f.paint(box(-6, -26 + bob, 12, -10 + bob, 4), f.body(), False, inside=chest)
    f.paint(box(-1, -20.5 + bob, 6.5, -13.5 + bob, 1.4), f.other(CREAM), width=0.6)
    for k, color in enumerate(((90, 220, 235), (255, 152, 40))):
        f.paint(ellipse(1 + 3.4 * k, -17 + bob, 1.2), f.other(color), False)
    f.paint(
        [limb(-7.5, -20 + bob, -8.5 + swing, -11.5 + bob, 3.4), ellipse(-8.5 + swing, -11 + bob, 2.3)], f.body(-0.1)
    )
    f.paint(limb(2, -39 + bob, 1.2, -43 + bob, 1.1), f.other(METAL), width=0.6)
    f.paint(ellipse(1.0, -44 + bob, 1.9), f.other(BEAK), width=0.7)
    head = box(-8.5, -40 + bob, 12.5, -25 + bob, 5)
    f.paint(head, f.body(-0.22))
    f.paint(box(-5.5, -42 + bob, 16, -27 + bob, 5), f.body(), False, inside=head)
    f.paint(limb(5, -38.2 + bob, 9, -37.8 + bob, 1.3), f.body(0.5), False)
    f.paint(box(-2.6, -37 + bob, 12, -28.2 + bob, 3.2), f.other((58, 64, 92)), width=0.6)
    for x in (1.6, 8.0):
        f.paint(ellipse(x + 0.4, -33.4 + bob, 2.1, 2.5), f.other((150, 250, 245)), False)
    f.paint(limb(3.2, -29.7 + bob, 6.8, -29.7 + bob, 0.8), f.other((150, 250, 245)), False)


def _dinosaur(f: Figure, p: float) -> None:
    bob = -1.0 * abs(_wave(p))
    sway = 1.6 * _wave(p)
    f.legs(((3.0, 0.5),), 11, 5.0, p, 4.5, back=True)
    tail = [(-5, -13 + bob), (-13, -10.5 + bob), (-19, -11 + bob - 0.4 * sway), (-25, -15 - sway)]
    body = blob((-8, -20 + bob), (-9.5, -12 + bob), (-4, -7 + bob), (4, -7.5 + bob), (8, -13 + bob), (8.5, -22 + bob),
                (9, -30 + bob), (1, -31 + bob))  # fmt: skip
    spikes = [polygon((x - 2.6, y + 2.4 + bob), (x - 2.8, y - 3.2 + bob), (x + 2.6, y - 0.6 + bob))
              for x, y in ((-2.2, -38), (-4.6, -31.5), (-7.6, -25), (-10.6, -18.5), (-15.6, -13.5))]  # fmt: skip
    f.paint(spikes, f.other(BEAK), width=0.8)
    f.paint([ribbon(tail, (11, 8.5, 5.5, 1.2)), body], f.body(-0.22))
    f.paint(ellipse(1, -19 + bob, 8.6, 11.5), f.body(), False, inside=[body])
    f.paint(ellipse(4.8, -14.5 + bob, 4.2, 7.2, 0.15), f.other(CREAM), False, inside=[body])
    f.legs(((-2.0, 0.0),), 12, 5.6, p, 4.5)
    head = blob((-2.5, -37 + bob), (3, -42.5 + bob), (11, -41 + bob), (19, -36.5 + bob), (19.5, -31 + bob),
                (11, -28.5 + bob), (1.5, -29.5 + bob))  # fmt: skip
    f.round_body(head, 8.5, -35.5 + bob, 11.5, 7.0)
    f.paint(limb(10.5, -31.6 + bob, 18.4, -32.0 + bob, 0.8), INK, False)
    f.paint(ellipse(17.4, -36.0 + bob, 0.7), INK, False)
    f.eye(7.5, -37.0 + bob, 2.9)
    f.cheek(7.5, -31.9 + bob)
    f.paint(limb(6.5, -21.5 + bob, 10.6, -18.8 + bob + 0.6 * sway, 2.6), f.body(-0.1), width=0.8)


def _car(f: Figure, p: float) -> None:
    bob = 0.5 * _wave(2 * p)
    body = blob(
        (-20, -6.5 + bob),
        (-21, -13 + bob),
        (-14, -17 + bob),
        (-9, -25 + bob),
        (1, -27.5 + bob),
        (8, -24 + bob),
        (12, -17 + bob),
        (20, -14.5 + bob),
        (22, -7 + bob),
        (14, -5 + bob),
        (-14, -5 + bob),
    )
    f.round_body(body, 0, -13 + bob, 21, 11)
    f.paint(
        blob((-10.5, -17.5 + bob), (-7.5, -23.4 + bob), (-2.2, -24.6 + bob), (-2.2, -17.3 + bob)),
        f.other(GLASS),
        width=0.7,
    )
    f.paint(
        blob((0.2, -24.8 + bob), (5.6, -23 + bob), (9.2, -17.3 + bob), (0.2, -17.3 + bob)), f.other(GLASS), width=0.7
    )
    f.paint(ellipse(3.6, -19.8 + bob, 2.1), f.other((250, 205, 165)), width=0.5)
    f.paint(box(-21, -8 + bob, 22.4, -6 + bob, 1), f.other((232, 232, 236)), False, inside=[body])
    f.eye(18.2, -11.6 + bob, 2.5)
    f.smile(17.2, -7.4 + bob, 2.2)
    f.paint(limb(-7.5, -14.4 + bob, -4.2, -14.4 + bob, 0.9), f.body(-0.5), False)
    f.wheel(-12.0, -5.0, 5.1, p)
    f.wheel(12.2, -5.0, 5.1, p)


def _bus(f: Figure, p: float) -> None:
    bob = 0.4 * _wave(2 * p)
    body = box(-26, -31 + bob, 26, -5.5 + bob, 5.5)
    f.paint(body, f.body(-0.22))
    f.paint(box(-22, -33 + bob, 30, -8 + bob, 5), f.body(), False, inside=[body])
    f.paint(limb(6, -29.2 + bob, 19, -29.2 + bob, 1.2), f.body(0.5), False, inside=[body])
    f.paint(box(-26, -14 + bob, 26, -11.2 + bob), f.other(CREAM), False, inside=[body])
    for k, skin in enumerate(((250, 205, 165), (190, 130, 90), (235, 180, 130))):
        left = -22.5 + 11 * k
        window = box(left, -27 + bob, left + 8.6, -17.5 + bob, 1.8)
        f.paint(window, f.other(GLASS), width=0.7)
        f.paint(ellipse(left + 4.6, -18.8 + bob, 2.7, 3.2), f.other(skin), False, inside=[window])
    f.paint(box(12.5, -27.5 + bob, 25, -16.5 + bob, 2.6), f.other(GLASS), width=0.7, inside=None)
    f.eye(17.2, -21.6 + bob, 2.5)
    f.eye(22.4, -21.6 + bob, 2.5)
    f.paint(ellipse(24.0, -9.4 + bob, 1.7), f.other((255, 240, 150)), width=0.6)
    f.wheel(-15.5, -5.0, 5.1, p)
    f.wheel(14.5, -5.0, 5.1, p)


def _bird(f: Figure, p: float) -> None:
    beat, bob = _wave(p), -1.6 * _wave(p, 0.2)

    def wing(x: float, y: float, lift: float) -> np.ndarray:
        return blob((x + 5, y), (x + 1, y - 5 * lift - 1), (x - 8, y - 17 * lift), (x - 12, y - 15 * lift + 1.5),
                    (x - 9, y - 4 * lift + 3), (x - 4, y + 3))  # fmt: skip

    f.paint(wing(2, -4 + bob, 0.9 * beat + 0.25), f.body(-0.5))
    f.paint(
        polygon((-10, -3 + bob), (-22, -7.5 + bob), (-20.5, -2 + bob), (-22.5, 2.5 + bob), (-9, 2 + bob)), f.body(-0.3)
    )
    body = blob(
        (-12.5, -1 + bob),
        (-5, -7.5 + bob),
        (4, -8.5 + bob),
        (11, -13 + bob),
        (18, -8.5 + bob),
        (16.5, -1 + bob),
        (6, 6 + bob),
        (-5, 5 + bob),
    )
    f.paint(polygon((16.5, -9 + bob), (24.5, -5.6 + bob), (16.5, -3.4 + bob)), f.other(BEAK), width=0.9)
    f.round_body(body, 3, -3 + bob, 15, 9)
    f.paint(ellipse(6.5, 2.2 + bob, 7, 3.6, -0.35), f.other(CREAM), False, inside=[body])
    f.eye(13.2, -7.6 + bob, 2.6)
    f.cheek(11.4, -3.4 + bob)
    f.paint(wing(1, -2 + bob, beat + 0.1), f.body(-0.1))
    f.paint(0.6 * wing(1, -2 + bob, beat + 0.1) + 0.4 * np.array([0, -2 + bob - 5 * beat]), f.body(0.25), False)


def _plane(f: Figure, p: float) -> None:
    bob = 1.2 * _wave(p)
    f.paint(polygon((2, -4 + bob), (-6, -15 + bob), (-11, -15 + bob), (-7, -4 + bob)), f.body(-0.45))
    fin = polygon((-16, -5 + bob), (-24.5, -17 + bob), (-19, -17.5 + bob), (-9, -7 + bob))
    body = blob((-25, -6 + bob), (-15, -8 + bob), (0, -10 + bob), (14, -9.5 + bob), (20.5, -3 + bob), (15, 4.5 + bob),
                (0, 6 + bob), (-14, 1 + bob))  # fmt: skip
    f.paint(fin, f.body(-0.1))
    f.paint(ellipse(22.8, -2.6 + bob, 1.5, max(1.4, 10 * abs(np.cos(4 * np.pi * p + 0.5)))), f.other(METAL), width=0.7)
    f.paint(ellipse(21.5, -2.6 + bob, 2.6, 2.2), f.other(BEAK), width=0.8)
    f.round_body(body, 0, -2 + bob, 22, 8)
    cockpit = blob((2.5, -9 + bob), (5.5, -14.4 + bob), (11.5, -14 + bob), (15.4, -8.6 + bob), (9, -7.2 + bob))
    f.paint(cockpit, f.other(GLASS), width=0.8)
    f.paint(ellipse(9.4, -10.2 + bob, 2.5), f.other((250, 205, 165)), False, inside=[cockpit])
    for x in (-13, -7.5, -2):
        f.paint(ellipse(x, -3.6 + bob, 1.7), f.other(GLASS), width=0.6)
    f.eye(13.6, -2.8 + bob, 2.6)
    f.smile(14.6, 0.8 + bob, 2.2)
    f.paint(polygon((6, 0.5 + bob), (-3, 0.5 + bob), (-13.5, 11 + bob), (-7.5, 12 + bob)), f.body(0.12))


def _rocket(f: Figure, p: float) -> None:
    bob = 1.0 * _wave(p)
    flame = 9 + 2.6 * _wave(2 * p)
    y = -2 + bob
    f.paint(blob((-17, y - 5), (-17 - 0.7 * flame, y - 3), (-19 - flame, y), (-17 - 0.7 * flame, y + 3), (-17, y + 5)),
            (255, 150, 40), width=0.7)  # fmt: skip
    f.paint(blob((-17, y - 2.6), (-18 - 0.5 * flame, y), (-17, y + 2.6)), (255, 240, 150), False)
    f.paint(
        [
            polygon((-4, y - 6), (-18.5, y - 15.5), (-19.5, y - 3)),
            polygon((-4, y + 6), (-18.5, y + 15.5), (-19.5, y + 3)),
        ],
        f.body(-0.4),
    )
    f.paint(box(-20, y - 4.6, -14, y + 4.6, 1), f.other(METAL), width=0.8)
    body = blob(
        (-17, y - 6),
        (-6, y - 9),
        (8, y - 8.2),
        (18, y - 4.4),
        (25, y),
        (18, y + 4.4),
        (8, y + 8.2),
        (-6, y + 9),
        (-17, y + 6),
    )
    f.round_body(body, 1, y, 23, 9)
    f.paint(polygon((17.2, y - 9), (28, y - 9), (28, y + 9), (17.2, y + 9)), f.other(CREAM), False, inside=[body])
    f.paint(ellipse(7.6, y - 0.6, 5.4), f.other(METAL), width=0.8)
    f.paint(ellipse(7.6, y - 0.6, 4.0), f.other(GLASS), False)
    f.eye(6.4, y - 0.9, 1.7)
    f.eye(10.0, y - 0.9, 1.7)
    for x in (-2.5, -8):
        f.paint(ellipse(x, y - 1, 1.3), f.body(-0.5), False)


def _fish(f: Figure, p: float) -> None:
    y, beat = 1.4 * _wave(p, 0.3), _wave(p)
    tail = blob(
        (-12, y),
        (-21, y - 10 + 2 * beat),
        (-26, y - 10.5 + 3 * beat),
        (-21.5, y + 1.5 * beat),
        (-26, y + 10.5 + 3 * beat),
        (-21, y + 10 + 2 * beat),
    )
    f.paint(tail, f.body(-0.3))
    f.paint(blob((-8, y - 9), (-7, y - 17 - beat), (3, y - 15.5), (9, y - 9), (0, y - 8)), f.body(-0.3))
    f.paint(blob((-3, y + 9), (-7, y + 15.5 + beat), (3, y + 14), (6, y + 9)), f.body(-0.3))
    body = blob(
        (-15, y), (-8, y - 9.5), (3, y - 12.5), (14, y - 9.5), (20, y - 1), (15, y + 7.5), (4, y + 11.5), (-8, y + 8.5)
    )
    f.round_body(body, 2, y, 18, 12)
    f.paint(ellipse(4, y + 8.4, 12, 4.4), f.other(CREAM), False, inside=[body])
    for x, shade in ((-7.5, 0.55), (1.0, 0.55)):
        f.paint(
            blob((x - 1.7, y - 14), (x + 2, y - 14), (x + 3.0, y), (x + 1.4, y + 14), (x - 2, y + 14), (x - 0.4, y)),
            f.body(shade),
            False,
            inside=[body],
        )
    f.eye(11.4, y - 3.4, 3.5)
    f.smile(16.4, y + 2.2, 2.6)
    f.cheek(11.2, y + 3.2)
    fin = blob((3, y + 2), (-4, y + 4.2 + 2 * beat), (-7, y + 8 + 2.4 * beat), (-1, y + 7))
    f.paint(fin, f.body(-0.12), width=0.8)


def _turtle(f: Figure, p: float) -> None:
    y, beat = 1.2 * _wave(p, 0.2), _wave(p)
    skin, dark = f.other((168, 190, 130)), f.other((128, 150, 100))
    f.paint(turned(ellipse(13, y + 9, 3.4, 8), 0.5 + 0.7 * beat, 11, y + 2), dark)
    f.paint(turned(ellipse(-14, y + 7, 3.0, 6), 0.9 - 0.5 * beat, -12, y + 2), dark)
    f.paint(polygon((-16, y + 1), (-22.5, y + 3), (-16, y + 4.5)), skin)
    f.paint([limb(12, y, 20, y - 4, 6), ellipse(22, y - 6, 6.4, 5.8)], skin)
    f.eye(23.6, y - 7.4, 2.3)
    f.smile(25.0, y - 3.8, 1.8)
    f.cheek(21.4, y - 3.6, 1.3)
    f.paint(ellipse(-1, y + 3.4, 16.5, 4.4), f.other(CREAM))
    shell = blob(
        (-18, y + 3.2),
        (-15.5, y - 6),
        (-8, y - 13),
        (1, y - 15),
        (10, y - 11.5),
        (15.5, y - 4),
        (17, y + 3.2),
        (0, y + 4.6),
    )
    f.round_body(shell, 0, y - 4, 18, 11)
    for x, v, r in ((-1, -7.5, 4.2), (-10, -3.4, 3.1), (8.2, -3.2, 3.1)):
        f.paint(ellipse(x, y + v, r, r * 0.85), f.body(-0.4), False)
        f.paint(ellipse(x + 0.3, y + v - 0.3, r - 1.0, r * 0.85 - 1.0), f.body(0.16), False)
    f.paint(turned(ellipse(7, y + 10, 3.6, 8.4), 0.7 - 0.8 * beat, 7, y + 2.4), skin)
    f.paint(turned(ellipse(-9, y + 8, 3.2, 6.4), 0.9 + 0.6 * beat, -9, y + 2.4), skin)


def _whale(f: Figure, p: float) -> None:
    y, beat = 1.2 * _wave(p, 0.3), _wave(p)
    tail = ribbon([(-12, y), (-19, y - 3 + 1.2 * beat), (-24, y - 9 + 2.4 * beat)], (12, 6.5, 3.4))
    flukes = blob(
        (-24, y - 8 + 2.4 * beat),
        (-30.5, y - 12 + 3 * beat),
        (-29, y - 16 + 3 * beat),
        (-24, y - 13.4 + 2.6 * beat),
        (-19.4, y - 17 + 2.4 * beat),
        (-18, y - 13 + 2.2 * beat),
    )
    body = blob(
        (-17, y + 2),
        (-12, y - 8),
        (0, y - 13.5),
        (14, y - 12.5),
        (24, y - 4),
        (24, y + 5),
        (14, y + 11),
        (-2, y + 11),
        (-13, y + 7),
    )
    f.paint([flukes, tail], f.body(-0.26))
    f.round_body(body, 4, y - 1, 21, 12.4)
    f.paint(ellipse(8, y + 9.4, 19, 5.8, -0.06), f.other(CREAM), False, inside=[body])
    for k in range(4):
        f.paint(limb(2 + 5 * k, y + 7.0, 1 + 5 * k, y + 10.6, 0.8), f.other((205, 180, 160)), False, inside=[body])
    f.eye(14.6, y - 3.0, 2.9)
    f.smile(19.4, y + 0.4, 3.0)
    f.cheek(13.0, y + 2.2, 1.8)
    f.paint(turned(ellipse(3, y + 9.6, 3.0, 6.6), 0.75 + 0.4 * beat, 3, y + 4), f.body(-0.12), width=0.9)
    if not f.spouts:
        return
    jet = 4 + 1.2 * beat
    stem = ribbon([(9, y - 12), (9, y - 15 - jet), (9, y - 16 - jet)], (2.0, 2.4, 1.0))
    drops = [
        blob(
            (9, y - 15 - jet),
            (9 + s * 3.6, y - 19.4 - jet),
            (9 + s * 7.4, y - 15 - jet),
            (9 + s * 6.6, y - 11.6 - jet),
            (9 + s * 5.0, y - 14.6 - jet),
        )
        for s in (-1, 1)
    ]
    f.paint([stem, *drops], f.other((214, 240, 252)), width=0.8)


def _boat(f: Figure, p: float) -> None:
    rock = 0.05 * _wave(p)
    y = -1 + 0.9 * _wave(p, 0.25)

    def r(points: np.ndarray) -> np.ndarray:
        return turned(points, rock, 0, y)

    f.paint(r(box(-2.6, y - 38, -0.8, y - 6)), f.other((150, 104, 66)), width=0.8)
    wave = 0.9 * _wave(p)
    f.paint(r(polygon((-1.7, y - 38.5), (-9.5, y - 36 + wave), (-1.7, y - 33.5))), f.body(), width=0.8)
    f.paint(
        r(blob((1.2, y - 34), (6, y - 31), (13, y - 20 + wave), (16.5, y - 11.4), (8, y - 12), (1.2, y - 11.4))),
        f.other(WHITE),
        width=0.9,
    )
    f.paint(r(polygon((2.0, y - 20), (12, y - 20), (14.6, y - 15.6), (2.0, y - 15.6))), f.body(0.1), False)
    f.paint(
        r(blob((-4.6, y - 32), (-8, y - 26), (-15.5, y - 11.4), (-9, y - 12), (-4.6, y - 11.4))),
        f.other(CREAM),
        width=0.9,
    )
    hull = r(
        blob(
            (-23, y - 9.5),
            (-10, y - 8.2),
            (10, y - 8.2),
            (27, y - 11.5),
            (21, y + 1),
            (14, y + 5),
            (-12, y + 5),
            (-20, y),
        )
    )
    f.paint(hull, f.body(-0.22))
    f.paint(
        r(blob((-20, y - 11), (27, y - 14), (25, y - 3), (14, y + 1.6), (-12, y + 1), (-21, y - 4))),
        f.body(),
        False,
        inside=[hull],
    )
    f.paint(r(box(-24, y - 9.6, 28, y - 7.0)), f.other(CREAM), False, inside=[hull])
    for x in (-13, -5.5, 2):
        f.paint(r(ellipse(x, y - 2.6, 1.9)), f.other(GLASS), width=0.7)
    f.eye(14.2, y - 3.8, 2.7)
    f.smile(17.6, y - 0.4, 2.2)


_PAINTERS: dict[str, Callable[[Figure, float], None]] = {
    "cat": _cat, "robot": _robot, "dinosaur": _dinosaur, "car": _car, "bus": _bus, "bird": _bird, "plane": _plane,
    "rocket": _rocket, "fish": _fish, "turtle": _turtle, "whale": _whale, "boat": _boat}  # fmt: skip


_MIDDLE = frozenset(("bird", "plane", "rocket", "fish", "turtle", "whale"))


def stands(character: str) -> tuple[float, float]:
    """Where a character's origin lies on its picture: between the feet, or in the middle of the body."""
    return (WIDTH / 2, HEIGHT / 2) if character in _MIDDLE else ORIGIN


def sprite(
    character: str, color: Color, time: str | None, phase: float, scale: float, spouts: bool = True
) -> Image.Image:
    """RGBA picture of `WIDTH` x `HEIGHT` units with the character's origin at `stands(character)`.

    Args:
        color: RGB, 0 to 255. Every pixel is an affine function of it.
        time: whose light falls on the character; None in space.
        phase: of the step, 0 to 1.
        spouts: whether a whale does, as it does above water.
    """
    canvas = Canvas(WIDTH, HEIGHT, scale, stands(character))
    _PAINTERS[character](Figure(canvas, color, LIGHT[time], spouts), phase % 1.0)
    return canvas.done()
