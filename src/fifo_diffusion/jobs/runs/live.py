"""Pictures of a run for whoever watches it, while somebody does."""

import json
import time
from contextlib import suppress
from typing import Any

import numpy as np

from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.parts import as_jpeg

LEAST = 1 / 30
"""Seconds between two pictures."""
LOOK = 0.5
"""Seconds between two looks whether somebody watches."""


class Live:
    """Writes `RunFolder.live_folder`.

    Args:
        run: its folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run, self._watched = run, False
        self._looked = self._wrote = -1e9

    def show(self, frames: int, frame: np.ndarray, stream: Any) -> None:
        """A frame was made.

        Args:
            frames: how many there are now.
            frame: the newest, uint8 (height, width, 3).
            stream: that it came from, whose `preview` is asked for the queue.
        """
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked, self._watched = now, self._run.is_watched
        if not self._watched or now - self._wrote < LEAST:
            return
        self._wrote = now
        with suppress(OSError):  # a full disk ends the run elsewhere, where it matters
            strip = queue_strip(stream)
            self._put("frame.jpg", as_jpeg(frame))
            if strip is not None:
                self._put("queue.jpg", as_jpeg(strip, 90))  # a PNG of noise takes ten times as long
            queue = [] if strip is None else stream.queue_frames
            self._put("tick", json.dumps({"frames": frames, "at": round(time.time(), 3), "queue": queue}).encode())

    def _put(self, name: str, data: bytes) -> None:
        with written_whole(self._run.live_folder / name, lasting=False) as partial:
            partial.write_bytes(data)


def queue_strip(stream: Any) -> np.ndarray | None:
    """The frames in the queue side by side as the model guesses them, uint8 (height, latents x width, 3); None where
    it cannot tell yet."""
    pictures = stream.preview()
    return None if pictures is None else np.concatenate(list(pictures), 1)
