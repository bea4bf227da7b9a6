"""Frames from files: videos, GIFs, folders of images, single and animated images; as uint8 arrays (F, H, W, 3) in RGB.

A file is read as it is seen: turned, mirrored, with square pixels, over white where it is transparent, in the colours
of an ordinary screen, and with the frames that a player shows. Memory is that of the frames asked for, however long the
file is.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from fifo_diffusion.video.colours import ToRgb
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.files import check_file, looks_like_image, unreadable
from fifo_diffusion.video.in_use import begin_reading
from fifo_diffusion.video.moving import main_video, opened_container, pictures
from fifo_diffusion.video.stills import IMAGE_SUFFIXES, over_background, pages, to_rgb
from fifo_diffusion.video.timeline import FileFrame, Timeline, timeline
from fifo_diffusion.video.values import as_rate, as_size, whole

Fit = Literal["crop", "pad"]


def iter_frames(path: str | PathLike, *, fps: float | None = None) -> Iterator[np.ndarray]:
    """The frames of a video file, a GIF, a folder of images (in natural order), or an image, each uint8 (H, W, 3).

    Animated images and those of several pages give all their frames. A file that was cut off, by `kill -9` or a full
    disk, gives the frames that are whole.

    Args:
        path: what to read.
        fps: take the frames that a player shows at this many per second, some of them never, some several times. None:
            every frame. Without effect on images that do not move, and folders of them.

    Raises:
        VideoFileError: it is missing, is no ordinary file, cannot be read or holds no frame.
    """
    frames = (to_array() for to_array in _taken(Path(path), fps))
    begin_reading(frames, path)
    return frames


def read_frames(
    path: str | PathLike,
    *,
    first: int | None = None,
    last: int | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    how: Fit = "crop",
) -> np.ndarray:
    """All frames of `path`, or its first or last ones (fewer if it has fewer): uint8 (F, H, W, 3).

    `size` is (height, width): frames are fitted to it by `fit`. `fps` is as in `iter_frames`.
    """
    if first is not None and last is not None:
        raise ValueError("give first or last, not both")
    first = None if first is None else whole("first", first, 1)
    last = None if last is None else whole("last", last, 1)
    frames = _taken(Path(path), fps)
    chosen = deque(frames, maxlen=last) if last is not None else islice(frames, first)
    return _stack((fit(to_array(), size, how) for to_array in chosen), str(path))


def as_frames(source: object, size: tuple[int, int] | None = None, how: Fit = "crop") -> np.ndarray:
    """Frames from whatever holds them: a path, a PIL image, an array (H, W, 3) or (F, H, W, 3), or a list of any such.

    Returns uint8 (F, H, W, 3), fitted to `size` (height, width) by `fit`. Floats must lie in [0, 1].
    """
    if isinstance(source, str | PathLike):
        return read_frames(source, size=size, how=how)
    if isinstance(source, Image.Image) or (not isinstance(source, list | tuple) and np.ndim(source) in (2, 3)):
        source = [source]
    if not isinstance(source, Iterable):
        raise ValueError(f"frames must be a path, images or arrays, not {type(source).__name__}")
    parts = (as_frames(item) if isinstance(item, str | PathLike) else [as_frame(item)] for item in source)
    return _stack((fit(frame, size, how) for part in parts for frame in part), "the list of frames")


def as_frame(image: object) -> np.ndarray:
    """One frame, uint8 (H, W, 3), from a PIL image or an array (uint8, or float in [0, 1]; grey and alpha too).

    What is transparent shows white.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    frame = np.asarray(image)
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] not in (3, 4) or 0 in frame.shape:
        raise ValueError(f"a frame must have the shape (height, width, 3), not {frame.shape}")
    if frame.dtype.kind == "f":
        if not (frame.min() >= 0 and frame.max() <= 1):
            raise ValueError(f"frames of floats must lie in [0, 1], not [{frame.min():g}, {frame.max():g}]")
        frame = np.round(frame * 255).astype(np.uint8)
    if frame.dtype != np.uint8:
        raise ValueError(f"a frame must be uint8, or float in [0, 1], not {frame.dtype}")
    return frame if frame.shape[2] == 3 else over_background(frame[..., :3], frame[..., 3])


