"""Decoded pictures of videos to upright RGB of the standard range.

HDR (PQ, HLG) is mapped to what an ordinary screen shows: linear light, BT.709's primaries, and a curve that leaves the
darker part as it is and bends the highlights.
"""

import logging
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from fifo_diffusion.video.moving import Shown, square_pixels, turn_of
from fifo_diffusion.video.stills import over_background

logger = logging.getLogger(__name__)

# Numbers of ITU-T H.273, as FFmpeg uses them.
BT709, UNSPECIFIED, BT601 = 1, 2, 5
_KNOWN_MATRICES = {1, 4, 5, 6, 7, 9}
"""Of colour, to FFmpeg's scaler."""
PQ, HLG = 16, 18
_CURVES = {PQ: "PQ", HLG: "HLG"}
_HD_WIDTH, _SD_HEIGHT = 1280, 576

_TO_BT709 = {
    9: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32),
    12: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32),
}
"""Linear light of wider primaries in those of BT.709."""
_WHITE_NITS = 203
"""How bright HDR shows a white page (BT.2408)."""
_KNEE = 0.6
"""Of that white: up to here light stays as it is."""


class ToRgb:
    """Pictures of one file to upright uint8 (H, W, 3) with square pixels. Says once what cannot be shown as it is."""

    def __init__(self, name: object) -> None:
        self._name = name
        self._chroma, self._rgb, self._square = VideoReformatter(), VideoReformatter(), VideoReformatter()
        self._told: set[str] = set()

    def __call__(self, shown: Shown) -> np.ndarray:
        picture = shown.picture
        if picture.interlaced_frame:
            self._tell("is interlaced: both fields of a frame are read together; deinterlace it first where that shows")
        if int(picture.color_trc) in _CURVES or int(picture.color_primaries) in _TO_BT709:
            frame = self._of_wide_colours(picture)
        else:
            frame = self._of_usual_colours(picture)
        exchange, mirror, flip = turn_of(picture)
        frame = self._squared(frame, shown.aspect)
        frame = frame.transpose(1, 0, 2) if exchange else frame
        frame = frame[:, ::-1] if mirror else frame
        return np.ascontiguousarray(frame[::-1] if flip else frame)

    def _of_usual_colours(self, picture: av.VideoFrame) -> np.ndarray:
        # FFmpeg's short cut from 4:2:0 to RGB makes every colour about one level darker, which would add up where one
        # video continues another. Over 4:4:4 it is exact.
        clear, source = _has_alpha(picture), self._source(picture)
        if picture.format.name.startswith("yuv"):
            full_chroma = "yuva444p" if clear else "yuv444p"
            same = {"dst_colorspace": source["src_colorspace"]} if source else {}
            picture = self._chroma.reformat(picture, format=full_chroma, interpolation="BICUBIC", **source, **same)
        rgb = self._rgb.reformat(picture, format="rgba" if clear else "rgb24", **source).to_ndarray()
        return over_background(rgb[..., :3], rgb[..., 3]) if clear else rgb

    def _of_wide_colours(self, picture: av.VideoFrame) -> np.ndarray:
        curve, primaries = int(picture.color_trc), int(picture.color_primaries)
        if curve in _CURVES:
            self._tell(f"is HDR ({_CURVES[curve]}): its brightness is mapped to that of an ordinary screen")
        rgb = self._rgb.reformat(picture, format="rgb48le", interpolation="BICUBIC", **self._source(picture))
        return to_standard(rgb.to_ndarray().astype(np.float32) / 65535, curve, primaries)

    def _source(self, picture: av.VideoFrame) -> dict[str, int]:
        """The colour matrix, where the file does not say it: as players guess."""
        found = int(picture.colorspace)
        if picture.format.is_rgb or found in _KNOWN_MATRICES:
            return {}
        if found not in (UNSPECIFIED, 0, 3):
            self._tell(f"has colours in a form that is not known here ({found} in H.273): they may be wrong")
        high = picture.width >= _HD_WIDTH or picture.height > _SD_HEIGHT
        return {"src_colorspace": BT709 if high else BT601}

    def _squared(self, frame: np.ndarray, aspect: Fraction) -> np.ndarray:
        height, width = frame.shape[:2]
        size = square_pixels(width, height, aspect)
        if size == (width, height):
            return frame
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        return self._square.reformat(picture, *size, interpolation="BICUBIC").to_ndarray()

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.warning("%s %s", self._name, what)


def to_standard(rgb_HWC: np.ndarray, curve: int, primaries: int) -> np.ndarray:
    """Signals in [0, 1] of a wide range or wide primaries, as an ordinary screen shows them: uint8 (H, W, 3).

    Args:
        rgb_HWC: float32.
        curve, primaries: numbers of H.273; curves other than PQ and HLG are taken for that of an ordinary video.
    """
    if curve == PQ:
        light = _bent(_pq_light(rgb_HWC) / _WHITE_NITS)
    elif curve == HLG:
        light = _bent(_hlg_light(rgb_HWC) / _WHITE_NITS)
    else:
        light = rgb_HWC**2.4
    if primaries in _TO_BT709:
        light = light @ _TO_BT709[primaries].T
    signal = np.clip(light, 0, 1) ** (1 / 2.4)
    return np.round(signal * 255).astype(np.uint8)


def _bent(light_HWC: np.ndarray) -> np.ndarray:
    """Light relative to white into [0, 1], of the same hue."""
    brightest = np.maximum(light_HWC.max(-1, keepdims=True), 1e-6)
    over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    bent = np.where(brightest > _KNEE, _KNEE + (1 - _KNEE) * (1 - np.exp(-over)), brightest)
    return light_HWC * (bent / brightest)


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: nits."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 on a screen of 1,000 nits: nits."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.maximum(scene @ np.array([0.2627, 0.678, 0.0593], np.float32), 1e-6)
    return 1000 * luminance[..., None] ** 0.2 * scene


def _has_alpha(picture: av.VideoFrame) -> bool:
    layout = picture.format
    return layout.has_palette or any(component.is_alpha for component in layout.components)
