"""The runner: one video to its output. Every face calls it (the command, `evaluate`, scripts); it says what happens by
events, prints nothing, and knows neither signals nor exit codes.

The order of writes is that of docs/architecture.md: a state is never ahead of the output that it counts.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from fifo_diffusion.jobs.checkpointer import Checkpointer, Keeping
from fifo_diffusion.jobs.events import (
    Closing,
    Ended,
    Event,
    Failed,
    FrameDone,
    Note,
    Opened,
    Result,
    Started,
    StateSaved,
)
from fifo_diffusion.jobs.first_step import FirstStep
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.speed import known_speed, remember_speed
from fifo_diffusion.jobs.stop import Stop, Stopped
from fifo_diffusion.video import FrameWriter, VideoFileError, open_writer

OnEvent = Callable[[Event], None]


def run(job: Job, *, on_event: OnEvent = lambda _: None, stop: Stop | None = None) -> Result:
    """Make one video, or as much of it as there is time for.

    Over several ranks all call this for the same job. Rank 0 writes; the others compute along, and have only the events
    `FrameDone` (without frames) and the last one.

    Args:
        job: what to make.
        on_event: called with each event, in this thread, between frames. An error in it fails the run.
        stop: asks to stop. The frame in the making is finished only where its state is kept: without a state file, or
            before the first frame, `stop.at_once` may end it.

    Returns:
        what there is now; `stopped` says whether that is all.

    Raises:
        ValueError, TypeError, FileNotFoundError: arguments that do not fit; nothing was computed (`Failed.refused`).
        Exception: whatever else failed. What was made until then is kept, and the event `Failed` counted it.
    """
    stop = Stop() if stop is None else stop
    ranks = job.fifo.ranks
    result = (_Along if ranks is not None and ranks.rank else _Run)(job, on_event, stop).make()
    if result.stopped and ranks is not None and not stop.everywhere:
        ranks.abort(f"stopped by {result.stopped}")
    return result


def open_stream(job: Job) -> Any:
    """The stream of a job: FIFO's, that of a saved run, or a baseline's.

    Raises:
        ValueError, TypeError, FileNotFoundError: arguments that do not fit.
    """
    if job.method != "fifo":
        from fifo_diffusion.baselines.stream import baseline_stream

        return baseline_stream(job.fifo.model, job.method, job.prompt, num_frames=job.num_frames, **job.arguments)
    frames = {"num_frames": job.num_frames, "windows_per_batch": job.windows_per_batch}
    frames["pace"] = job.pace and (job.fps or True)
    if job.state is not None:
        return job.fifo.stream(start=job.state, **frames)
    return job.fifo.stream(job.prompt, **frames, **job.arguments)


class _Run:
    """One video being made."""

    def __init__(self, job: Job, tell: OnEvent, stop: Stop) -> None:
        self.job, self.tell, self.stop = job, tell, stop
        self.began = time.monotonic()
        self.writer: FrameWriter | None = None
        self._along = job.done
        self._refused = False

    @property
    def frames(self) -> int:
        """Of the video so far; those that are safe, once the output is closed."""
        return self._along if self.writer is None else self.writer.frames

    def make(self) -> Result:
        job, broken_off = self.job, ""
        try:
            self._make()
        except Stopped as stopped:
            broken_off = str(stopped) or "a stop"
        except Exception as error:
            self.tell(Failed(error, job.output, self.frames, self._refused, self._kept(error)))
            raise
        made, seconds = max(0, self.frames - job.done), time.monotonic() - self.began
        result = Result(job.output, self.frames, made, seconds, self.stop.why or broken_off)
        self.tell(Ended(result))
        return result

    def _make(self) -> None:
        from fifo_diffusion.execution.ranks import RankError

        job, lost, keeper = self.job, None, self._keeper()
        self._introduce()
        with ExitStack() as opened:
            with self.stop.at_once():
                stream = opened.enter_context(self._stream())
                self.began = time.monotonic()
                if job.state is None:
                    keeper.begin(stream)
                writer = self.writer = opened.enter_context(keeper.open(partial(self._open, stream)))
            if job.watch is not None:
                opened.enter_context(job.watch)
                job.watch.begin(stream)
            self.tell(Opened())
            try:
                self._write(stream, writer, keeper)
            except RankError as error:  # the queue is whole: what this run has is worth keeping
                lost = error
            self.tell(Closing(writer.frames))
            writer.close()
            if writer.frames:
                keeper.end(stream, writer)
                self._add_sound(writer.frames / self._fps(stream))
            if lost is not None and not self.stop.why:
                raise lost
        self._remember_speed()

    def _keeper(self) -> Keeping:
        job = self.job
        if job.keeping is not None:
            return job.keeping
        saving = {"seconds": job.state_seconds, "on_saved": self._state_saved}
        return Checkpointer(job.state_file, job.state_every, self._notes, **saving)

    def _notes(self) -> dict[str, Any]:
        return self.job.notes | (self.job.watch.notes if self.job.watch is not None else {})

    def _stream(self) -> Any:
        try:
            return open_stream(self.job)
        except (ValueError, TypeError, FileNotFoundError):
            self._refused = True
            raise

    def _write(self, stream: Any, writer: FrameWriter, keeper: Keeping) -> None:
        first_step = FirstStep(0 if self.job.state is not None else getattr(stream, "given_frames", 0))
        while not self.stop.why:
            keeper.before_frame(stream, writer)
            if self.stop.why:
                return
            # A frame in the making is worth finishing only where its state is kept.
            with self.stop.at_once(not keeper.keeps or not writer.frames):
                frame = next(stream, None)
            if frame is None:
                return
            writer.write(frame)
            if self.job.watch is not None:
                self.job.watch.frame(writer.frames - 1, frame)
            self.tell(FrameDone(writer.frames, frame))
            if note := first_step.frame(writer.frames - 1, frame):
                self.tell(Note(note))
            keeper.after_frame(stream, writer)

    def _open(self, stream: Any, part: str | None = None, **facts: str) -> FrameWriter:
        """The output, or a part of it in a file of its own."""
        job = self.job
        if job.make_folder:
            Path(job.output).parent.mkdir(exist_ok=True)
        return open_writer(
            job.output if part is None else part,
            fps=self._fps(stream),
            scale=job.scale,
            metadata=((getattr(stream, "metadata", None) if job.metadata is None else job.metadata) or {}) | facts,
            overwrite=job.overwrite or part is not None,
            continue_from=None if job.state is None or part is not None else job.done,
            background=job.background,
        )

    def _fps(self, stream: Any) -> float:
        return stream.fps if self.job.fps is None else self.job.fps

    def _add_sound(self, seconds: float) -> None:
        sound, output = self.job.sound, self.job.output
        if sound is None:
            return
        try:
            sound.put_into(output, seconds)
        except VideoFileError as error:
            self.tell(Note(f"the sound of {sound.source} is not in {output}: {error}"))

    # ------------------------------------------------------------------ events, and what is remembered

    def _introduce(self) -> None:
        job, expected = self.job, None
        if job.cost is not None and job.state is None:
            speed = known_speed(job.speed_key)
            expected = speed and speed * job.cost.until(1)
        self.tell(Started(job.output, job.num_frames, job.done, job.remarks, expected))

    def _state_saved(self, frames: int) -> None:
        assert self.job.state_file is not None
        self.tell(StateSaved(self.job.state_file, frames))

    def _kept(self, error: Exception) -> str:
        """What to tell of the frames so far; errors of the output tell it themselves."""
        if self.writer is None or not self.frames or isinstance(error, VideoFileError):
            return ""
        return f"the {self.frames} frames so far are in {self.job.output}"

    def _remember_speed(self) -> None:
        job, seconds = self.job, time.monotonic() - self.began
        if job.cost is None or job.pace or self.frames <= job.done:
            return
        forwards = job.cost.until(self.frames) - job.cost.until(job.done)
        if forwards > 0 and job.fifo.ranks is None and not job.fifo.model.compiled:
            remember_speed(job.speed_key, seconds / forwards)


class _Along(_Run):
    """What the ranks do that do not write: the same stream, frame by frame."""

    def _make(self) -> None:
        try:
            with self.stop.at_once(), self._stream() as stream:
                keeper = self._keeper()
                while not self.stop.why:
                    keeper.before_frame(stream, None)
                    if self.stop.why or next(stream, self) is self:  # frames are None here
                        return
                    self._along += 1
                    self.tell(FrameDone(self._along, None))
        except Exception:
            if not self.stop.why:  # else the others have been told to stop too, and were faster
                raise
