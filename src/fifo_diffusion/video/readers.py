"""Frames from files: videos, GIFs, folders of images, single images; as uint8 arrays (F, H, W, 3) in RGB.

Memory is that of the frames asked for, however long the file.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import VideoFileError
from .gif_blocks import frame_ends

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def iter_frames(path: str | PathLike) -> Iterator[np.ndarray]:
    """The frames of a video file, a GIF, a folder of images (in natural order) or one image, each uint8 (H, W, 3).

    A file that was cut off, by `kill -9` or a full disk, gives the frames that are whole. Raises `VideoFileError` if it
    is missing, cannot be read or holds no frame.
    """
    return (to_array() for to_array in _lazy_frames(Path(path)))


def read_frames(
    path: str | PathLike, *, first: int | None = None, last: int | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """All frames of `path`, or its first or last so many (fewer if it has fewer): uint8 (F, H, W, 3).

    `size` is (height, width): frames are cropped around the centre to its shape, then resized.
    """
    if first is not None and last is not None:
        raise ValueError("give first or last, not both")
    for name, count in (("first", first), ("last", last)):
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
    frames = _lazy_frames(Path(path))
    chosen = deque(frames, maxlen=last) if last is not None else islice(frames, first)
    return _stack((fit(to_array(), size) for to_array in chosen), str(path))


def as_frames(source: object, size: tuple[int, int] | None = None) -> np.ndarray:
    """Frames from whatever holds them: a path, a PIL image, an array (H, W, 3) or (F, H, W, 3), or a list of any such.

    Returns uint8 (F, H, W, 3), fitted to `size` (height, width) as `read_frames` does. Floats must lie in [0, 1].
    """
    if isinstance(source, str | PathLike):
        return read_frames(source, size=size)
    if isinstance(source, Image.Image) or (not isinstance(source, list | tuple) and np.ndim(source) in (2, 3)):
        source = [source]
    if not isinstance(source, Iterable):
        raise ValueError(f"frames must be a path, images or arrays, not {type(source).__name__}")
    parts = (as_frames(item) if isinstance(item, str | PathLike) else [as_frame(item)] for item in source)
    return _stack((fit(frame, size) for part in parts for frame in part), "the list of frames")


def as_frame(image: object) -> np.ndarray:
    """One frame, uint8 (H, W, 3), from a PIL image or an array (uint8, or float in [0, 1]; grey and alpha too)."""
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    frame = np.asarray(image)
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4) or 0 in frame.shape:
        raise ValueError(f"a frame must have the shape (height, width, 3), not {frame.shape}")
    frame = frame[..., :3]
    if frame.dtype.kind == "f":
        if not (frame.min() >= 0 and frame.max() <= 1):
            raise ValueError(f"frames of floats must lie in [0, 1], not [{frame.min():g}, {frame.max():g}]")
        frame = np.round(frame * 255).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise ValueError(f"a frame must be uint8, or float in [0, 1], not {frame.dtype}")
    return frame


def count_frames(path: str | PathLike) -> int:
    """How many frames `iter_frames(path)` gives, without decoding them."""
    path = Path(path)
    if path.is_dir():
        return len(images_in(path))
    if is_image(path):
        with opened_image(path):
            return 1
    count = _gif_length(path)
    if count is None:
        with opened_container(path) as container, _reading(path):
            count = sum(1 for packet in whole_packets(container) if packet.size)
    if not count:
        raise _empty(path)
    return count


def read_fps(path: str | PathLike) -> float | None:
    """Frames per second of a video file or GIF; None for images and folders of images."""
    path = Path(path)
    if path.is_dir() or is_image(path):
        return None
    with opened_container(path) as container:
        rate = container.streams.video[0].average_rate
        return float(rate) if rate else None


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order (2 before 10), at least one."""
    images = [path for path in folder.iterdir() if is_image(path) and not path.name.startswith(".")]
    if not images:
        raise VideoFileError(f"the folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])


def is_image(path: Path) -> bool:
    """Whether the name is that of a still image; a GIF counts as a video."""
    return path.suffix.lower() in IMAGE_SUFFIXES


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """A Pillow image, its errors as `VideoFileError`."""
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError:
        raise VideoFileError(f"{path} is not an image that can be read: give a PNG, JPEG or WebP") from None
    except (OSError, SyntaxError) as error:  # Pillow reports some broken PNGs as SyntaxError
        raise _unreadable(path, error) from error


@contextmanager
def opened_container(path: Path) -> Iterator[av.container.InputContainer]:
    """A PyAV container that has a video stream, its errors as `VideoFileError`."""
    with _reading(path):
        container = av.open(f"file:{path}")  # "file:" keeps FFmpeg from taking a colon in the name for a protocol
    with container:
        if not container.streams.video:
            raise VideoFileError(f"{path} holds no video: give a video, a GIF, an image or a folder of images")
        yield container


def whole_packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets before the first that was cut off, then the empty one that flushes a decoder."""
    for packet in container.demux(container.streams.video[0]):
        if packet.is_corrupt:
            yield av.Packet()
            return
        yield packet


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise _unreadable(path, error) from error


def _lazy_frames(path: Path) -> Iterator:
    """Frames as functions that convert them, so that whoever wants only the last few does not pay for all."""
    if path.is_dir():
        for image in images_in(path):
            yield lambda image=image: _read_image(image)
    elif is_image(path):
        yield lambda: _read_image(path)
    else:
        empty, to_rgb = True, _ToRgb()
        for picture in islice(_pictures(path), _gif_length(path)):
            empty = False
            yield lambda picture=picture: to_rgb(picture)
        if empty:
            raise _empty(path)


def _pictures(path: Path) -> Iterator[av.VideoFrame]:
    with opened_container(path) as container, _reading(path):
        for packet in whole_packets(container):
            yield from container.streams.video[0].decode(packet if packet.size else None)


def _gif_length(path: Path) -> int | None:
    """How many whole frames a GIF has, None for other files: FFmpeg also shows the torn frame at the end of a GIF."""
    if path.suffix.lower() != ".gif":
        return None
    with _reading(path), open(path, "rb") as file:
        return sum(1 for _ in frame_ends(file, path))


class _ToRgb:
    """Decoded pictures to upright uint8 (H, W, 3)."""

    def __init__(self) -> None:
        self._chroma, self._rgb = VideoReformatter(), VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        # FFmpeg's short cut from 4:2:0 to RGB makes every colour about one level darker, which would add up where one
        # video continues another. Over 4:4:4 it is exact.
        quarter_turns = picture.rotation // 90  # a phone's videos are stored as its sensor lies
        if picture.format.name.startswith("yuv"):
            picture = self._chroma.reformat(picture, format="yuv444p", interpolation="BICUBIC")
        frame = self._rgb.reformat(picture, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(frame, quarter_turns))


def _read_image(path: Path) -> np.ndarray:
    with opened_image(path) as image:
        return as_frame(image)


def fit(frame: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A frame cropped around the centre to the shape of `size` (height, width), then resized; None leaves it."""
    if size is None or frame.shape[:2] == tuple(size):
        return frame
    height, width = size
    return np.asarray(ImageOps.fit(Image.fromarray(frame), (width, height), method=Image.Resampling.BICUBIC))


def _stack(frames: Iterable[np.ndarray], name: str) -> np.ndarray:
    frames = list(frames)
    if not frames:
        raise VideoFileError(f"{name} holds no frames")
    shapes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
    if len(shapes) > 1:
        raise VideoFileError(
            f"{name} holds frames of different sizes ({', '.join(shapes[:3])}): say which size you want"
        )
    return np.stack(frames)


def _unreadable(path: Path, error: Exception) -> VideoFileError:
    if isinstance(error, FileNotFoundError):
        return VideoFileError(f"there is no file {path}")
    reason = getattr(error, "strerror", None) or error
    return VideoFileError(f"cannot read {path} ({reason}): give a video, a GIF, an image or a folder of images")


def _empty(path: Path) -> VideoFileError:
    return VideoFileError(f"{path} holds no whole frame")
