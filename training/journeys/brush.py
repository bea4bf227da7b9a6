# ruff: noqa: RUF005 - a tuple added to an array of points moves them
"""Painting with smooth outlines: polygons on a canvas four times as fine, reduced when it is done. Needs Pillow.

Lengths are in units of the world (the picture is 96 high and wide), x to the right, y down, whatever the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw

FINE = 4  # painted pixels per pixel
INK = (38, 30, 48)

Color = Sequence[float]
Points = np.ndarray  # (N, 2)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Points:
    """An ellipse, turned clockwise by `turn` radians."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)], 1)
    return turned(points, turn) + (x, y)


def turned(points: Points, turn: float, x: float = 0.0, y: float = 0.0) -> Points:
    """Points turned clockwise by `turn` radians about (x, y)."""
    c, s = np.cos(turn), np.sin(turn)
    return (np.asarray(points, float) - (x, y)) @ np.array([[c, s], [-s, c]]) + (x, y)


def polygon(*points: tuple[float, float]) -> Points:
    """A shape with straight sides."""
    return np.array(points, float)


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Points:
    """A rectangle, with round corners where a radius is given."""
    if radius <= 0:
        return polygon((left, top), (right, top), (right, bottom), (left, bottom))
    radius = min(radius, (right - left) / 2, (bottom - top) / 2)
    quarter = np.linspace(0, np.pi / 2, 9)
    corners = ((right - radius, bottom - radius, 0.0), (left + radius, bottom - radius, 0.5),
               (left + radius, top + radius, 1.0), (right - radius, top + radius, 1.5))  # fmt: skip
    return np.concatenate([
        np.stack([x + radius * np.cos(quarter + k * np.pi), y + radius * np.sin(quarter + k * np.pi)], 1)
        for x, y, k in corners])  # fmt: skip


def limb(x0: float, y0: float, x1: float, y1: float, width: float) -> Points:
    """A thick line with round ends."""
    along, half = np.arctan2(y1 - y0, x1 - x0), np.linspace(-np.pi / 2, np.pi / 2, 12)
    r = width / 2
    ends = [np.stack([x + r * np.cos(along + a + half), y + r * np.sin(along + a + half)], 1)
            for x, y, a in ((x1, y1, 0.0), (x0, y0, np.pi))]  # fmt: skip
    return np.concatenate(ends)


def blob(*points: tuple[float, float], steps: int = 8) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    p = np.array(points, float)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(p, k, 0)[:, None] for k in (1, 0, -1, -2))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


