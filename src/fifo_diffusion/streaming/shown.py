"""A stream in a notebook: what it shows of itself, and its frames while they are made."""

import base64
import io
import time
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.streaming.rate import Rate
from fifo_diffusion.text import real_time, shortened

LEAST_SIDE = 256
"""Smaller pictures are shown enlarged so that their longer side has as many pixels, without smoothing."""
LARGE = 128 * 128
"""Pixels above which a picture is sent as a JPEG: a PNG would be many times as large."""


class Frames(list[np.ndarray]):
    """Frames that were made, a list that a notebook shows as one line.

    Args:
        frames: of a stream.

    Attributes:
        fps, metadata: of the stream, for `write_video`.
    """

    def __init__(self, frames: "_Watched") -> None:
        super().__init__(frames)
        self.fps, self.metadata = frames.fps, frames.metadata

    def __repr__(self) -> str:
        if not self:
            return "<no frames>"
        height, width = self[0].shape[-3:-1]
        return f'<{len(self)} frames of {width}x{height}: write_video("video.mp4", frames) makes a file of them>'


class ShownVideo:
    """How a `FrameStream` is shown in a notebook."""

    settings: Any
    fps: float
    metadata: dict[str, str]
    frame_index: int
    prompt: Any
    _num_frames: int | None
    _newest: np.ndarray | None = None

    def __next__(self) -> np.ndarray:
        raise NotImplementedError

    def preview(self) -> np.ndarray | None:
        raise NotImplementedError

    # ------------------------------------------------------------------ as the value of a cell

    def __repr__(self) -> str:
        size = f"{self.settings.width}x{self.settings.height}"
        return f"<{type(self).__name__}: {_count(self)} of {size}, {shortened(_said(self.prompt))!r}>"

    def _repr_html_(self) -> str | None:
        if self._newest is None:
            return None
        return _html(side_by_side(self._newest), f"{_count(self)}: {shortened(_said(self.prompt))}")

    def _repr_png_(self) -> bytes | None:
        return None if self._newest is None else _encoded(side_by_side(self._newest), "PNG")

    # ------------------------------------------------------------------ while it is made

    def watch(self, num_frames: int | None = None, *, every: float = 0.2, queue: bool = False) -> Iterator[np.ndarray]:
        """Further frames of this stream, shown in a notebook while they are made: the newest one, how many there are
        and how fast they come, in one place of the cell's output.

        The notebook's interrupt button ends them in order, without an exception: what takes them has all that were
        made, and the stream goes on from there when it is asked for more. `write_video("ball.mp4", stream.watch(400))`
        writes a file at constant memory.

        Args:
            num_frames: so many more at most; None: up to the stream's own `num_frames`, or without end.
            every: seconds between two pictures, at least.
            queue: below it what the model makes of the frames in the queue, so that a new prompt is seen coming.

        Raises:
            RuntimeError: there is no IPython, or none runs.
            ValueError: a number that does not fit.
        """
        if num_frames is not None and (isinstance(num_frames, bool) or not 0 <= num_frames == int(num_frames)):
            raise ArgumentError("num_frames", num_frames, "give a whole number of frames, 0 or more")
        if not every >= 0:
            raise ArgumentError("every", every, "give seconds, 0 or more")
        return _Watched(self, num_frames, _place(), every, queue)

    def show(self, num_frames: int | None = None, *, every: float = 0.2, queue: bool = False) -> Frames:
        """Make frames and show them as `watch` does; all that were made until the end, or until the interrupt button,
        as a list. It holds them all: of a long video, write a file with `watch`.

        Args:
            num_frames, every, queue: as in `watch`.

        Raises:
            RuntimeError, ValueError: as `watch`.
        """
        return Frames(self.watch(num_frames, every=every, queue=queue))


