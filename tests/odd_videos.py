"""Odd videos: times, groups of pictures, orientation, shapes of pixels, ranges and spaces of colours."""

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from odd_patterns import BLUE, CLEAR, GREEN, RED, USUAL, YELLOW, Case, pattern


def video(
    path: Path,
    count: int = 20,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict | None = None,
    times: list[int] | None = None,
    tick: Fraction = Fraction(1, 30),
    size: tuple[int, int] = (64, 48),
    tags: dict | None = None,
    aspect: Fraction | None = None,
    frame: Callable[[int], av.VideoFrame] | None = None,
    muxer: dict | None = None,
    form: str | None = None,
    sound: bool = False,
) -> None:
    """A video of the usual picture; `times` in ticks, one after the other where none are given."""
    tags = {"colorspace": 1, "color_range": 1, "color_primaries": 1, "color_trc": 1} | (tags or {})
    with av.open(str(path), "w", options=muxer or {}, format=form) as container:
        fine = {"crf": "8"} if codec.startswith("libx") else {}
        stream = container.add_stream(codec, rate=Fraction(1) / tick, options=fine | (options or {}))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        stream.codec_context.time_base = tick
        if sound:
            tone = container.add_stream("aac" if str(path).endswith(".mp4") else "libopus", rate=48000)
        for k in range(count):
            picture = frame(k) if frame is not None else _in_format(pattern(*size, k), pix_fmt, tags)
            picture.pts, picture.time_base = (times[k] if times else k), tick
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound:
            container.mux(encoded_tone(tone, float(count * tick)))


def encoded_tone(stream, seconds: float):
    """A tone of 440 Hz that grows louder."""
    time = np.arange(int(seconds * 48000)) / 48000
    wave = (0.2 + 0.6 * time / max(time[-1], 1e-9)) * np.sin(2 * np.pi * 440 * time)
    packets = []
    for start in range(0, len(wave), 960):
        part = wave[start : start + 960].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode()


def _in_format(picture: np.ndarray, pix_fmt: str, tags: dict) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    if pix_fmt.startswith(("rgb", "gbr", "bgr", "pal")):
        return frame.reformat(format=pix_fmt)
    matrix = tags["colorspace"] if tags["colorspace"] in (1, 4, 5, 6, 7, 9) else 5
    full = tags["color_range"] == 2 or "j" in pix_fmt
    frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full else 1)
    frame.colorspace, frame.color_range = tags["colorspace"], tags["color_range"]
    return frame