def ribbon(points: Sequence[tuple[float, float]] | np.ndarray, widths: Sequence[float] | np.ndarray) -> Points:
    """A band along points, with a width at each: tails, fins, stems."""
    p, w = np.array(points, float), np.asarray(widths, float)[:, None] / 2
    along = np.gradient(p, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.maximum(np.hypot(*across.T)[:, None], 1e-6)
    return np.concatenate([p + w * across, (p - w * across)[::-1]])


class Canvas:
    """A picture of `width` x `height` units at `scale` pixels per unit, transparent at first.

    Args:
        origin: where the point (0, 0) lies, in units from the top left corner.
        loop: whether what leaves on one side comes back on the other.
    """

    def __init__(
        self, width: float, height: float, scale: float, origin: tuple[float, float] = (0, 0), loop: bool = False
    ):
        self.pixels = (round(width * scale), round(height * scale))
        self._unit, self._origin = scale * FINE, np.array(origin, float)
        self._loop = width if loop else None
        self._image = Image.new("RGBA", (self.pixels[0] * FINE, self.pixels[1] * FINE), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)

    def _places(self, points: Points) -> list[Points]:
        """The polygon in painted pixels, more than once where it crosses the seam of a loop."""
        placed = (points + self._origin) * self._unit
        if not self._loop:
            return [placed]
        loop = self._loop * self._unit
        left, right = placed[:, 0].min(), placed[:, 0].max()
        first, last = int(np.ceil((-right - 2) / loop)), int(np.floor((loop - left + 2) / loop))
        return [placed + (k * loop, 0) if k else placed for k in range(first, last + 1)]

    def paint(
        self,
        shapes: Points | Sequence[Points],
        fill: Color,
        outline: Color | None = None,
        width: float = 1.1,
        inside: Points | Sequence[Points] | None = None,
    ) -> None:
        """Fill shapes, together in one outline; `inside`: only where these shapes are, too."""
        shapes = [shapes] if isinstance(shapes, np.ndarray) else list(shapes)
        if inside is not None:
            self._paint_inside(shapes, fill, [inside] if isinstance(inside, np.ndarray) else list(inside))
            return
        placed = [place for shape in shapes for place in self._places(shape)]
        if outline is not None:
            ink, thick = _bytes(outline), max(1, round(2 * width * self._unit))
            for place in placed:
                closed = np.concatenate([place, place[:2]]).ravel().tolist()
                self._draw.line(closed, fill=ink, width=thick, joint="curve")
        for place in placed:
            self._draw.polygon(place.ravel().tolist(), fill=_bytes(fill))

    def _mask(self, groups: Sequence[Sequence[Points]]) -> tuple[Image.Image, tuple[int, int]] | None:
        """Where shapes of every group are: the part of the canvas that they touch, and its corner."""
        placed = [[place for shape in group for place in self._places(shape)] for group in groups]
        if not all(placed):
            return None
        spans = [np.concatenate(group) for group in placed]
        low = np.maximum(0, np.max([span.min(0) for span in spans], 0).astype(int))
        high = np.minimum(self._image.size, np.min([span.max(0) for span in spans], 0).astype(int) + 2)
        if (high <= low).any():
            return None
        masks = []
        for group in placed:
            mask = Image.new("L", tuple((high - low).tolist()), 0)
            pen = ImageDraw.Draw(mask)
            for place in group:
                pen.polygon((place - low).ravel().tolist(), fill=255)
            masks.append(mask)
        return (masks[0] if len(masks) == 1 else ImageChops.multiply(*masks)), tuple(low.tolist())

    def _paint_inside(self, shapes: list[Points], fill: Color, inside: list[Points]) -> None:
        found = self._mask((shapes, inside))
        if found:
            mask, corner = found
            self._image.paste(_bytes(fill), (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)

    def veil(self, shapes: Points | Sequence[Points], fill: Color, opacity: float) -> None:
        """Paint over what is there, letting it shine through."""
        found = self._mask(([shapes] if isinstance(shapes, np.ndarray) else list(shapes),))
        if found:
            mask, corner = found
            layer = Image.new("RGBA", mask.size, (*_bytes(fill)[:3], 0))
            layer.putalpha(mask.point([round(opacity * v) for v in range(256)]))
            self._image.alpha_composite(layer, corner)

    def done(self, shift: float = 0.0) -> Image.Image:
        """The RGBA picture; `shift` (in pixels, below 1) moves it to the left, round the loop."""
        image = self._image
        if shift:
            wider = Image.new("RGBA", (image.width + FINE, image.height))
            wider.paste(image, (0, 0))
            wider.paste(image.crop((0, 0, FINE, image.height)), (image.width, 0))
            area = (shift * FINE, 0, image.width + shift * FINE, image.height)
            return wider.resize(self.pixels, Image.Resampling.BOX, box=area)
        return image.resize(self.pixels, Image.Resampling.BOX)


def _bytes(color: Color) -> tuple[int, int, int, int]:
    red, green, blue = (min(255, max(0, round(v))) for v in color)
    return red, green, blue, 255


def mix(a: Color, b: Color, share: float) -> tuple[float, ...]:
    """From colour a (share 0) to colour b (share 1)."""
    return tuple(x + share * (y - x) for x, y in zip(a, b, strict=True))


def times(a: Color, b: Color) -> tuple[float, ...]:
    """Colour a under light of colour b (1 is white)."""
    return tuple(x * y for x, y in zip(a, b, strict=True))
