"""Ctrl-C, SIGTERM and SIGHUP: end in order; the second one ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from fifo_diffusion.jobs.stop import Stop, Stopped

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed, the connection lost; Windows has no such signal
if HANGUP is not None:
    NAMES[HANGUP] = "SIGHUP"


class Interrupts(Stop):
    """While in force, a signal raises `Stopped` inside `at_once()` blocks and only asks for the stop elsewhere.

    Attributes:
        stop: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """As shells have it: 130, 143 or 129."""
        return 128 + self.stop if self.stop else 0

    @contextmanager
    def at_once(self, yes: bool = True) -> Iterator[None]:
        """A block that the first signal leaves at once."""
        self._at_once = yes
        try:
            with super().at_once(yes):
                yield
        finally:
            self._at_once = False

    def __enter__(self) -> "Interrupts":
        for number in NAMES:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # as under nohup
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.stop and number == HANGUP:  # a closed terminal sends it twice: from its shell, and from the system
            return
        if self.stop:
            os._exit(128 + number)
        self.stop = signal.Signals(number)
        self.ask(NAMES[self.stop])
        if self._at_once:
            raise Stopped(f"stopped by {self.why}")
        with suppress(OSError):  # nobody may be listening
            os.write(2, b"\nfinishing this frame; once more to stop at once\n")
