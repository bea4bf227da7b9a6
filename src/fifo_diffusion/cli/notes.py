"""What the package's logger warns of, as notes of the command."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fifo_diffusion.cli.errors import words
from fifo_diffusion.cli.progress import say
from fifo_diffusion.errors import Message, UserError
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.text import one_line


@contextmanager
def notes_told(*, quiet: bool = False, also: Callable[[str], object] | None = None) -> Iterator[None]:
    """In this block each warning is one `note:` line on standard error, and told once: a model is looked at before it
    is loaded, and videos of one command have much in common. Of several ranks one tells it.

    Args:
        quiet: say nothing on standard error.
        also: called with each note too.
    """
    logger, handler = logging.getLogger("fifo_diffusion"), _Notes(quiet, also)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


class _Notes(logging.Handler):
    def __init__(self, quiet: bool, also: Callable[[str], object] | None) -> None:
        super().__init__(logging.WARNING)
        self._quiet, self._also = quiet, also
        self._told: set[str] = set()
        with suppress(UserError):
            if torchrun_rank():
                self._quiet, self._also = True, None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            note = words(record.msg if isinstance(record.msg, Message) else record.getMessage())
        except Exception:  # arguments that do not fit their message
            note = one_line(record.msg)
        if note not in self._told:
            self._told.add(note)
            say(f"note: {note}", quiet=self._quiet)
            if self._also is not None:
                self._also(note)
