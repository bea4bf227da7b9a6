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
        everywhere: of a run over several ranks: all of them have been asked before the same frame, and none need be
            told.
    """

    why: str = ""
    everywhere: bool = False

    def ask(self, why: str, *, everywhere: bool = False) -> None:
        """Stop the run at the next opportunity.

        Args:
            why: what asks, not empty. The first one counts.
            everywhere: every rank is asked now.

        Raises:
            ValueError: it is empty.
        """
        if not why:
            raise ValueError('why is empty: say what asks for the stop, for example "the user"')
        if not self.why:
            self.why, self.everywhere = why, everywhere

    @contextmanager
    def at_once(self, yes: bool = True) -> Iterator[None]:
        """A block that may be left at once, with `Stopped`.

        Args:
            yes: False makes it an ordinary block, which is finished before the run stops.
        """
        if yes and self.why:
            raise Stopped(f"stopped by {self.why}")
        yield


class OwnStop(Stop):
    """Asks one run to stop; that it is asked leaves the other alone, of which it is stopped too.

    Args:
        other: of all runs of a process, say.
    """

    def __init__(self, other: Stop) -> None:
        self._other, self._own, self._all = other, "", False

    @property
    def why(self) -> str:  # type: ignore[override]
        """As `Stop.why`, of either."""
        return self._own or self._other.why

    @property
    def everywhere(self) -> bool:  # type: ignore[override]
        """As `Stop.everywhere`."""
        return self._all if self._own else self._other.everywhere

    def ask(self, why: str, *, everywhere: bool = False) -> None:
        """As `Stop.ask`."""
        if not self.why:
            self._own, self._all = why, everywhere

    @contextmanager
    def at_once(self, yes: bool = True) -> Iterator[None]:
        """As `Stop.at_once`; the other one's way to interrupt counts."""
        if yes and self._own:
            raise Stopped(f"stopped by {self._own}")
        with self._other.at_once(yes):
            yield
