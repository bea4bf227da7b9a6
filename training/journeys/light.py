"""What time of day and weather do to colours: tints, haze, skies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from journeys.brush import Color, mix, times

_TINT = {"dawn": (1.0, 0.80, 0.86), "day": (1.0, 1.0, 1.0), "sunset": (0.96, 0.70, 0.60), "night": (0.42, 0.48, 0.74)}
_HAZE = {"dawn": (250, 212, 208), "day": (208, 234, 250), "sunset": (250, 152, 98), "night": (46, 56, 112)}
_SKY = {
    "dawn": ((126, 158, 222), (238, 184, 206), (255, 222, 186)),
    "day": ((58, 142, 236), (122, 192, 248), (206, 238, 252)),
    "sunset": ((92, 48, 132), (226, 88, 92), (255, 186, 84)),
    "night": ((8, 10, 40), (22, 28, 78), (50, 58, 118)),
}
_WATER = {
    "dawn": ((186, 200, 214), (104, 146, 186), (66, 86, 142)),
    "day": ((120, 222, 232), (48, 164, 208), (20, 84, 158)),
    "sunset": ((240, 166, 132), (178, 98, 128), (84, 46, 108)),
    "night": ((28, 66, 118), (14, 36, 84), (8, 16, 50)),
}
_SPACE = ((12, 8, 36), (44, 20, 88), (116, 48, 132))
_GRAY = {"dawn": (214, 176, 200), "day": (186, 196, 206), "sunset": (186, 116, 132), "night": (50, 54, 84)}
_SLATE = {"dawn": (162, 126, 158), "day": (118, 132, 148), "sunset": (126, 84, 118), "night": (28, 32, 56)}
_PALE = {"dawn": (206, 182, 208), "day": (164, 190, 218), "sunset": (196, 116, 140), "night": (56, 62, 106)}
SNOW = (246, 250, 255)


@dataclass(frozen=True)
class Tone:
    """Colours of a scene under one time of day and one weather (None: the place has none)."""

    time: str | None
    weather: str | None
    water: bool = False

    @property
    def snowy(self) -> bool:
        return self.weather == "snow"

    @property
    def haze(self) -> Color:
        if self.time is None:
            return (92, 44, 120)
        if self.water:
            return _WATER[self.time][1]
        veil = {"cloudy": (_GRAY, 0.6), "rain": (_SLATE, 0.75), "snow": (_PALE, 0.6)}.get(self.weather or "")
        return mix(_HAZE[self.time], veil[0][self.time], veil[1]) if veil else _HAZE[self.time]

    def __call__(self, color: Color, depth: float = 0.0) -> Color:
        """The colour of something at a depth between 0 (near) and 1 (lost in haze)."""
        gray, dim = {"cloudy": (0.22, 0.9), "rain": (0.34, 0.76), "snow": (0.12, 0.97)}.get(
            self.weather or "", (0.0, 1.0)
        )
        plain = mix(color, (sum(color) / 3,) * 3, gray)
        tint = _TINT[self.time] if self.time else (0.9, 0.88, 1.0)
        return mix(tuple(dim * c for c in times(plain, tint)), self.haze, depth)

    def cover(self, color: Color, depth: float = 0.0, amount: float = 0.9) -> Color:
        """The colour of something on which snow would lie."""
        return self(mix(color, SNOW, amount) if self.snowy else color, depth)

    def lamp(self, day: Color, night: Color, depth: float = 0.0) -> Color:
        """Windows and lamps: lit at night and at sunset."""
        return mix(night, self.haze, depth * 0.5) if self.time in ("night", "sunset") else self(day, depth)

    def sky(self) -> tuple[Color, Color, Color]:
        """Top, middle, horizon."""
        if self.time is None:
            return _SPACE
        if self.water:
            return _WATER[self.time]
        veil = {"cloudy": (_GRAY, 0.62), "rain": (_SLATE, 0.86), "snow": (_PALE, 0.8)}.get(self.weather or "")
        colors = _SKY[self.time]
        return tuple(mix(c, veil[0][self.time], veil[1]) for c in colors) if veil else colors

    def gradient(self, rows: int, low: float = 0.66) -> np.ndarray:
        """Sky colours (rows, 3) from the top to `low` of the height."""
        at = np.linspace(0, 1, rows) / low
        return np.stack([np.interp(at, (0, 0.5, 1), [c[k] for c in self.sky()]) for k in range(3)], 1)
