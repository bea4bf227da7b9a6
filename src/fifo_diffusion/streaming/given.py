"""Frames that a video starts from: which of them are taken, and what size the video has for their sake."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import log, sqrt
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.readers import Fit, as_frame, fit, iter_frames, read_frames, read_timeline
from fifo_diffusion.video.timeline import SAME

logger = logging.getLogger(__name__)

LONGEST = 2.4
"""The most that one side of a video is longer than the other for the sake of a picture: a cinema's screen."""
ALIKE = 0.06
"""Shapes that differ by less (in the logarithm of height to width) are taken for the same."""
_ORDINALS = {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth"}


@dataclass(frozen=True)
class Given:
    """Given frames. Those of a long file are read one by one when their turn comes.

    Attributes:
        source: a path, or frames, each uint8 (H, W, 3).
        count: how many.
        shape: (height, width) of the first as it is given.
        fps: the rate at which frames are taken from the file; None: every frame.
        how: how they are fitted to the size of the video.
    """

    source: str | list[np.ndarray]
    count: int
    shape: tuple[int, int]
    fps: float | None = None
    how: Fit = "crop"

    def last(self, count: int, size: tuple[int, int]) -> np.ndarray:
        """The last `count`, or all: uint8 (F, H, W, 3)."""
        if isinstance(self.source, str):
            return read_frames(self.source, last=count, size=size, fps=self.fps, how=self.how)
        return np.stack([fit(frame, size, self.how) for frame in self.source[-count:]])

    def frames_from(self, index: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3), from frame `index` to the last.

        Raises:
            VideoFileError: a file no longer holds that many.
        """
        frames = self.source if not isinstance(self.source, str) else iter_frames(self.source, fps=self.fps)
        for frame in islice(frames, index, self.count):
            yield fit(frame, size, self.how)
            index += 1
        if index < self.count:
            name = self.source if isinstance(self.source, str) else "the start"
            raise VideoFileError(
                f"{name} ends after {index} frames, and had {self.count} when the video was begun: put the whole file "
                "back, or start anew"
            )


def take_given(
    model: VideoModel, start: Any, *, start_every_frame: bool = False, start_fit: str = "crop"
) -> Given | None:
    """What the caller gave as frames to start from. None for other kinds of start.

    A file with times is taken at the model's rate, unless `start_every_frame` says otherwise.

    Raises:
        ValueError: frames that are none, or another `start_fit`.
        VideoFileError: a file that cannot be read.
    """
    if start_fit not in get_args(Fit):
        raise ArgumentError("start_fit", start_fit, "give 'crop' or 'pad'")
    if isinstance(start, str) and not start.strip():
        raise ArgumentError("start", start, "it is an empty text; give a path, 'clip' or 'noise', or leave it out")
    is_latents = isinstance(start, Tensor) and start.is_floating_point() and start.dim() in (4, 5)
    if is_latents or (isinstance(start, str) and start in ("clip", "noise")):
        if model.told_picture:
            value = "latents" if is_latents else start
            raise ArgumentError("start", value, "this model makes a video of a picture: give the picture here")
        return None
    if not isinstance(start, str | PathLike):
        frames = _frames_of(start)
        return _checked(model, Given(frames, len(frames), frames[0].shape[:2], how=start_fit), start)
    times, fps = read_timeline(start), model.defaults["fps"]
    if start_every_frame or times.rate is None:
        fps = None
    elif abs(times.rate / fps - 1) >= SAME or not times.even:
        logger.warning(Message(Setting("start"), ": ", _resampled(Path(start).name, times.rate, fps, times.even)))
    path = str(Path(start).absolute())
    return _checked(model, Given(path, len(times.taken(fps)), times.size, fps, start_fit), start)


def _checked(model: VideoModel, given: Given, start: Any) -> Given:
    if model.told_picture and given.count != 1:
        name = str(start) if isinstance(start, str | PathLike) else "frames"
        raise ArgumentError("start", name, f"this model begins with one picture, and these are {given.count}: give one")
    return given


def size_for(
    model: VideoModel, given: Given | None, height: int | None = None, width: int | None = None
) -> tuple[int | None, int | None]:
    """Height and width of the video where they are not given: in the shape of the given frames, with about as many
    pixels as the model usually has, where the model makes other shapes than its own."""
    if given is None:
        return height, width
    if model.other_shapes and (height is None or width is None):
        size = _in_shape(model, given.shape, height, width)
        usual = (model.defaults["height"], model.defaults["width"])
        if size != usual and height is None and width is None:
            now = f": the video is {_shape(size)}, in the shape of what is given ({_shape(given.shape)}), not "
            logger.warning(Message(Setting("start"), now, f"{_shape(usual)} as usual with this model"))
    else:
        size = (height or model.defaults["height"], width or model.defaults["width"])
    off = abs(log(given.shape[0] * size[1] / (given.shape[1] * size[0])))
    if off > ALIKE and given.how == "crop":
        what = f": what is given ({_shape(given.shape)}) is cropped around the centre to the shape of the video "
        pad = Setting("start_fit", "pad")
        logger.warning(Message(Setting("start"), what, f"({_shape(size)}); ", pad, " keeps all of it, with black bars"))
    return size


def _shape(size: tuple[int, ...]) -> str:
    """(height, width) as people say it."""
    return f"{size[1]}x{size[0]}"


def _in_shape(model: VideoModel, shape: tuple[int, int], height: int | None, width: int | None) -> tuple[int, int]:
    usual = (model.defaults["height"], model.defaults["width"])
    aspect = min(max(shape[0] / shape[1], 1 / LONGEST), LONGEST)
    pixels = usual[0] * usual[1]
    if height is not None:
        wanted = (height, height / aspect)
    elif width is not None:
        wanted = (width * aspect, width)
    else:
        wanted = (sqrt(pixels * aspect), sqrt(pixels / aspect))
        for known in (usual, usual[::-1]):
            if abs(log(aspect * known[1] / known[0])) < ALIKE and _takes(model, *known):
                return known
    for multiple in (8, 16, 32, 64, 128):
        near = [max(multiple, round(side / multiple) * multiple) for side in wanted]
        size = (height or near[0], width or near[1])
        if _takes(model, *size):
            return size
    return height or usual[0], width or usual[1]


def _takes(model: VideoModel, height: int, width: int) -> bool:
    try:
        model.latent_shape(height, width)
    except ValueError:
        return False
    return True


def _frames_of(start: Any) -> list[np.ndarray]:
    if isinstance(start, Image.Image) or (not isinstance(start, list | tuple) and np.ndim(start) in (2, 3)):
        start = [start]
    if not isinstance(start, Iterable):
        raise ValueError(f"frames must be a path, images or arrays, not {type(start).__name__}")
    frames: list[np.ndarray] = []
    for item in start:
        frames.extend(iter_frames(item) if isinstance(item, str | PathLike) else [as_frame(item)])
    if not frames:
        raise ValueError("the list of frames to start from is empty")
    return frames


def _resampled(name: str, rate: float, fps: float, even: bool) -> str:
    told = f"{name} has {rate:.3g} frames/s{'' if even else ' on average, unevenly'}, the model {fps:.3g}"
    ratio = rate / fps
    if even and ratio > 1 and abs(ratio / round(ratio) - 1) < 10 * SAME:
        nth = _ORDINALS.get(round(ratio), f"{round(ratio)}th")
        return f"{told}: every {nth} frame is taken (all of them: start_every_frame)"
    if not even:
        return f"{told}: frames are taken as a player shows them, at that rate (each once: start_every_frame)"
    if ratio > 1:
        return f"{told}: frames are left out, so that it keeps its speed (all of them: start_every_frame)"
    return f"{told}: frames are shown several times, so that it keeps its speed (each once: start_every_frame)"
