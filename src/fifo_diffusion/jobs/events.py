"""What a run says of itself while it makes a video: plain values for a terminal, a page, a log."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fifo_diffusion.errors import Message


@dataclass(frozen=True)
class Started:
    """The first event: before the stream is opened, which may take long.

    Attributes:
        output: where the video goes.
        num_frames: frames in all; None: endless.
        done: frames that are there already, because a saved run goes on.
        notes: remarks on what was asked for.
        first_frame_seconds: until the first frame, by an earlier run on this machine; None: not known.
    """

    output: str
    num_frames: int | None
    done: int = 0
    notes: tuple[str | Message, ...] = ()
    first_frame_seconds: float | None = None


@dataclass(frozen=True)
class Opened:
    """The arguments are right and the output can be written: the first frame is computed now."""


@dataclass(frozen=True)
class FrameDone:
    """A frame was given to the writer.

    Attributes:
        frames: frames of the video so far, this one and those of an earlier run included.
        frame: uint8 (height, width, 3), as the model made it (not enlarged): not a copy, so do not change it. None on
            ranks that do not write.
    """

    frames: int
    frame: np.ndarray | None


@dataclass(frozen=True)
class StateSaved:
    """A state was saved, from which the run can go on.

    Attributes:
        path: the state file.
        frames: frames of the output that it counts; all of them are safe there.
    """

    path: Path
    frames: int


@dataclass(frozen=True)
class Note:
    """Something went otherwise than expected, and the video is made all the same."""

    text: str


@dataclass(frozen=True)
class Closing:
    """No further frame is made in this run: the output is being completed."""

    frames: int


@dataclass(frozen=True)
class Result:
    """What became of a run that did not fail.

    Attributes:
        output: where the video is.
        frames: frames in it, those of an earlier run included. All are safe, and the video plays.
        made: how many of them this run made.
        seconds: it took since the stream was opened.
        stopped: what asked for a stop, as `Stop.why`; empty where nothing did, and the video is whole.
    """

    output: str
    frames: int
    made: int
    seconds: float
    stopped: str = ""


@dataclass(frozen=True)
class Ended:
    """The last event of a run that did not fail."""

    result: Result


@dataclass(frozen=True)
class Failed:
    """The last event of a run that failed; `run` raises the error after it.

    Attributes:
        error: what failed.
        output: where the video is.
        frames: frames in it that are safe and play, those of an earlier run included.
        refused: arguments did not fit, and nothing was computed.
        kept: what to tell of them where the error does not say it: "the 5 frames so far are in ball.mp4"; else empty.
    """

    error: Exception
    output: str
    frames: int
    refused: bool = False
    kept: str = ""


Event = Started | Opened | FrameDone | StateSaved | Note | Closing | Ended | Failed
