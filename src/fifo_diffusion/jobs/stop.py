"""How a run is asked to stop. A signal, a button of a page or another thread: the runner sees only a `Stop`."""

from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """Raised inside `at_once()` where a stop is asked for. Not an error: the runner returns what there is."""


class Stop:
    """Asks a run to stop, from any thread: `stop.ask("the user")`.

    The run then ends between two frames, and its output is complete as far as it goes. In the stretches that the runner
    puts into `at_once()`, nothing would be lost by ending at once. This class looks only when such a stretch begins; a
    face that can interrupt a computation (`cli/interrupts.py`, by signals) overrides `at_once` to raise `Stopped` in
    the middle of one.

    Attributes:
        why: what asked, for people ("Ctrl-C"); empty until then.
    """

    why: str = ""

    def ask(self, why: str) -> None:
        """Stop the run at the next opportunity.

        Args:
            why: what asks, not empty. The first one counts.

        Raises:
            ValueError: it is empty.
        """
        if not why:
            raise ValueError('why is empty: say what asks for the stop, for example "the user"')
        self.why = self.why or why

    @contextmanager
    def at_once(self, yes: bool = True) -> Iterator[None]:
        """A block that may be left at once, with `Stopped`.

        Args:
            yes: False makes it an ordinary block, which is finished before the run stops.
        """
        if yes and self.why:
            raise Stopped(f"stopped by {self.why}")
        yield
