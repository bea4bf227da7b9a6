"""Progress on standard error: a bar in a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from fifo_diffusion.text import duration, one_line, real_time

EVERY = 10.0  # seconds between plain lines


class Progress:
    """How far a video is.

    Args:
        total: frames in all; None: without end.
        done: frames that are there already.
        fps: frames per second at which the video plays.
        quiet: say nothing.
    """

    def __init__(self, total: int | None, done: int = 0, *, fps: float, quiet: bool = False) -> None:
        self.total, self.done, self.fps, self.quiet = total, done, fps, quiet
        self._first = done
        self._began = self._said = time.monotonic()
        self._first_came: float | None = None
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            with heard():
                wide = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some terminals do not know
                width: dict[str, Any] = {"dynamic_ncols": True} if wide else {"ncols": 80, "nrows": 24}
                self._bar = tqdm(total=total, initial=done, unit=" frames", file=sys.stderr, smoothing=0.1, **width)

    def advance(self) -> None:
        """One more frame is there."""
        self.done += 1
        if self._first_came is None:
            self._first_came = time.monotonic()
        if self._bar is not None:
            rate = self._rate()
            with heard():
                if rate is not None:
                    self._bar.set_postfix_str(real_time(rate, self.fps), refresh=False)
                self._bar.update()
        elif not self.quiet and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            say(f"frame {self.done}{self._outlook()}")

    def close(self) -> None:
        """The last word on speed."""
        if self._bar is not None:
            with heard():
                self._bar.close()
        elif not self.quiet and self.done > self._first:
            frames, seconds = self.done - self._first, time.monotonic() - self._began
            rate = frames / max(1e-9, seconds)
            say(f"{frames} frames in {duration(seconds)} ({rate:.2f} frames/s, {real_time(rate, self.fps)})")

    def _rate(self) -> float | None:
        """Frames per second, by those after the first, which takes far longer."""
        since_first = self.done - self._first - 1
        if self._first_came is None or not since_first:
            return None
        return since_first / max(1e-9, time.monotonic() - self._first_came)

    def _outlook(self) -> str:
        """Speed and time left."""
        of, rate = f" of {self.total}" if self.total is not None else "", self._rate()
        if rate is None:
            return of
        left = f", about {duration((self.total - self.done) / rate)} left" if self.total is not None else ""
        return f"{of}{left} ({rate:.2f} frames/s, {real_time(rate, self.fps)})"


def say(text: str, *, quiet: bool = False) -> None:
    """A line on standard error, below the bar where the text begins with a line break. A run does not end because
    nobody listens any more."""
    if not quiet:
        with heard():
            begins = text[: len(text) - len(text.lstrip(" \n"))]
            print(begins + one_line(text), file=sys.stderr, flush=True)


def tell(output: str) -> bool:
    """The name of a video that is there, on standard output: as it is for a program, as it may be shown in a terminal.
    False where it cannot be written; what else there is to do is not lost by that."""
    try:
        try:
            print(one_line(output) if sys.stdout.isatty() else output, flush=True)
        except UnicodeEncodeError:  # not UTF-8
            sys.stdout.buffer.write(os.fsencode(output) + b"\n")
            sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        say(f"fifo-diffusion: {output} is there, but standard output cannot take its name: {reason(error)}")
        return False
    return True


def reason(error: Exception) -> str:
    """What the system says, without its number."""
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def heard() -> Iterator[None]:
    """What is written to standard error in this block may get lost: its reader is gone, its terminal closed, the disk
    of its file full."""
    try:
        yield
    except (OSError, ValueError):
        silence(sys.stderr)


def silence(stream: TextIO | None) -> None:
    """Send a standard stream that cannot be written to nowhere: also what is left in its buffer, which Python would
    write at the end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