def remux(source: Path, path: Path, keep: Callable[[int, av.Packet], bool], shift: int = 0) -> None:
    """Some packets of a video, as they are, `shift` frames of 1/30 s earlier."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        back = round(shift / 30 / stream.time_base)
        for k, packet in enumerate(p for p in old.demux(stream) if p.size):
            if keep(k, packet):
                packet.stream, packet.pts, packet.dts = copy, packet.pts - back, packet.dts - back
                new.mux(packet)


def beside(path: Path, name: str) -> Path:
    """A path for what a file is made from."""
    folder = path.parent / ".made-from"
    folder.mkdir(exist_ok=True)
    return folder / name


def edit_list(path: Path) -> None:
    video(beside(path, "whole.mp4"), 40, options={"bf": "2", "g": "40"})
    remux(beside(path, "whole.mp4"), path, lambda k, p: True, shift=5)


def av1(path: Path) -> None:
    """By SVT-AV1, which gives the process that calls it real-time priority where it may."""
    before = (os.sched_getscheduler(0), os.sched_getparam(0)) if hasattr(os, "sched_getscheduler") else None
    video(path, codec="libsvtav1", options={"preset": "10", "crf": "20", "svtav1-params": "lp=1"})
    if before is not None:
        os.sched_setscheduler(0, *before)


def open_gop(path: Path) -> None:
    options = {"x265-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-adapt=0:log-level=none:scenecut=0"}
    video(beside(path, "hevc.mp4"), 40, codec="libx265", options=options)
    seen = []

    def after_the_first_group(k, packet):
        seen.append(packet.is_keyframe)
        return sum(seen) >= 2

    remux(beside(path, "hevc.mp4"), path, after_the_first_group)


def not_at_a_key_frame(path: Path) -> None:
    video(beside(path, "groups.mp4"), 40, options={"bf": "0", "g": "20", "sc_threshold": "0"})
    remux(beside(path, "groups.mp4"), path, lambda k, p: k >= 5)


def turned(matrix: tuple[int, int, int, int]) -> Callable[[Path], None]:
    """A video with a display matrix (a, b, c, d)."""

    def make(path: Path) -> None:
        video(path, 3)
        data = bytearray(path.read_bytes())
        a, b, c, d = (value << 16 for value in matrix)
        at = data.index(b"tkhd") + 4 + 40
        data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(data)

    return make


def damaged(path: Path) -> None:
    """The sixth of twelve packets, each a picture of its own, is of zeros."""
    video(path, 12, codec="png", pix_fmt="rgb24", tags={"colorspace": 0})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][5]
        at = data.index(bytes(packet))
    data[at : at + packet.size] = bytes(packet.size)
    path.write_bytes(data)


def interlaced(path: Path) -> None:
    video(path, 10, options={"x264-params": "tff=1:bff=0:interlaced=1"}, tags={"field_order": 2})


def hdr(curve: int) -> Callable[[Path], None]:
    """Ten bits of BT.2020 in PQ or HLG: the quarters are 25, 100, 203 (white) and 1,000 nits of grey."""
    from fifo_diffusion.video import colours

    levels = np.linspace(0, 1, 4096, dtype=np.float32)
    light = (colours._pq_light if curve == 16 else colours._hlg_light)(np.repeat(levels[:, None], 3, 1))[:, 0]
    signals = [levels[np.abs(light - nits).argmin()] for nits in (25, 100, 203, 1000)]

    def frame(k: int) -> av.VideoFrame:
        grey = np.zeros((48, 64), np.uint16)
        for signal, rows, columns in zip(signals, (0, 0, 24, 24), (0, 32, 0, 32), strict=True):
            grey[rows : rows + 24, columns : columns + 32] = round(64 + float(signal) * 876)
        planes = [grey, np.full((24, 32), 512, np.uint16), np.full((24, 32), 512, np.uint16)]
        picture = av.VideoFrame(64, 48, "yuv420p10le")
        for plane, values in zip(picture.planes, planes, strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes())
        picture.colorspace, picture.color_range, picture.color_trc, picture.color_primaries = 9, 1, curve, 9
        return picture

    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": curve}
    params = {"x265-params": "log-level=none:bframes=0:frame-threads=1:pools=none"}
    return lambda path: video(path, 2, codec="libx265", pix_fmt="yuv420p10le", tags=tags, frame=frame, options=params)


def clear_video(path: Path) -> None:
    clear = tuple((*colour, alpha) for colour, alpha in zip(USUAL, (255, 255, 0, 128), strict=True))

    def frame(_: int) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(pattern(quarters=clear), format="rgba")

    video(path, 3, codec="png", pix_fmt="rgba", frame=frame)


SIDES = {
    "none": ((1, 0, 0, 1), (RED, GREEN, BLUE, YELLOW)),
    "mirrored": ((-1, 0, 0, 1), (GREEN, RED, YELLOW, BLUE)),
    "upside down": ((-1, 0, 0, -1), (YELLOW, BLUE, GREEN, RED)),
    "flipped": ((1, 0, 0, -1), (BLUE, YELLOW, RED, GREEN)),
    "transposed": ((0, 1, 1, 0), (RED, BLUE, GREEN, YELLOW)),
    "clockwise": ((0, 1, -1, 0), (BLUE, RED, YELLOW, GREEN)),
    "transversed": ((0, -1, -1, 0), (YELLOW, GREEN, BLUE, RED)),
    "counterclockwise": ((0, -1, 1, 0), (GREEN, YELLOW, RED, BLUE)),
}
"""Display matrices (a, b, c, d) of QuickTime, which take (x, y) to (a x + c y, b x + d y), and what is seen."""


_NEW_AV = int(av.__version__.split(".")[0]) >= 18  # older ones read these as well, but cannot write them
VIDEOS = {
    "edit list": Case(edit_list, "cut.mp4", frames=35, numbers=list(range(5, 40)), quarters=()),
    "open GOP": Case(open_gop, "hevc.mp4", frames=None, quarters=()),
    "cut at a non-key frame": Case(not_at_a_key_frame, "cut.mp4", frames=None, quarters=()),
    "alternative reference frames": Case(
        lambda p: video(p, codec="libvpx-vp9", options={"lag-in-frames": "16", "auto-alt-ref": "6", "crf": "20"}),
        "vp9.webm",
        frames=20,
        numbers=list(range(20)),
    ),
    "hidden frames of AV1": Case(av1, "av1.mp4", frames=20),
    "negative times": Case(
        lambda p: video(p, 10, times=list(range(-4, 6))), "early.mkv", frames=10, numbers=list(range(10))
    ),
    "variable rate": Case(
        lambda p: video(p, 6, times=[0, 1, 2, 12, 13, 30]), "variable.mp4", frames=6, numbers=list(range(6))
    ),
    "interlaced": Case(interlaced, "fields.mp4", frames=10, note="interlaced", made_here=_NEW_AV),
    "damaged in the middle": Case(damaged, "hurt.mov", frames=11, note="hurt.mov is damaged"),
    "cover picture first": Case(lambda p: video(p, 4, form="matroska"), "song.mkv", frames=4),
}
VIDEOS |= {
    f"display matrix {name}": Case(
        turned(matrix), "turned.mp4", quarters=seen, frames=3, size=(64, 48) if matrix[0] else (48, 64)
    )
    for name, (matrix, seen) in SIDES.items()
}
_LOSSLESS = {"qp": "0"}
VIDEOS |= {
    "wide pixels": Case(lambda p: video(p, 3, aspect=Fraction(2)), "wide.mp4", frames=3, size=(128, 48)),
    "narrow pixels": Case(lambda p: video(p, 3, aspect=Fraction(1, 2)), "narrow.mp4", frames=3, size=(64, 96)),
    "full range": Case(lambda p: video(p, 3, pix_fmt="yuv444p", tags={"color_range": 2}), "full.mp4", frames=3),
    "BT.601": Case(lambda p: video(p, 3, tags={"colorspace": 6}), "old.mp4", frames=3),
    "BT.2020, ten bits": Case(
        lambda p: video(p, 3, pix_fmt="yuv444p10le", tags={"colorspace": 9}, options=_LOSSLESS),
        "ten.mkv",
        frames=3,
        made_here=_NEW_AV,
    ),
    "no word on the matrix, small": Case(
        lambda p: video(p, 3, tags={"colorspace": 2, "color_primaries": 2, "color_trc": 2}), "plain.mp4", frames=3
    ),
    "no word on the matrix, large": Case(
        lambda p: video(
            p,
            1,
            size=(1280, 720),
            frame=lambda k: _in_format(pattern(1280, 720), "yuv420p", {"colorspace": 1, "color_range": 1}),
            tags={"colorspace": 2, "color_primaries": 2, "color_trc": 2},
        ),
        "plain.mp4",
        size=(1280, 720),
    ),
    "twelve bits": Case(
        lambda p: video(
            p,
            2,
            codec="libx265",
            pix_fmt="yuv444p12le",
            options={"x265-params": "log-level=none:bframes=0:frame-threads=1:pools=none"},
        ),
        "twelve.mkv",
        frames=2,
    ),
    "RGB in a video": Case(
        lambda p: video(p, 2, codec="libx264rgb", pix_fmt="rgb24", tags={"colorspace": 0}), "rgb.mkv", frames=2
    ),
    "transparent video": Case(clear_video, "clear.mov", quarters=CLEAR, frames=3),
    "HDR PQ": Case(
        hdr(16), "pq.mp4", quarters=((107,) * 3, (190,) * 3, (239,) * 3, (255,) * 3), frames=2, note="HDR (PQ)"
    ),
    "HDR HLG": Case(
        hdr(18), "hlg.mp4", quarters=((107,) * 3, (190,) * 3, (239,) * 3, (255,) * 3), frames=2, note="HDR (HLG)"
    ),
}
