"""Progress on standard error: a bar in a terminal, plain lines elsewhere."""

import os
import sys
import time
from typing import Any

EVERY = 10.0  # seconds between plain lines


class Progress:
    """How far a video is.

    Args:
        total: frames in all; None: without end.
        done: frames that are there already.
        quiet: say nothing.
    """

    def __init__(self, total: int | None, done: int = 0, *, quiet: bool = False) -> None:
        self.total, self.done, self.quiet = total, done, quiet
        self._first = done
        self._began = self._said = time.monotonic()
        self._first_came: float | None = None
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            wide = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some terminals do not know
            width: dict[str, Any] = {"dynamic_ncols": True} if wide else {"ncols": 80, "nrows": 24}
            self._bar = tqdm(total=total, initial=done, unit=" frames", file=sys.stderr, smoothing=0.1, **width)

    def advance(self) -> None:
        """One more frame is there."""
        self.done += 1
        if self._first_came is None:
            self._first_came = time.monotonic()
        if self._bar is not None:
            self._bar.update()
        elif not self.quiet and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            say(f"frame {self.done}{self._outlook()}")

    def close(self) -> None:
        """The last word on speed."""
        if self._bar is not None:
            self._bar.close()
        elif not self.quiet and self.done > self._first:
            frames, seconds = self.done - self._first, time.monotonic() - self._began
            say(f"{frames} frames in {duration(seconds)} ({frames / max(1e-9, seconds):.2f} frames/s)")

    def _outlook(self) -> str:
        """Speed and time left, by the frames after the first: that one takes far longer."""
        of = f" of {self.total}" if self.total is not None else ""
        since_first = self.done - self._first - 1
        if self._first_came is None or not since_first:
            return of
        rate = since_first / max(1e-9, time.monotonic() - self._first_came)
        left = f", about {duration((self.total - self.done) / rate)} left" if self.total is not None else ""
        return f"{of}{left} ({rate:.2f} frames/s)"


def say(text: str, *, quiet: bool = False) -> None:
    """A line on standard error. A run does not end because nobody listens any more."""
    if not quiet:
        try:
            print(text, file=sys.stderr, flush=True)
        except BrokenPipeError:  # also for what is left in the buffer, which Python writes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min"""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