def count_frames(path: str | PathLike, *, fps: float | None = None) -> int:
    """How many frames `iter_frames(path, fps=fps)` gives. Videos are decoded for that: headers count what is hidden."""
    return len(read_timeline(path).taken(fps))


def read_timeline(path: str | PathLike) -> Timeline:
    """The size of the frames of `path`, and when each is shown. Arguments and errors as `iter_frames`."""
    path, size, last = Path(path), None, None
    times: list[float | None] = []
    for frame in _frames_of(path):
        size, last = size or frame.size, frame.seconds
        times.append(frame.time)
    assert size is not None
    if len(times) == 1 and not os.path.isdir(path):
        frame.to_array()  # a picture that is damaged is better found now
    return timeline(size, times, last)


def read_fps(path: str | PathLike) -> float | None:
    """Frames per second of a video, GIF or animated image; None for images that do not move, and folders of them."""
    path = Path(path)
    if os.path.isdir(path) or _is_picture(path):
        return None if os.path.isdir(path) else read_timeline(path).rate
    with opened_container(path) as container:
        rate = main_video(container).average_rate
        return float(rate) if rate else None


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order (2 before 10), at least one. Hidden files and others are left out."""
    try:
        images = [p for p in folder.iterdir() if is_image(p) and not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise unreadable(folder, error) from error
    if not images:
        raise VideoFileError(f"the folder {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=_natural)


def _natural(path: Path) -> list[str | int]:
    """Text and numbers in turns. Only plain digits are numbers: "²" is a digit too, in Python's sense."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"([0-9]+)", path.name))]


def is_image(path: Path) -> bool:
    """Whether the name is that of an image; a GIF counts as a video."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def fit(frame: np.ndarray, size: tuple[int, int] | None, how: Fit = "crop") -> np.ndarray:
    """A frame brought to `size` (height, width); None leaves it.

    Args:
        frame: uint8 (H, W, 3).
        size: (height, width).
        how: "crop" cuts off around the centre what does not have the shape, "pad" keeps all and adds black bars.
    """
    if how not in get_args(Fit):
        raise ValueError(f'how={how!r} is not known: use "crop" or "pad"')
    if size is None:
        return frame
    height, width = as_size(size)
    if frame.shape[:2] == (height, width):
        return frame
    fitted = ImageOps.fit if how == "crop" else ImageOps.pad
    return np.asarray(fitted(Image.fromarray(frame), (width, height), method=Image.Resampling.BICUBIC))


def _taken(path: Path, fps: float | None) -> Iterator[Callable[[], np.ndarray]]:
    """Frames as functions that convert them, so that whoever wants only the last few does not pay for all."""
    if fps is None:
        yield from (frame.to_array for frame in _frames_of(path))
        return
    as_rate(fps)  # before a file that may be long is decoded
    numbers = iter(read_timeline(path).taken(fps))
    wanted = next(numbers, None)
    for number, frame in enumerate(_frames_of(path)):
        while wanted == number:
            yield frame.to_array
            wanted = next(numbers, None)


def _frames_of(path: Path) -> Iterator[FileFrame]:
    if os.path.isdir(path):
        for image in images_in(path):
            yield from (replace(frame, time=None, seconds=None) for frame in pages(image))
    elif _is_picture(path):
        yield from pages(path)
    else:
        to_rgb = ToRgb(path)
        for shown in pictures(path):
            time = None if shown.time is None else float(shown.time)
            yield FileFrame(shown.size, partial(to_rgb, shown), time, shown.seconds)


def _is_picture(path: Path) -> bool:
    """Whether Pillow reads it: by its content, since names lie."""
    check_file(path)
    return is_image(path) or looks_like_image(path)


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
