"""The folder of runs as the server shows it: video objects, the queue, and whether anything in the list changed."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.request import model_id
from fifo_diffusion.jobs.runs.folder import ID
from fifo_diffusion.jobs.runs.requests import first_prompt_of
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import COMPLETED, IN_PROGRESS, QUEUED, Status
from fifo_diffusion.jobs.runs.timeline import fps_of
from fifo_diffusion.studio.answers import missing

FRESH_SECONDS = 0.5
"""How old the picture of the whole folder may be; single runs are always read anew."""
SOONEST_MS, LATEST_MS, WAITING_MS = 250, 5000, 500
"""When clients are told to ask for a video again."""


@dataclass
class Glance:
    """The folder at one moment.

    Attributes:
        runs: all, the newest first.
        queue: ids of those that wait, the next one first.
        counts: runs by state.
        rate: frames per second that are made in all.
        version: another text whenever the list looks different.
        at: when it was taken, on the monotonic clock.
    """

    runs: list[Run] = field(default_factory=list)
    queue: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    rate: float = 0.0
    version: str = ""
    at: float = float("-inf")


class Board:
    """The folder of runs.

    Args:
        runs: the folder.
        models: names of models as clients say them.
    """

    def __init__(self, runs: Runs, models: Iterable[str] = ()) -> None:
        self.runs = runs
        self._models = {model_id(name): name for name in models}
        self._glance = Glance()

    def glance(self, *, fresh: bool = False) -> Glance:
        """The folder now, or half a second ago.

        Args:
            fresh: now.
        """
        if fresh or time.monotonic() - self._glance.at > FRESH_SECONDS:
            self._glance = self._look()
        return self._glance

    def _look(self) -> Glance:
        found = Glance(at=time.monotonic())
        seen = hashlib.sha256()
        for run in self.runs.list():
            try:
                status = run.status
            except UserError:  # removed meanwhile
                continue
            found.runs.append(run)
            found.counts[status.state] = found.counts.get(status.state, 0) + 1
            found.rate += status.rate if status.state == IN_PROGRESS else 0
            about = (run.id, status.state, status.stopped, status.paused, status.frames > 0)
            seen.update(repr(about).encode())
        found.queue = [run.id for run in self.runs.queue()]
        seen.update(repr(found.queue).encode())
        found.version = seen.hexdigest()[:16]
        return found

    def get(self, id: str) -> Run:
        """The run of an id from a client.

        Raises:
            HttpError: 404, there is none.
        """
        run = self.runs.get(id) if ID.fullmatch(id) else None
        if run is None:
            raise missing(f"there is no video {id[:40]}")
        return run

    def video(self, run: Run) -> dict[str, Any]:
        """A run as a video object (docs/http.md).

        Raises:
            HttpError: 404, it was removed.
        """
        try:
            request, status, parent, snapshots = run.request, run.status, run.parent, run.snapshots()
        except UserError as error:
            raise missing(f"there is no video {run.id}") from error
        fps = fps_of(run)
        count = status.frames if status.over else status.num_frames
        seconds = request.get("seconds") if count is None else count / fps if fps else None
        done = status.state == COMPLETED
        return {
            "id": run.id,
            "object": "video",
            "model": self.model(run),
            "status": status.state,
            "progress": status.progress,
            "created_at": int(run.created_at),
            "completed_at": int(status.completed_at) if done and status.completed_at else None,
            "expires_at": None,
            "prompt": first_prompt_of(request),
            "size": _size(request, status),
            "seconds": f"{seconds:g}" if seconds else "",
            "remixed_from_video_id": parent["id"] if parent else None,
            "error": status.error,
            "frames": status.frames,
            "num_frames": status.num_frames,
            "fps": status.fps,
            "rate": status.rate or None,
            "eta_seconds": status.eta_seconds,
            "seed": status.seed,
            "slots": status.slots,
            "stopped": status.stopped,
            "paused": status.paused,
            "snapshots": snapshots,
            "parent": parent,
            "queue_position": self.position(run, status),
        }

    def model(self, run: Run) -> str:
        """A run's model as clients name it."""
        name = run.request["model"]
        return self._models.get(name, name)

    def position(self, run: Run, status: Status) -> int | None:
        """Its place among those that wait, 0 for the next one."""
        if status.state != QUEUED:
            return None
        queue = self.glance().queue
        if run.id not in queue:
            queue = self.glance(fresh=True).queue
        return queue.index(run.id) if run.id in queue else None


def poll_ms(status: Status) -> int:
    """When to ask for a video again, in milliseconds: often enough for some dozen steps on its way."""
    if status.over:
        return SOONEST_MS
    eta = status.eta_seconds
    return WAITING_MS if eta is None else round(min(max(eta * 1000 / 24, SOONEST_MS), LATEST_MS))


def _size(request: dict[str, Any], status: Status) -> str:
    scale = request.get("scale", 1)
    width, height = status.width or request.get("width"), status.height or request.get("height")
    return f"{width * scale}x{height * scale}" if width and height else ""
