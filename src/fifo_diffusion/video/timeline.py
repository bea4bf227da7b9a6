"""When the frames of a file are shown, and which of them another frame rate takes."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.values import as_rate

SAME = 0.002
"""Rates that differ by less are taken for the same (24 and 23.976)."""
JUMP = 1.0
"""Seconds by which times go back where a recording begins anew; by less, frames are only told out of order."""
MOST_FRAMES = 1_000_000
"""Frames that a rate may make of a file: one with wrong times would otherwise make them without end."""


@dataclass(frozen=True)
class FileFrame:
    """One frame of a file, not converted yet.

    Attributes:
        size: (height, width) as it is seen.
        to_array: converts it to uint8 (height, width, 3).
        time: when it is shown, in seconds; None in pictures that do not move.
        seconds: how long it is shown, where the file says it.
    """

    size: tuple[int, int]
    to_array: Callable[[], np.ndarray]
    time: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Timeline:
    """What decoding a file shows.

    Attributes:
        size: (height, width) of its first frame.
        starts: when each frame is shown, in seconds after the first.
        end: when the last one ends.
        timed: whether these times mean something: pictures that do not move have none.
        first: when the first frame is shown, in the file's own time.
    """

    size: tuple[int, int]
    starts: tuple[float, ...]
    end: float
    timed: bool
    first: float = 0.0

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def rate(self) -> float | None:
        """Frames per second, on average; None where times mean nothing."""
        return (self.count - 1) / self.starts[-1] if self.timed and self.starts[-1] > 0 else None

    @property
    def even(self) -> bool:
        """Whether all frames are shown equally long, but for the rounding of files."""
        step = self.starts[-1] / max(1, self.count - 1)
        return all(abs(start - k * step) < max(0.002, step / 4) for k, start in enumerate(self.starts))

    def taken(self, fps: float | None) -> range | list[int]:
        """The numbers of the frames that a player would show at `fps` frames per second, one after the other; all of
        them where `fps` is None or the times mean nothing.

        Raises:
            ValueError: an `fps` that is none.
            VideoFileError: far too many.
        """
        wanted, rate = None if fps is None else as_rate(fps), self.rate
        if wanted is None or rate is None:
            return range(self.count)
        if abs(rate / float(wanted) - 1) < SAME:
            if self.even:
                return range(self.count)
            wanted = as_rate(rate)
        step = 1 / wanted
        if self.end / step > MOST_FRAMES:
            raise VideoFileError(
                f"it plays for {self.end / 3600:,.1f} hours, more than {MOST_FRAMES:,} frames at "
                f"{float(wanted):g} frames/s: cut "
                "it first"
            )
        step, taken = float(step), []
        for number, start in enumerate(self.starts):
            until = self.starts[number + 1] if number + 1 < self.count else self.end
            early = min(step, until - start) / 4  # files round their times
            while len(taken) * step + early < until:
                taken.append(number)
        return taken or [0]


def timeline(size: tuple[int, int], times: list[float | None], last: float | None) -> Timeline:
    """From the times as files say them, which may go back, jump or be missing.

    Args:
        size: of the first frame.
        times: of each frame, in seconds.
        last: how long the last one is shown, where that is known.
    """
    told = [time for time in times if time is not None]
    timed = len(times) > 1 and len(told) == len(times)
    first, starts = _from_zero(told) if timed else (told[0] if told else 0.0, [float(k) for k in range(len(times))])
    usual = starts[-1] / max(1, len(starts) - 1)
    return Timeline(size, tuple(starts), starts[-1] + (last or usual), timed and starts[-1] > 0, first)


def _from_zero(times: list[float]) -> tuple[float, list[float]]:
    """The first time, and the times after it. They rise: an AVI tells those of B-frames in the order of decoding, and
    after a jump back frames follow one another as before it."""
    recordings, latest = [[times[0]]], times[0]
    for time in times[1:]:
        if time < latest - JUMP:
            recordings.append([])
            latest = time
        recordings[-1].append(time)
        latest = max(latest, time)
    recordings = [sorted(recording) for recording in recordings]
    gaps = [after - before for recording in recordings for before, after in pairwise(recording) if after > before]
    usual, starts, begin = median(gaps) if gaps else 0.0, [], 0.0
    for recording in recordings:
        starts += [begin + time - recording[0] for time in recording]
        begin = starts[-1] + usual
    return recordings[0][0], starts
