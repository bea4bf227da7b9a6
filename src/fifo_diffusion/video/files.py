"""Which files are opened at all, before anything of them is decoded."""

import os
import stat
from pathlib import Path

from fifo_diffusion.video.errors import VideoFileError

MOST_PIXELS = 100_000_000
"""Of one picture. A small damaged or malicious file may claim any size, and decoding would fill the memory."""
MOST_PIXELS_IN_ALL = 20_000_000_000
"""Of all frames of an animated picture together: its frames take a few bytes each where nothing changes."""

_HEADS = (
    (b"\x89PNG\r\n\x1a\n", 0),
    (b"\xff\xd8\xff", 0),
    (b"WEBP", 8),
    (b"BM", 0),
    (b"II*\0", 0),
    (b"MM\0*", 0),
    (b"ftypavif", 4),
    (b"ftypavis", 4),
    (b"\0\0\0\x0cjP  ", 0),
    (b"\xff\x4f\xff\x51", 0),
)
_FOREIGN = (
    (b"ftypheic", 4, "HEIC"),
    (b"ftypheix", 4, "HEIC"),
    (b"ftyphevc", 4, "HEIC"),
    (b"ftypmif1", 4, "HEIC"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"%!PS", 0, "PostScript"),
    (b"%PDF", 0, "PDF"),
    (b"<svg", 0, "SVG"),
    (b"8BPS", 0, "Photoshop"),
)


def check_file(path: Path) -> None:
    """Refuse what is no ordinary file: from a pipe or a device one could read for ever.

    Raises:
        VideoFileError: it is none, or is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        kind = next((name for is_kind, name in kinds if is_kind(mode)), "a device")
        raise VideoFileError(f"{path} is {kind}, not a file: give a video, a GIF, an image or a folder of images")


def check_size(path: object, width: int, height: int, frames: int = 1) -> None:
    """Refuse pictures that are too large to be decoded.

    Raises:
        VideoFileError: more than `MOST_PIXELS` in one, or `MOST_PIXELS_IN_ALL`.
    """
    if width * height > MOST_PIXELS:
        raise VideoFileError(
            f"{path} is {width}x{height}: pictures of more than {MOST_PIXELS // 10**6} megapixels are not read; make "
            "it smaller first"
        )
    if width * height * frames > MOST_PIXELS_IN_ALL:
        raise VideoFileError(
            f"{path} claims {frames} frames of {width}x{height}: animated pictures of more than "
            f"{MOST_PIXELS_IN_ALL // 10**9} gigapixels in all are not read; make it smaller or shorter first"
        )


def looks_like_image(path: Path) -> bool:
    """Whether a file begins as a PNG, JPEG, WebP, BMP, TIFF, AVIF or JPEG 2000, whatever its name."""
    head = _head(path)
    return any(head[at : at + len(mark)] == mark for mark, at in _HEADS)


def foreign_format(path: Path) -> str | None:
    """The name of a format that people may well give and that is not read here."""
    head = _head(path)
    return next((name for mark, at, name in _FOREIGN if head[at : at + len(mark)] == mark), None)


def unreadable(path: object, error: Exception) -> VideoFileError:
    """What went wrong while a file was read, in one line."""
    if isinstance(error, FileNotFoundError):
        return VideoFileError(f"there is no file {path}")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = " ".join(str(reason).split())
    return VideoFileError(f"cannot read {path} ({reason}): give a video, a GIF, an image or a folder of images")


def no_whole_frame(path: object) -> VideoFileError:
    """The error for a file without any frame."""
    return VideoFileError(f"{path} holds no whole frame")


def _head(path: Path) -> bytes:
    try:
        check_file(path)
        with open(path, "rb") as file:
            return file.read(32)
    except OSError as error:
        raise unreadable(path, error) from error
