"""What happens, as server-sent events: one stream per listener, which goes on where it was after a lost connection."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs.lines import with_ends
from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.jobs.runs.status import IN_PROGRESS
from fifo_diffusion.studio.answers import HttpError
from fifo_diffusion.studio.board import Board

LOOK_SECONDS = 0.04
"""Between two looks at a run that is being made: most of what passes from a frame to its picture on a page."""
IDLE_SECONDS = 0.25
"""Between two looks at anything else."""
QUIET_SECONDS = 15
"""After so long a silence a comment is sent, so that nobody on the way takes the connection for a dead one."""
WATCH_SECONDS = 1
MOST_LISTENERS = 100


class Listeners:
    """All streams of events of a server.

    Args:
        board: the folder of runs.

    Attributes:
        count: how many there are now.
        closed: the server ends, and so do they; pages come back when it is there again.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.count = 0
        self.closed = False

    def stream(self, request: Request, run: Run | None) -> Response:
        """A stream of events.

        Args:
            request: `Last-Event-ID`, or `?since=`, says where to go on.
            run: whose events; None: only changes of the list.

        Raises:
            HttpError: 503, there are too many listeners; 400, no such place.
        """
        if self.count >= MOST_LISTENERS:
            raise HttpError(503, f"{MOST_LISTENERS} listeners are here already: close a page")
        since = request.headers.get("last-event-id") or request.query_params.get("since") or "0"
        if not re.fullmatch(r"\d{1,15}", since, re.ASCII):
            raise HttpError(400, "since: give the id of an event", "since")
        told = self._told(request, run, int(since))
        return StreamingResponse(told, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _told(self, request: Request, run: Run | None, since: int) -> AsyncIterator[str]:
        self.count += 1
        try:
            yield "retry: 1000\n\n"
            following = None if run is None else _Following(self.board, run, since)
            version, looked, spoke = "", float("-inf"), time.monotonic()
            while not self.closed and not await request.is_disconnected():
                found, now = "", time.monotonic()
                if now - looked >= IDLE_SECONDS:
                    looked = now
                    glance = await asyncio.to_thread(self.board.glance)
                    if glance.version != version:
                        version = glance.version
                        found += _event("runs", {"version": version})
                over = False
                if following is not None:
                    found += "".join(following.news())
                    over = following.over
                if found:
                    spoke = now
                    yield found
                elif now - spoke > QUIET_SECONDS:
                    spoke = now
                    yield ": still here\n\n"
                if over:
                    yield _event("end", {})
                    return
                await asyncio.sleep(LOOK_SECONDS if following is not None and following.busy else IDLE_SECONDS)
        finally:
            self.count -= 1


class _Following:
    """One listener's place in a run."""

    def __init__(self, board: Board, run: Run, since: int) -> None:
        self.board, self.run, self.since = board, run, since
        self.busy = self.over = False
        self._video: dict[str, Any] | None = None
        self._tick: tuple[int, int] | None = None
        self._watched = float("-inf")

    def news(self) -> Iterator[str]:
        """Events since the last call."""
        try:
            yield from self._news()
        except (UserError, HttpError):  # it was removed
            self.over = True

    def _news(self) -> Iterator[str]:
        run, now = self.run, time.monotonic()
        status = run.status
        final = status.over and not run.is_owned()  # nothing is written after that
        self.busy = status.state == IN_PROGRESS
        if not status.over and now - self._watched > WATCH_SECONDS:
            self._watched = now
            run.watch()
        for record, end in with_ends(run.folder / "events.jsonl", self.since):
            self.since = end
            yield _event("log", record, end)
        video = self.board.video(run)
        if video != self._video:
            self._video = video
            yield _event("video", video)
        frames = self._new_picture()
        if frames:
            yield _event("frame", {"frame": frames, "queue": run.queue_frames()})
        self.over = final

    def _new_picture(self) -> int:
        try:
            found = (self.run.live_folder / "tick").stat()
        except OSError:
            return 0
        seen = found.st_mtime_ns, found.st_ino
        if seen == self._tick:
            return 0
        self._tick = seen
        return self.run.tick()


def _event(kind: str, data: Any, id: int | None = None) -> str:
    """One event on the wire. JSON has no line ends in it, so it is one line of data."""
    name = f"id: {id}\n" if id is not None else ""
    return f"{name}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
