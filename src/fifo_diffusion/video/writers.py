"""Writing frames to files as they are made, at constant memory.

The suffix chooses the format: .mp4 (H.264), .webm (VP9), .gif, a folder of numbered PNGs (a name that ends in "/" or
has no suffix), or "-" for raw video (y4m) on standard output.
"""

import errno
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import finalize

import av
import numpy as np
from PIL import Image

from fifo_diffusion.video.background import BackgroundSink
from fifo_diffusion.video.containers import MP4, WEBM, ContainerSink
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.gif import GifSink
from fifo_diffusion.video.output_file import MovedError
from fifo_diffusion.video.png_folder import PngFolderSink
from fifo_diffusion.video.readers import as_frame
from fifo_diffusion.video.sink import ScaledSink, Sink
from fifo_diffusion.video.values import as_rate, whole
from fifo_diffusion.video.y4m import Y4mSink

STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
CONTAINERS = {".mp4": MP4, ".webm": WEBM}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DEFAULT_FPS = 8
MOST_SIDE = 65535
"""Pixels of a side, in all formats but mp4."""


class FrameWriter:
    """An open output: `write` frames, then `close` it, or use it in a `with` block, which closes it in any case.

    Made by `open_writer`. A file of which no frame was written is not left behind. A writer that is dropped is closed.
    It belongs to the process that opened it: a forked child is refused.
    """

    def __init__(self, path: str, sink: Sink, *, scale: int, frames: int, most_side: int = MOST_SIDE) -> None:
        self.path = path
        """The output as it was named."""
        self.frames = frames
        """Frames in the output, those that it was continued from included."""
        self._sink, self._scale, self._kept = sink, scale, frames
        self._size, self._most_side = sink.size, most_side
        self._state = "open"
        self._process = os.getpid()
        self._dropped = finalize(self, _close_dropped, path, sink, self._process)

    @property
    def frames_safe(self) -> int:
        """Frames that would be in the output if the process were killed now: all, or all but the last few."""
        if self._state != "open":
            return self.frames
        return max(self._kept, self.frames - self._sink.lag)

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 (height, width, 3) in RGB, of the same size as those before.

        Raises `ValueError` for a frame that is none, and `VideoFileError` when the output cannot take it (disk full);
        then the file is closed and holds `frames` frames. In the background, a later call says so.
        """
        if self._state != "open":
            raise VideoFileError(f"{self.path} is {self._state}: no frame can be added; open it with continue_from")
        if os.getpid() != self._process:
            raise VideoFileError(
                f"{self.path} is written by process {self._process}, which this one was forked from: "
                "open another output here"
            )
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            what = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(f"a frame must be a uint8 array (height, width, 3), not {what}")
        height, width = (side * self._scale for side in frame.shape[:2])
        if self._size is None and height and width:
            self._size = (height, width)
        if max(height, width) > self._most_side:
            raise ValueError(
                f"{self.path} would be {width}x{height}, and such a file holds at most {self._most_side} pixels a "
                "side: make it smaller, or write a folder of PNGs (a name that ends in /)"
            )
        if (height, width) != self._size:
            before = "{1}x{0}".format(*self._size) if self._size else "must have pixels"
            raise ValueError(f"this frame is {width}x{height} but those before, in {self.path}, {before}")
        try:
            self._sink.write(frame)
        except Exception as error:
            raise self._give_up(error) from error
        self.frames += 1

    def close(self) -> None:
        """Complete the file. Closing twice does nothing.

        Raises `VideoFileError` when that fails (disk full); then the file holds `frames` frames.
        """
        if self._state != "open":
            return
        if os.getpid() == self._process:
            try:
                self._sink.close()
            except Exception as error:
                raise self._give_up(error) from error
        self._state = "closed"
        self._dropped.detach()

    def discard(self) -> None:
        """Before the first frame: leave the output as it was found, also one that was to be continued."""
        if self._state == "open":
            self._state = "closed"
            self._dropped.detach()
            self._sink.discard()

    def __enter__(self) -> "FrameWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            with suppress(VideoFileError):  # the first error is the one to tell
                self.close()

    def _give_up(self, error: Exception) -> VideoFileError:
        """Keep what plays, and say what happened."""
        self._state = "broken"
        self._dropped.detach()
        self.frames = self._sink.abandon()
        code = getattr(error, "errno", None)
        if code == errno.EPIPE:
            return VideoFileError(f"the program that reads the frames has ended, after {self.frames} frames")
        kept = f"its first {self.frames} frames are safe and play" if self.frames else "no frame was kept"
        if isinstance(error, VideoFileError):
            return VideoFileError(f"{error}: {kept}" if isinstance(error, MovedError) else str(error))
        reason = "disk full" if code in NO_ROOM else f"error ({_reason(error)})"
        advice = "free some space" if code in NO_ROOM else "choose another place"
        return VideoFileError(f"{reason} while writing {self.path}: {kept}; {advice}, then continue or start again")


def _reason(error: Exception) -> str:
    told = getattr(error, "strerror", None) or " ".join(str(error).split())
    if isinstance(error, OSError | av.FFmpegError) and told:
        return told
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _close_dropped(path: str, sink: Sink, process: int) -> None:
    """Of a writer that nobody closed: the file is completed, and nothing stays open."""
    if os.getpid() != process:
        return
    warnings.warn(f"the writer of {path} was dropped without close()", ResourceWarning, stacklevel=2)
    try:
        sink.close()
    except Exception:
        sink.abandon()


def open_writer(
    path: str | PathLike,
    *,
    fps: float,
    metadata: dict[str, str] | None = None,
    overwrite: bool = False,
    continue_from: int | None = None,
    scale: int = 1,
    crf: int | None = None,
    background: bool = False,
) -> FrameWriter:
    """Open an output for frames; that it can be written is found out here, not at the first frame.

    Args:
        path: where to; the suffix chooses the format (see the module's first lines).
        fps: frames per second at which it plays.
        metadata: strings to keep in the file, for `read_metadata`; "-" has no room for them.
        overwrite: replace an existing output. It is kept until a whole new frame is in the file. What frames are still
            read from (the start of a running stream, an `iter_frames`) is never replaced.
        continue_from: cut the existing output to this many frames and append; its metadata stay. 0 starts it anew.
        scale: enlarge frames by this whole number, each pixel to a square.
        crf: quality of mp4 (0 to 51) and webm (0 to 63), lower is better; the default is good, for small frames better.
        background: encode and write in a thread, while the next frame is computed. Up to 16 frames, or 256 MB of them,
            wait for it.

    Raises:
        ValueError: an argument that makes no sense.
        VideoFileError: the output exists, cannot be written, is what a running stream is made from, or has fewer
            frames than `continue_from`.
    """
    if not isinstance(path, str | bytes | PathLike):
        raise ValueError(f"the output must be a path, not {type(path).__name__}: write_video(path, frames)")
    name = os.fsdecode(path)
    if not name.strip():
        raise ValueError("the output's name is empty: for example ball.mp4")
    rate, suffix = as_rate(fps), "" if name.endswith("/") else Path(name).suffix.lower()
    scale = whole("scale", scale, 1)
    kept = 0 if continue_from is None else whole("continue_from", continue_from, 0)
    if crf is not None:
        crf = whole("crf", crf, 0)
        if suffix not in CONTAINERS:
            raise ValueError(f"crf goes with {' and '.join(CONTAINERS)}: leave it out")
    overwrite = overwrite or continue_from is not None
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError(f"metadata must be a dict of strings, not {type(metadata).__name__}")
    metadata = metadata or {}

    most_side = CONTAINERS[suffix].most_side if suffix in CONTAINERS else MOST_SIDE
    if name in STANDARD_OUTPUT:
        if kept:
            raise ValueError('"-" cannot be continued, it is a pipe: write to a file')
        sink: Sink = Y4mSink(rate=rate)
    elif kept and not os.path.exists(name):
        raise VideoFileError(f"there is no {name} to continue from frame {kept}: start again")
    elif not suffix:
        sink = PngFolderSink(name, metadata=metadata, overwrite=overwrite, continue_from=kept)
    elif suffix == ".gif":
        sink = GifSink(name, rate=rate, metadata=metadata, overwrite=overwrite, continue_from=kept)
    elif suffix in CONTAINERS:
        sink = ContainerSink(
            name,
            CONTAINERS[suffix],
            rate=rate,
            crf=crf,
            metadata=metadata,
            overwrite=overwrite,
            continue_from=kept,
        )
    else:
        raise ValueError(
            f'cannot write "{name}": its name must end in .mp4, .webm or .gif; for a folder of PNGs type "{name}/", '
            "for raw video (y4m) on standard output -"
        )
    if scale > 1:
        sink = ScaledSink(sink, scale)
    if background:
        sink = BackgroundSink(sink)
    return FrameWriter(name, sink, scale=scale, frames=kept, most_side=most_side)


def check_output(path: str | PathLike, **options: Any) -> None:
    """Find out whether `open_writer` could open an output, and leave everything as it is.

    Args:
        **options: of `open_writer`.

    Raises:
        ValueError, VideoFileError: as `open_writer`.
    """
    open_writer(path, **options).discard()


def write_video(
    path: str | PathLike,
    frames: Iterable,
    fps: float | None = None,
    *,
    metadata: dict[str, str] | None = None,
    overwrite: bool = True,
    scale: int = 1,
    crf: int | None = None,
    background: bool = True,
) -> int:
    """Write frames (uint8 arrays, float arrays in [0, 1] or PIL images) to a file as they come, at constant memory.

    ```python
    write_video("corgi.mp4", fifo.stream("a corgi surfing", num_frames=10_000), fps=8)
    ```

    Without `fps` it is `frames.fps` where there is one, else 8; without `metadata` it is `frames.metadata`, which says
    how a `FrameStream` makes its frames. An existing file is replaced once a whole new frame is written, not before; a
    file that the frames are made from never is. If the frames end in an error or Ctrl-C, the file holds those before
    and plays, and the error goes on.
    A thread encodes each frame while the next is made, unless `background` is False. The other arguments are those of
    `open_writer`.

    Returns:
        The number of frames written.
    """
    frames = _one_by_one(frames)
    if fps is None:
        fps = getattr(frames, "fps", None) or DEFAULT_FPS
    if metadata is None:
        metadata = getattr(frames, "metadata", None)
    options = {"metadata": metadata, "overwrite": overwrite, "scale": scale, "crf": crf, "background": background}
    with open_writer(path, fps=fps, **options) as writer:
        for frame in frames:
            writer.write(as_frame(frame))
    if not writer.frames:
        raise ValueError(f"there was no frame to write, so {writer.path} was not written")
    return writer.frames


def _one_by_one(frames: object) -> Iterable:
    """What `write_video` was given, where these are frames. Rows of one picture would pass for narrow grey frames."""
    if isinstance(frames, str | PathLike):
        raise ValueError(f"frames are pictures, not a file's name ({frames}): give iter_frames of it")
    if isinstance(frames, Image.Image) or (hasattr(frames, "shape") and len(frames.shape) in (2, 3)):
        raise ValueError("frames is a single picture: give a list, write_video(path, [frame])")
    if not isinstance(frames, Iterable):
        raise ValueError(f"frames must be pictures one after another, not {type(frames).__name__}")
    return frames
