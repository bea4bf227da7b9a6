"""What a run keeps beside its video, and hears meanwhile. A state file is never ahead of the output that it counts."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import make_last


class Keeping(Protocol):
    """What the runner calls, in its own thread. `Checkpointer` is for a video in one file, `jobs/runs/keeping.py` for
    one in a run's folder. On ranks that do not write only `before_frame` is called.

    Attributes:
        keeps: whether a frame in the making is worth finishing when the run is stopped.
    """

    keeps: bool

    def begin(self, stream: Any) -> None:
        """The stream is open, and its first frame still to come."""

    def open(self, open_file: Callable[..., Any]) -> Any:
        """The writer of the video.

        Args:
            open_file: opens the job's output, or a file of another name; keywords are further metadata of it.
        """

    def before_frame(self, stream: Any, writer: Any) -> None:
        """Before each frame, and once more after the last. `writer` is None on ranks that do not write."""

    def after_frame(self, stream: Any, writer: Any) -> None:
        """After each frame that was given to the writer."""

    def end(self, stream: Any, writer: Any) -> None:
        """There is a frame, none is made any more, and the writer is closed."""


class Checkpointer:
    """Saves a stream's state every few frames, each time only once its frames are in the output.

    Args:
        path: the state file; None keeps nothing.
        every: frames between states.
        notes: what the file holds beside the stream's own state, asked for when a state is taken.
        seconds: a state is also due after this long, for models that take hours for those frames.
        on_saved: called with a state's number of frames when it has been saved.
    """

    def __init__(
        self,
        path: Path | None,
        every: int,
        notes: Callable[[], dict[str, Any]],
        *,
        seconds: float | None = None,
        on_saved: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.path, self.every, self.notes, self.seconds, self.on_saved = path, every, notes, seconds, on_saved
        self._taken_at = time.monotonic()
        self._waiting: Any = None

    @property
    def keeps(self) -> bool:
        """As `Keeping.keeps`."""
        return self.path is not None

    def begin(self, stream: Any) -> None:
        """Checkpoint before the first frame, so that the sampled clip is not lost."""
        if self.path is not None:
            self._save(self._take(stream), None)

    def open(self, open_file: Callable[..., Any]) -> Any:
        """One file."""
        return open_file()

    def before_frame(self, stream: Any, writer: Any) -> None:
        """Nothing is heard."""

    def after_frame(self, stream: Any, writer: Any) -> None:
        """To be called after each frame that was given to the writer."""
        if self.path is None:
            return
        self._save_waiting(writer)
        # One that still waits is not replaced: where frames are long on their way, none would ever be saved.
        late = self.seconds is not None and time.monotonic() - self._taken_at >= self.seconds
        if self._waiting is None and (late or stream.frame_index % self.every == 0):
            self._waiting = self._take(stream)
            self._save_waiting(writer)

    def end(self, stream: Any, writer: Any) -> None:
        """Save the last state; the writer is closed."""
        if self.path is not None:
            self._save(self._take(stream), writer.path)

    def _save_waiting(self, writer: Any) -> None:
        if self._waiting is not None and writer.frames_safe >= self._waiting.frame_index:
            self._save(self._waiting, writer.path)
            self._waiting = None

    def _take(self, stream: Any) -> Any:
        state = stream.state()
        self._taken_at = time.monotonic()
        state.notes = self.notes()
        return state

    def _save(self, state: Any, output: str | None) -> None:
        if output is not None and os.path.isfile(output):
            with suppress(OSError):  # a power cut must not leave the state ahead of the output
                make_last(output)
        try:
            state.save(self.path)
        except OSError as error:
            raise UserError(f"cannot write the state file {self.path}: {error.strerror or error}") from error
        self.on_saved(state.frame_index)
