"""Frames at the rate at which they play, for whoever watches them as they come."""

import time

from fifo_diffusion.settings.kinds import Number, plain


class Pace:
    """Holds back frames that would come too early.

    Frame k is due k / fps seconds after the first. One that comes late is handed out at once, and those after it are
    due as before: where they come in bursts, and on the whole faster than they play, the rate holds. Behind by more
    than a burst, nobody catches up: the frames from there on are due from that moment on.

    Args:
        fps: frames per second, above 0.
        burst: how many frames come at once, at least 1.
    """

    def __init__(self, fps: float, burst: int = 1) -> None:
        self._between, self._late = 1 / fps, burst / fps
        self._due: float | None = None

    def wait(self) -> None:
        """Until the next frame is due. Interrupted, it is due as before."""
        now = time.monotonic()
        if self._due is None or now > self._due + self._late:
            self._due = now
        elif now < self._due:
            time.sleep(self._due - now)
        self._due += self._between


def pace_of(pace: bool | float, fps: float) -> float | None:
    """The rate that the setting `pace` means, where the video plays at `fps`; None: as fast as frames come.

    Raises:
        ArgumentError: it means none.
    """
    pace = plain(pace)
    return (fps if pace else None) if isinstance(pace, bool) else Number(0, 1000, above=True).take("pace", pace)
