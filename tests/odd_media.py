"""Odd and bad media files, each with what reading it must give. `python tests/odd_media.py FOLDER` writes them all.

A usual picture is 64x48 with a red, a green, a blue and a yellow quarter (left to right, top to bottom). In videos the
blue quarter's red rises by 5 from frame to frame, so that frames can be told apart.
"""

import os
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

RED, GREEN, BLUE, YELLOW, WHITE, GREY = (
    (210, 40, 40),
    (40, 170, 60),
    (40, 60, 200),
    (220, 200, 50),
    (255, 255, 255),
    (128, 128, 128),
)
USUAL = (RED, GREEN, BLUE, YELLOW)
STEP = 5


@dataclass(frozen=True)
class Case:
    """A file and what must come of it.

    Attributes:
        make: writes it at a path.
        name: of the file.
        quarters: colours of the first frame as it is seen.
        frames: how many; None: not known beforehand, but every way of reading must agree.
        size: (width, height) as it is seen.
        numbers: which of the written frames these are; None: not looked at.
        fps: None: not looked at.
        tolerance: of each colour, in levels of 255.
        note: in what is said while it is read; None: nothing is said.
        refused: in the one line with which it is refused; None: it is read.
        made_here: whether the libraries that are installed can make it.
    """

    make: Callable[[Path], None]
    name: str
    quarters: tuple = USUAL
    frames: int | None = 1
    size: tuple[int, int] = (64, 48)
    numbers: list[int] | None = None
    fps: float | None = None
    tolerance: int = 8
    note: str | None = None
    refused: str | None = None
    made_here: bool = True


def pattern(width: int = 64, height: int = 48, number: int = 0, quarters: tuple = USUAL) -> np.ndarray:
    """uint8 (height, width, channels) of four quarters."""
    picture = np.zeros((height, width, len(quarters[0])), np.uint8)
    top, left = height // 2, width // 2
    for colour, rows, columns in zip(quarters, "TTBB", "LRLR", strict=True):
        down = slice(0, top) if rows == "T" else slice(top, None)
        right = slice(0, left) if columns == "L" else slice(left, None)
        picture[down, right] = colour
    if number:
        picture[top:, :left, 0] += STEP * number
    return picture


def number_of(frame: np.ndarray) -> int:
    """Which frame of a video this is."""
    height, width = frame.shape[:2]
    level = frame[height * 5 // 8 : height * 7 // 8, width // 8 : width * 3 // 8, 0].mean()
    return round((level - BLUE[0]) / STEP)


# ---------------------------------------------------------------------- videos


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


HALF_YELLOW = tuple(round((c + 255) / 2) for c in YELLOW)
CLEAR = (RED, GREEN, WHITE, HALF_YELLOW)
"""The usual picture with the blue quarter transparent and the yellow one half so."""


# ---------------------------------------------------------------------- pictures


def picture(mode: str = "RGB", **how) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pattern()).convert(mode).save(path, **how)


def oriented(number: int, **how) -> Callable[[Path], None]:
    """A picture that is stored so that this EXIF orientation shows it as usual."""

    def make(path: Path) -> None:
        back = {
            1: lambda a: a,
            2: np.fliplr,
            3: lambda a: np.rot90(a, 2),
            4: np.flipud,
            5: lambda a: a.transpose(1, 0, 2),
            6: lambda a: np.rot90(a, 1),
            7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
            8: lambda a: np.rot90(a, -1),
        }[number]
        exif = Image.Exif()
        exif[274] = number
        Image.fromarray(np.ascontiguousarray(back(pattern()))).save(path, exif=exif, **how)

    return make


def with_alpha() -> Image.Image:
    clear = tuple((*colour, alpha) for colour, alpha in zip(USUAL, (255, 255, 0, 128), strict=True))
    return Image.fromarray(pattern(quarters=clear), "RGBA")


def clear_palette(path: Path) -> None:
    """Blue is an index that is transparent."""
    image = Image.fromarray(pattern()).quantize(4)
    image.save(path, transparency=image.getpixel((8, 40)))


def grey_with_alpha(path: Path) -> None:
    levels = pattern(quarters=((20, 255), (90, 255), (128, 0), (128, 255)))
    Image.fromarray(levels, "LA").save(path)


GREYS = tuple((level,) * 3 for level in (20, 90, 128, 240))


def deep_grey(path: Path) -> None:
    levels = pattern(quarters=tuple((c[0],) for c in GREYS))[..., 0].astype(np.uint16) * 257
    Image.fromarray(levels).save(path)


