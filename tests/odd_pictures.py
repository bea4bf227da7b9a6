"""Odd pictures and animations: orientation, transparency, depths, profiles, and pages that are none."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from odd_patterns import BLUE, CLEAR, GREEN, GREY, RED, USUAL, WHITE, YELLOW, Case, pattern


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


_AVIF = ".avif" in Image.registered_extensions()
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