class _Watched(Iterator[np.ndarray]):
    def __init__(self, stream: ShownVideo, num_frames: int | None, place: Any, every: float, queue: bool) -> None:
        self.fps, self.metadata = stream.fps, stream.metadata  # which `write_video` looks for
        self._stream, self._place, self._every, self._queue = stream, place, every, queue
        self._last = None if num_frames is None else stream.frame_index + int(num_frames)
        self._rate, self._speed, self._put_at = Rate(), 0.0, -1e9
        self._over = self._stopped = False
        if queue:
            stream.preview()  # it takes notes from its first call on
        self._put("the next frame is being made")
        self._put_at = -1e9  # which is shown at once

    def __next__(self) -> np.ndarray:
        stream = self._stream
        if self._over or (self._last is not None and stream.frame_index >= self._last):
            self._end()
            raise StopIteration
        before, frame = stream.frame_index, None
        try:
            frame = next(stream)
            self._came()
        except StopIteration:
            self._end()
            raise
        except KeyboardInterrupt:
            self._over = self._stopped = True
            if stream.frame_index == before:
                self._end()
                raise StopIteration from None
            # It was handed out before the interrupt came, and belongs to whoever asked for it.
            frame = stream._newest
        assert frame is not None
        return frame

    def _came(self) -> None:
        self._speed = self._rate.came()
        if time.monotonic() - self._put_at >= self._every:
            self._put()

    def _end(self) -> None:
        """The last picture."""
        if self._put_at != float("inf"):
            self._put("stopped: the stream goes on when it is asked for more" if self._stopped else "")
            self._over, self._put_at = True, float("inf")

    def _put(self, more: str = "") -> None:
        stream = self._stream
        speed = f"{self._speed:.2f} frames/s, {real_time(self._speed, stream.fps)}" if self._speed else ""
        told = ", ".join(filter(None, (_count(stream), speed, more)))
        strip = stream.preview() if self._queue else None
        if strip is not None:
            strip = np.concatenate([np.concatenate(list(s), 1) for s in (strip if strip.ndim == 5 else strip[None])])
        picture = None if stream._newest is None else side_by_side(stream._newest)
        self._place.put(_html(picture, told, strip), told)
        self._put_at = time.monotonic()


class _Place:
    """One place in the output of a cell, which is written anew."""

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None

    def put(self, html: str, text: str) -> None:
        data = {"text/html": html, "text/plain": text}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _place() -> _Place:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        raise RuntimeError(
            "frames are shown by IPython, in a notebook, and it is not installed: pip install ipython, or iterate over "
            "the stream itself"
        ) from None
    if get_ipython() is None:
        raise RuntimeError("frames are shown in a notebook, and none runs here: iterate over the stream itself")
    return _Place(display)


def side_by_side(frame: np.ndarray) -> np.ndarray:
    """A frame of a batch, (videos, height, width, 3), as one picture; any other as it is."""
    return np.concatenate(list(frame), 1) if frame.ndim == 4 else frame


def _count(stream: ShownVideo) -> str:
    of = "" if stream._num_frames is None else f" of {stream._num_frames}"
    return f"{stream.frame_index}{of} frames"


def _said(prompt: Any) -> str:
    texts = prompt if isinstance(prompt, list) else [prompt]
    return "; ".join(text if isinstance(text, str) else "<embeddings>" for text in texts)


def _html(picture: np.ndarray | None, told: str, strip: np.ndarray | None = None) -> str:
    shown = [_image(each) for each in (picture, strip) if each is not None]
    return "".join((*shown, f'<div style="font-family:monospace">{escape(told)}</div>'))


def _image(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    kind = "JPEG" if height * width > LARGE else "PNG"
    times = max(1, LEAST_SIDE // max(height, width))
    data = base64.b64encode(_encoded(picture, kind)).decode()
    style = (
        f"display:block;width:{times * width}px;max-width:100%;image-rendering:{'pixelated' if times > 1 else 'auto'}"
    )
    return f'<img src="data:image/{kind.lower()};base64,{data}" style="{style}">'


def _encoded(picture: np.ndarray, kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return data.getvalue()