def deep_rgb(path: Path) -> None:
    rgb = (pattern().astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    write_png(path, 64, 48, 16, 2, zlib.compress(rows))


def write_png(path: Path, width: int, height: int, bits: int, kind: int, data: bytes) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def other_profile(path: Path) -> None:
    """Red and green are exchanged in the file, and in its profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    Image.fromarray(pattern()[..., [1, 0, 2]].copy()).save(path, icc_profile=bytes(profile))


def linear_gamma(path: Path) -> None:
    linear = np.round(255 * (pattern() / 255) ** (1 / 0.45455)).astype(np.uint8)
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100000))
    Image.fromarray(linear).save(path, pnginfo=info)


# ---------------------------------------------------------------------- animations


def images(count: int, mode: str = "RGB") -> list[Image.Image]:
    return [Image.fromarray(pattern(number=k)).convert(mode) for k in range(count)]


def animation(count: int, mode: str = "RGB", **how) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        first, *others = images(count, mode)
        first.save(path, save_all=True, append_images=others, **how)

    return make


def patches_gif(path: Path) -> None:
    """Frames that hold only what changes, at an offset; each is taken away before the next (disposal 3)."""
    (first,) = images(1)
    patch = Image.new("P", (32, 24))
    patch.putpalette([c for colour in (WHITE, GREY) for c in colour])
    from PIL import GifImagePlugin

    base = first.quantize(8)
    parts = [*GifImagePlugin.getheader(base.copy(), info={"loop": 0})[0]]
    parts += GifImagePlugin.getdata(base, duration=100, include_color_table=True, disposal=1)
    for offset in ((0, 0), (32, 0)):
        parts += GifImagePlugin.getdata(patch, offset, duration=100, include_color_table=True, disposal=3)
    path.write_bytes(b"".join(parts) + b";")


def hidden_still(path: Path) -> None:
    first, *others = images(4)
    Image.new("RGB", (64, 48)).save(path, save_all=True, append_images=[first, *others], default_image=True)


def pages_with_thumbnail(path: Path) -> None:
    from PIL.TiffImagePlugin import AppendingTiffWriter

    with AppendingTiffWriter(str(path), new=True) as file:
        for image, kind in zip([*images(3), Image.new("RGB", (8, 6))], (0, 0, 0, 1), strict=True):
            image.save(file, format="TIFF", tiffinfo={254: kind})
            file.newFrame()


# ---------------------------------------------------------------------- hostile


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)


def huge_png(side: int) -> Callable[[Path], None]:
    return lambda path: write_png(path, side, side, 8, 0, zlib.compress(bytes(64)))


def cut_off(make: Callable[[Path], None], share: float) -> Callable[[Path], None]:
    def make_less(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return make_less


def empty_gif(path: Path) -> None:
    """A huge screen and thousands of frames of one pixel."""
    frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    path.write_bytes(b"GIF89a" + struct.pack("<HH", 9000, 9000) + b"\x80\0\0\0\0\0\xff\xff\xff" + frame * 3000 + b";")


def folder(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        for number, name in enumerate(names):
            if name.endswith(("png", "jpg")):
                Image.fromarray(pattern(number=number)).save(path / name)
            else:
                (path / name).write_text("no picture")

    return make


def folder_of_all_sorts(path: Path) -> None:
    folder("frame_1.png", "frame_2.png", "frame_10.png", "notes.txt", "Thumbs.db")(path)
    (path / ".hidden.png").write_bytes(b"")
    (path / "sub.png").mkdir()
    (path / "gone.png").symlink_to("nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(path / "pipe.png")


def socket_file(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
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
_AVIF = ".avif" in Image.registered_extensions()

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
    "hidden frames of AV1": Case(
        lambda p: video(p, codec="libsvtav1", options={"preset": "10", "crf": "20", "svtav1-params": "lp=1"}),
        "av1.mp4",
        frames=20,
    ),
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
PICTURES = {f"EXIF {k}": Case(oriented(k, quality=95), "turned.jpg") for k in range(1, 9)}
PICTURES |= {
    "EXIF in TIFF": Case(oriented(7), "turned.tif"),
    "EXIF in PNG": Case(oriented(6), "turned.png"),
    "EXIF in WebP": Case(oriented(8, lossless=True), "turned.webp"),
    "transparent PNG": Case(lambda p: with_alpha().save(p), "clear.png", quarters=CLEAR, tolerance=1),
    "transparent WebP": Case(lambda p: with_alpha().save(p, lossless=True, exact=True), "clear.webp", quarters=CLEAR),
    "transparent palette": Case(clear_palette, "clear.png", quarters=(RED, GREEN, WHITE, YELLOW)),
    "transparent GIF": Case(clear_palette, "clear.gif", quarters=(RED, GREEN, WHITE, YELLOW)),
    "transparent colour": Case(
        lambda p: Image.fromarray(pattern()).save(p, transparency=BLUE), "key.png", quarters=(RED, GREEN, WHITE, YELLOW)
    ),
    "grey with alpha": Case(grey_with_alpha, "grey.png", quarters=(GREYS[0], GREYS[1], WHITE, GREYS[2])),
    "16-bit grey PNG": Case(deep_grey, "deep.png", quarters=GREYS, tolerance=1),
    "16-bit grey TIFF": Case(deep_grey, "deep.tiff", quarters=GREYS, tolerance=1),
    "16-bit RGB": Case(deep_rgb, "deep.png", tolerance=1),
    "CMYK": Case(picture("CMYK", quality=95), "print.jpg"),
    "one bit": Case(
        lambda p: Image.fromarray(pattern(quarters=((0,), (255,), (255,), (0,)))[..., 0]).convert("1").save(p),
        "bits.png",
        quarters=((0,) * 3, WHITE, WHITE, (0,) * 3),
    ),
    "profile that exchanges red and green": Case(other_profile, "profile.png"),
    "damaged profile": Case(picture(icc_profile=b"none" * 40), "profile.png"),
    "linear gamma": Case(linear_gamma, "linear.png"),
    "PNG called .jpg": Case(picture(format="PNG"), "lies.jpg"),
    "JPEG called .mp4": Case(picture(format="JPEG", quality=95), "lies.mp4"),
    "AVIF": Case(picture(quality=95), "still.avif", made_here=_AVIF),
    "JPEG 2000": Case(picture(), "still.jp2"),
    "BMP": Case(picture(), "still.bmp"),
}
ANIMATIONS = {
    "animated WebP": Case(
        animation(5, duration=100, lossless=True), "moving.webp", frames=5, numbers=list(range(5)), fps=10
    ),
    "APNG": Case(animation(5, duration=100), "moving.png", frames=5, numbers=list(range(5)), fps=10),
    "APNG with a still": Case(hidden_still, "moving.apng", frames=4, numbers=list(range(4))),
    "animated AVIF": Case(animation(5, duration=100, quality=95), "moving.avif", frames=5, fps=10, made_here=_AVIF),
    "animated GIF": Case(animation(5, duration=100), "moving.gif", frames=5, numbers=list(range(5)), fps=10),
    "GIF of patches": Case(patches_gif, "patches.gif", frames=3),
    "pages of TIFF": Case(animation(3), "pages.tiff", frames=3, numbers=list(range(3))),
    "pages and a thumbnail": Case(pages_with_thumbnail, "pages.tif", frames=3, numbers=list(range(3))),
    "folder of all sorts": Case(folder_of_all_sorts, "frames", frames=3, numbers=[0, 1, 2]),
    "folder with an odd name": Case(folder("frame_1.png", "frame_².png"), "odd", frames=2),
    "folder called .mp4": Case(folder("a.jpg"), "folder.mp4", tolerance=16),
}
REFUSED = {
    "PostScript called .png": Case(bytes_of(POSTSCRIPT), "x.png", refused="is PostScript, which is not read here"),
    "PostScript called .mp4": Case(bytes_of(POSTSCRIPT), "x.mp4", refused="is PostScript, which is not read here"),
    "HEIC": Case(bytes_of(HEIC), "photo.heic", refused="is HEIC, which is not read here: give a PNG, JPEG or WebP"),
    "400 megapixels": Case(huge_png(20_000), "huge.png", refused="megapixels|too large"),
    "169 megapixels": Case(huge_png(13_000), "huge.png", refused="is 13000x13000: .* more than 100 megapixels"),
    "GIF of thousands of large frames": Case(empty_gif, "bomb.gif", refused="claims 3000 frames of 9000x9000"),
    "truncated PNG": Case(cut_off(picture(), 0.6), "half.png", refused="cannot read .*half.png"),
    "truncated JPEG": Case(cut_off(picture(), 0.5), "half.jpg", refused="cannot read .*half.jpg"),
    "nothing in it": Case(bytes_of(b""), "none.mp4", refused="cannot read"),
    "noise": Case(bytes_of(bytes(range(256)) * 20), "noise.mp4", refused="cannot read|no whole frame"),
    "text called .gif": Case(bytes_of(b"hello"), "text.gif", refused="cannot read"),
    "playlist": Case(bytes_of(PLAYLIST), "list.m3u8", refused="cannot read"),
    "playlist called .mp4": Case(bytes_of(PLAYLIST), "list.mp4", refused="cannot read"),
    "list of files": Case(bytes_of(b"ffconcat version 1.0\nfile /etc/passwd\n"), "list.mkv", refused="cannot read"),
    "sound only": Case(lambda p: _sound_only(p), "sound.mp4", refused="holds no video"),
    "empty folder": Case(folder(), "empty", refused="holds no images"),
    "folder without images": Case(folder("a.txt"), "texts", refused="holds no images"),
    "missing": Case(lambda p: None, "missing.mp4", refused="there is no file"),
}
if hasattr(os, "mkfifo"):
    REFUSED |= {
        "pipe": Case(os.mkfifo, "pipe.mp4", refused="is a pipe, not a file"),
        "pipe called .png": Case(os.mkfifo, "pipe.png", refused="is a pipe, not a file"),
        "socket": Case(socket_file, "s.mp4", refused="is a socket, not a file"),
        "device": Case(lambda p: p.symlink_to("/dev/zero"), "zero.mp4", refused="is a device, not a file"),
    }
CASES = VIDEOS | PICTURES | ANIMATIONS | REFUSED


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        container.mux(encoded_tone(container.add_stream("aac", rate=48000), 0.2))


def write_all(target: Path) -> None:
    """Every case in a folder of its own."""
    for name, case in CASES.items():
        place = target / name.replace(" ", "-").replace(",", "")
        place.mkdir(parents=True)
        case.make(place / case.name)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
