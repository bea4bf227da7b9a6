"""What the runner keeps of a run in its folder, and what it hears from there."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import finalize

from fifo_diffusion.files import make_last
from fifo_diffusion.jobs.events import Event, FrameDone
from fifo_diffusion.jobs.runs import orders
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.live import Live
from fifo_diffusion.jobs.runs.snapshots import keep_within, thin
from fifo_diffusion.jobs.runs.status import IN_PROGRESS, Status
from fifo_diffusion.jobs.runs.writing import PartsWriter
from fifo_diffusion.jobs.stop import Stop
from fifo_diffusion.settings.kinds import bytes_of
from fifo_diffusion.streaming.rate import Rate
from fifo_diffusion.version import __version__

STATUS_SECONDS = 0.25
"""Between two writes of status.json."""
STOP, PAUSE, LENGTH = "stop", "pause", "length"


class RunKeeping:
    """`Keeping` of a run: parts and states at the same borders, events, the status, commands.

    A border comes every `every` frames, and before a frame at which a prompt changes. There the part is closed, then
    the state saved, then the next part begun: a state is never ahead of its frames, and after a crash the parts from
    the newest state on are made again, bit for bit.

    Over several ranks each has one; rank 0 reads and writes, and tells the others what is to be done.

    Args:
        run: its folder; this process has the lock (rank 0 has).
        status: where it stands.
        stop: asked when a command says so; of this run alone.
        every: frames between states.
        facts: of the model, for the event that tells the start.
        notes: what states hold beside the stream's own.
        ranks: processes that make it together, or None.

    Attributes:
        status: as it was written last, or will be next.
        state: the newest state, once one was taken.
        num_frames: in all, as commands have changed it.
        ended_by: what it ended by between two frames: a command, "stop" or "pause", or the "length" that one gave it;
            else empty.
    """

    keeps = True

    def __init__(
        self,
        run: RunFolder,
        status: Status,
        stop: Stop,
        *,
        every: int,
        facts: dict[str, Any],
        notes: dict[str, Any],
        keep: str | None = None,
        keep_seconds: float | None = None,
        ranks: Any = None,
    ) -> None:
        self.run, self.status, self._stop, self._every, self._facts = run, status, stop, every, facts
        self._notes, self._ranks, self._keep, self._keep_seconds = notes, ranks, keep, keep_seconds
        self.state: Any = None
        self.num_frames, self.ended_by = status.num_frames, ""
        self._writes = ranks is None or not ranks.rank
        self._begun, self._stream = False, None
        self._put_at = -1e9
        self._rate = Rate()
        if self._writes:
            self._at = os.fdopen(os.open(run.folder / "at", os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
            finalize(self, self._at.close)
            self._orders, self._live = orders.Orders(run, status.frames, status.control), Live(run)
            self._prompts_at = {event["frame"] for event in run.events()[0] if event["event"] in ("prompt", "schedule")}

    # ------------------------------------------------------------------ as the runner calls it

    def loads(self) -> None:
        """Its model is loaded next. Should that end this process, it is known which run did it."""
        if self._writes:
            self._note_frame(self.status.frames)
            self.put(lasting=True, state=IN_PROGRESS, pid=os.getpid(), host=socket.gethostname())

    def begin(self, stream: Any) -> None:
        """A new video: its state before the first frame is kept too."""
        self._tell_start(stream)
        self._take(stream)

    def open(self, open_file: Callable[..., Any]) -> PartsWriter:
        """A writer of parts, from the state on that the run goes on from."""
        return PartsWriter(self.run, self.status.frames, open_file)

    def before_frame(self, stream: Any, writer: Any) -> None:
        """Carry out what was asked for meanwhile."""
        self._stream = stream
        if self._writes:
            if not self._begun:
                self._tell_start(stream)
            self._note_frame(stream.frame_index)
        now = replace(self.status, frames=stream.frame_index, num_frames=self.num_frames)
        due = self._orders.due(now) if self._writes else []
        if self._ranks is not None:
            due = self._ranks.broadcast_object(due)
        for order in due:
            self._carry_out(order, stream, writer)
        if self.num_frames is not None and stream.frame_index >= self.num_frames and not self._stop.why:
            self.ended_by = LENGTH
            self._stop.ask("its length", everywhere=True)

    def after_frame(self, stream: Any, writer: Any) -> None:
        """A border, where one is due."""
        if stream.frame_index % self._every == 0:
            self._border(stream, writer)

    def end(self, stream: Any, writer: Any) -> None:
        """The last border."""
        self._border(stream, writer)

    def saw(self, event: Event) -> None:
        """To be told of all events of the runner."""
        if not isinstance(event, FrameDone) or event.frame is None:
            return
        self.status = replace(self.status, frames=event.frames, rate=self._rate.came())
        self._live.show(event.frames, event.frame, self._stream)
        if time.monotonic() - self._put_at >= STATUS_SECONDS:
            self.put()

    # ------------------------------------------------------------------ status

    def put(self, *, lasting: bool = False, **changes: Any) -> None:
        """Write the status, with changes."""
        self._put_at = time.monotonic()
        self.status = replace(self.status, **changes)
        self.run.write_status(self.status, lasting=lasting)

    def _note_frame(self, frame: int) -> None:
        self._at.seek(0)
        self._at.write(b"%12d\n" % frame)

    def _tell_start(self, stream: Any) -> None:
        self._begun, self._stream, settings = True, stream, stream.settings
        known = {"width": settings.width, "height": settings.height, "seed": stream.seed, "slots": stream.slots}
        known |= {"fps": self._facts["fps"]}
        self.run.append_event(
            "started",
            frame=stream.frame_index,
            resumed=bool(stream.frame_index),
            num_frames=self.num_frames,
            software=f"fifo-diffusion {__version__}",
            settings=settings.to_json(),
            **known | self._facts,
        )
        begun = {"state": IN_PROGRESS, "stopped": False, "paused": False, "error": None, "completed_at": None}
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "device": self._facts["device"]}
        self.put(lasting=True, started_at=self.status.started_at or round(time.time(), 3), **begun, **mine, **known)

    # ------------------------------------------------------------------ orders

    def _carry_out(self, order: orders.Order, stream: Any, writer: Any) -> None:
        do, frame = order["do"], stream.frame_index
        if order.get("later"):
            told = {name: order[name] for name in ("text", "frame", "change") if name in order}
            self._tell("planned", order, **told, asked=frame)
            if self._writes:
                self._orders.plan(order)
        elif do in ("prompt", "schedule"):
            if self._writes:
                self._border(stream, writer)
                self._prompts_at.add(frame)
            told, refused = orders.tried(lambda: orders.apply(stream, order))
            if told is None:
                self._tell("note", order, text=f"the prompt was not changed: {refused}")
            elif not order.get("made"):
                self._tell(do, order, frame=frame, **told)
            if told is not None and do == "schedule" and self._writes:
                self._orders.drop_planned()
        elif do in (STOP, PAUSE) and not order.get("void"):
            self.ended_by = self.ended_by or do
            self._stop.ask(f"the command {do}", everywhere=True)
            self._tell("note", order, text=f"asked to {do}")
        elif do == "extend" and self.num_frames is not None and order["num_frames"] > frame:
            self.num_frames = order["num_frames"]
            self._tell("extended", order, num_frames=self.num_frames)
        elif do == "resume":
            self._keep = order.get("keep", self._keep)
            self._tell("resumed", order, **({"keep": order["keep"]} if "keep" in order else {}))
        else:
            self._tell("note", order, text=f"the command {do} had no effect")
        if self._writes:
            self.status = replace(self.status, num_frames=self.num_frames, control=self._orders.read)

    def _tell(self, event: str, order: orders.Order, **fields: Any) -> None:
        if self._writes:
            read = {"control": order["control"]} if "control" in order else {}
            self.run.append_event(event, **fields, **read)

    # ------------------------------------------------------------------ borders

    def _border(self, stream: Any, writer: PartsWriter) -> None:
        """Close the part, then save the state, unless that was done here before."""
        writer.end_part()
        if self.state is None or self.state.frame_index != stream.frame_index:
            self._take(stream)

    def _take(self, stream: Any) -> None:
        frame = stream.frame_index
        with suppress(FileNotFoundError):
            make_last(self.run.folder / "events.jsonl")  # what shaped the state is not forgotten before it
        state = stream.state()
        state.notes = self._notes
        path = self.run.state_path(frame)
        if not path.exists():
            state.save(path)
            self.run.append_event("snapshot", frame=frame, change_frame=stream.change_frame)
        self.state = state
        thin(self.run, self._every, self._prompts_at)
        if self._keep is not None:
            oldest = None
            if self._keep_seconds is not None and self.num_frames is None:
                oldest = frame - round(self._keep_seconds * self._facts["fps"])
            keep_within(self.run, bytes_of(self._keep), self._prompts_at, oldest_frame=oldest)
        self.put()
