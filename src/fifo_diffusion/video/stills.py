"""Pictures that Pillow reads, also animated ones and those of several pages, as they are seen.

Orientation, palette, transparency, bit depth and colour profile are followed. What is transparent shows `BACKGROUND`.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.files import check_file, check_size, foreign_format, no_whole_frame, unreadable
from fifo_diffusion.video.timeline import FileFrame

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".j2k",
        ".ppm",
        ".pgm",
        ".tga",
        ".heic",
        ".heif",
        ".jxl",
    ]
)
"""Names that are taken for pictures. The last three are refused in words of their own."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")
"""All that Pillow is allowed to open: for others it would start programs (Ghostscript) or hardly tested code."""
BACKGROUND = 255
"""Level of what shows through transparent pixels: white, as on most pages."""

_ERRORS = (
    OSError,
    SyntaxError,  # Pillow reports some broken PNGs so
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # AVIF
    struct.error,
    zlib.error,
)
_ORIENTATION = 274  # EXIF's tag
_USUAL_MS = 100  # of a frame that says 0, as in browsers
_REDUCED, _MASK = 1, 4  # bits of a TIFF page's kind (tag 254): a thumbnail, a mask
_SRGB_GAMMA = 0.45455
_BLACK_POINT = 0x2000  # of LittleCMS: black stays black


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """A Pillow image of which only the header was read, its errors as `VideoFileError`."""
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here, and odd tags do not matter
            Image.init()
            image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise VideoFileError(f"{path} is too large to be read ({error}): make it smaller first") from None
    except UnidentifiedImageError:
        kind = foreign_format(path)
        is_kind = f"is {kind}, which is not read here" if kind else "is not an image that can be read"
        raise VideoFileError(f"{path} {is_kind}: give a PNG, JPEG or WebP") from None
    except _ERRORS as error:
        raise unreadable(path, error) from error
    with image:
        check_size(path, image.width, image.height)
        yield image


def pages(path: Path) -> Iterator[FileFrame]:
    """All frames of a picture file: one, unless it is animated or has several pages. A single one is decoded when it is
    converted, of several each when its turn comes.

    Raises:
        VideoFileError: it cannot be read, or is too large.
    """
    with opened_image(path) as image:
        with _decoding(path):
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: further views of one picture
            upright = _upright_size(image)
        if count == 1:
            yield FileFrame(upright, partial(_decoded, path))
            return
        check_size(path, image.width, image.height, count)
        first = int(bool(getattr(image, "default_image", False)))  # an APNG may have a still for those who know no APNG
        time, empty = 0.0, True
        for number in range(first, count):
            with _decoding(path):
                image.seek(number)
                check_size(path, image.width, image.height)
                if image.format == "TIFF" and number and image.tag_v2.get(254, 0) & (_REDUCED | _MASK):
                    continue
                image.load()
                frame, size = image.copy(), _upright_size(image)
            empty = False
            if image.format == "TIFF":  # pages, not an animation
                yield FileFrame(size, partial(_array_of, path, frame))
                continue
            seconds = (image.info.get("duration") or _USUAL_MS) / 1000
            yield FileFrame(size, partial(_array_of, path, frame), time, seconds)
            time += seconds
        if empty:
            raise no_whole_frame(path)


def to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image as it is seen: uint8 (H, W, 3).

    Raises:
        ValueError: numbers that say no brightness (32-bit integers, floats outside [0, 1]).
    """
    info = image.info
    if image.format == "TIFF":  # Pillow turns these itself, and some versions leave the word on it
        image.load()
    else:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bit(image)
    palette_alpha = image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"
    if image.mode in ("LA", "PA", "RGBa") or palette_alpha or (image.mode != "RGBA" and "transparency" in image.info):
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = _in_srgb(image.convert("RGB") if alpha is not None else image, info.get("icc_profile"))
    frame = np.asarray(colours)
    gamma = info.get("gamma")
    if gamma and "icc_profile" not in info and "srgb" not in info and abs(gamma - _SRGB_GAMMA) > 0.01:
        levels = np.round(255 * (np.arange(256) / 255) ** (_SRGB_GAMMA / gamma)).astype(np.uint8)
        frame = levels[frame]
    return frame if alpha is None else over_background(frame, np.asarray(alpha))


def over_background(frame_HWC: np.ndarray, alpha_HW: np.ndarray) -> np.ndarray:
    """uint8 colours with uint8 opacity before the `BACKGROUND`: uint8 (H, W, 3)."""
    alpha = alpha_HW[..., None].astype(np.uint16)
    return ((frame_HWC * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


def _array_of(path: Path, image: Image.Image) -> np.ndarray:
    with _decoding(path):
        return to_rgb(image)


def _decoded(path: Path) -> np.ndarray:
    with opened_image(path) as image:
        return _array_of(path, image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) after the orientation that the file says."""
    if image.format == "TIFF":  # as in `to_rgb`
        image.load()
        return image.size[::-1]
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return image.size if turned else image.size[::-1]


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, or floats in [0, 1]."""
    levels, clear = np.asarray(image), image.info.get("transparency")
    if image.mode == "F":
        if not (np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 1):
            raise ValueError("floats outside [0, 1]: save it with 8 or 16 bits")
        grey = np.round(levels * 255)
    else:
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("32-bit integers: save it with 8 or 16 bits")
        grey = np.round(levels / 257)
    grey = Image.fromarray(grey.astype(np.uint8))
    grey.info = {k: v for k, v in image.info.items() if k != "transparency"}
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """In sRGB, by the colour profile where there is one that fits."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if image.mode not in ("L", "RGB", "CMYK", "LAB"):
                image = image.convert("RGB")
            space = source.profile.xcolor_space.strip()
            if image.mode == "L" and space == "RGB":
                image = image.convert("RGB")
            elif image.mode == "RGB" and space == "GRAY":  # grey with alpha
                image = image.convert("L")
            converted = ImageCms.profileToProfile(
                image,
                source,
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=_BLACK_POINT,
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
            pass  # a profile that is damaged, or of another kind of picture: viewers ignore it too
    return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except VideoFileError:
        raise
    except Image.DecompressionBombError as error:
        raise VideoFileError(f"{path} is too large to be read ({error}): make it smaller first") from None
    except _ERRORS as error:
        raise unreadable(path, error) from error
