"""Writing in a thread of its own, while the next frame is computed."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from fifo_diffusion.video.sink import Sink

DEPTH = 16
"""Frames that wait for the thread at most. Some models give as many at once, and then none for a while."""
WAITING_BYTES = 1 << 28
"""What they take at most, in bytes; one frame may be larger."""


class BackgroundSink:
    """Hands frames to another sink in a thread. What that fails with is raised by the next call.

    Encoders and disks work outside of Python's lock: a model that computes on a GPU, or on other cores, goes on.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink, self.size = sink, sink.size
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frame writer")
        self._pending: deque[Future[None]] = deque()
        self._taken = self._written = 0
        self._failed = False

    @property
    def lag(self) -> int:
        """Frames that a killed process would lose: those in the thread's hands, and the sink's own."""
        return self._taken - self._written + self._sink.lag

    def write(self, frame: np.ndarray) -> None:
        """Take one frame; waits where too many are taken already."""
        while self._pending and (self._pending[0].done() or len(self._pending) >= max(1, self._depth(frame))):
            self._settle()
        # A copy: the caller may use the array again.
        self._pending.append(self._thread.submit(self._write, np.array(frame, order="C")))
        self._taken += 1

    def close(self) -> None:
        """Wait for all frames, and complete the file."""
        while self._pending:
            self._settle()
        self._thread.shutdown()
        self._sink.close()

    def discard(self) -> None:
        self._thread.shutdown()
        self._sink.discard()

    def abandon(self) -> int:
        self._thread.shutdown(cancel_futures=True)
        return self._sink.abandon()

    @staticmethod
    def _depth(frame: np.ndarray) -> int:
        return min(DEPTH, WAITING_BYTES // frame.nbytes)

    def _settle(self) -> None:
        """Wait for the oldest frame. Interrupted or failed, it stays: the next call will know of it."""
        self._pending[0].result()
        self._pending.popleft()

    def _write(self, frame: np.ndarray) -> None:
        if self._failed:  # what follows a frame that was lost is lost too
            return
        self._failed = True
        self._sink.write(frame)
        self._failed = False
        self._written += 1
