"""`fifo-diffusion generate`: plan, load, run; what the run says goes to standard error."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fifo_diffusion.cli import json_lines
from fifo_diffusion.cli.errors import FAILURE, words
from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.json_lines import EventLines, put
from fifo_diffusion.cli.progress import Progress, say, tell
from fifo_diffusion.errors import UserError, message_of, usage_errors
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.jobs import run as runner
from fifo_diffusion.jobs.batch import plan_of, resumed
from fifo_diffusion.jobs.events import Closing, Ended, Event, Failed, FrameDone, Note, Opened, Result, Started
from fifo_diffusion.jobs.explained import explain
from fifo_diffusion.jobs.job import Job, job_of
from fifo_diffusion.jobs.load import load
from fifo_diffusion.jobs.locks import locked, locked_for
from fifo_diffusion.jobs.plan import Plan, check_outputs, make_plan
from fifo_diffusion.jobs.request import Request, Video
from fifo_diffusion.jobs.stop import Stopped
from fifo_diffusion.jobs.together import joined
from fifo_diffusion.text import duration, shell_words

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.pipeline import FIFO


def run(request: Request) -> int:
    """Do what was asked; the exit code."""
    rank = torchrun_rank() or 0
    if request.settings.dry_run:
        if rank:
            return 0  # rank 0 says it
        _check_outputs(request)
        return _dry_run(request)
    with joined(request) as ranks, nullcontext() if rank else locked_for(request), ExitStack() as locks:
        if not rank:
            _check_outputs(request)
        return _generate(request, ranks, locks)


def _check_outputs(request: Request) -> None:
    if request.settings.output == "-" and getattr(sys.stdout, "name", "") == os.devnull:
        raise UserError("standard output is closed, and -o - writes the video to it: name a file")
    check_outputs(request)


def _dry_run(request: Request) -> int:
    from fifo_diffusion.jobs.description import described

    with Interrupts() as interrupts:
        try:
            with interrupts.at_once():
                plan = _prepare(request)
                if request.settings.json:
                    return 0 if put(json_lines.described(plan)) else FAILURE
                for name, text in described(plan):
                    print(f"{name:<9} {words(text)}".rstrip())
        except Stopped:
            say(f"\nstopped by {interrupts.why} before the first frame")
    return interrupts.exit_code


def _generate(request: Request, ranks: "Ranks | None", locks: ExitStack) -> int:
    quiet, lines = _quiet(request), EventLines(request.settings.json and not _other())
    with Interrupts() as interrupts:
        try:
            with interrupts.at_once():
                plan = _prepare(request)
                if plan.num_frames is not None and plan.done >= plan.num_frames:
                    output = plan.videos[0].output
                    say(f"{output} has its {plan.done} frames: give a larger --num-frames to go on", quiet=_other())
                    return 0 if _told(output, lines, plan.done) else FAILURE
                plans = [plan]
                if request.batch:
                    plan = plan if _other() else resumed(plan)
                    videos = plan.videos if ranks is None else ranks.broadcast_object(plan.videos)
                    plans = [plan_of(plan, video) for video in videos]
                    if all(video.finished for video in videos):
                        told = [_is_finished(plan, video, quiet, lines) for video in videos]
                        return 0 if all(told) else FAILURE
                if request.continues and not _other():
                    locks.enter_context(locked(plan.videos[0].output))
                say(f"loading {plan.model_name} ({plan.dtype} on {plan.device})", quiet=quiet)
                lines.loading(plan)
                fifo = load(plan, ranks)
                lines.loaded(plan)
        except Stopped as stopped:
            if ranks is not None:
                ranks.abort(stopped)
            say(f"\nstopped by {interrupts.why} before the first frame", quiet=_other())
            lines.interrupted(interrupts.why)
            return interrupts.exit_code
        with fifo:
            code = 0
            for own in plans:
                video = own.videos[0]
                if video.finished:
                    code = code if _is_finished(own, video, quiet, lines) else FAILURE
                    continue
                with locked(video.output) if request.batch and not _other() else nullcontext():
                    result = _make(own, fifo, video, interrupts, lines)
                if result.stopped:
                    return interrupts.exit_code
                if video.output != "-" and not _told(video.output, lines):
                    code = FAILURE
    return code


def _make(plan: Plan, fifo: "FIFO", video: Video, interrupts: Interrupts, lines: EventLines) -> Result:
    """One video, as far as it gets."""
    shown, listed = Shown(plan, video, quiet=plan.request.quiet), lines.of(plan, video)

    def told_both(event: Event) -> None:
        shown(event)
        listed(event)

    try:
        result = runner.run(_watched(job_of(plan, fifo, video), plan), on_event=told_both, stop=interrupts)
    except Exception as error:
        if shown.failed is not None and shown.failed.refused:
            with usage_errors():
                raise
        told = explain(error)
        if shown.failed is not None and shown.failed.kept:
            told = type(told)(message_of(told), f"; {shown.failed.kept}")
        raise told from error
    if result.stopped and _other():
        say(f"fifo-diffusion (rank {torchrun_rank()}): stopped by {result.stopped}")
    return result


def _watched(job: Job, plan: Plan) -> Job:
    """The job, with its drift measured where that is asked for."""
    path = plan.request.settings.drift
    if path is None or _other():
        return job
    from fifo_diffusion.evaluation.drift_file import DriftFile

    goes_on = plan.state is not None
    return replace(job, watch=DriftFile(path, goes_on=goes_on, done=plan.done, notes=job.notes))


def _is_finished(plan: Plan, video: Video, quiet: bool, lines: EventLines) -> bool:
    say(f"{video.output} is finished: left as it is", quiet=quiet)
    return _told(video.output, lines, plan.num_frames)


def _told(output: str, lines: EventLines, finished: int | None = None) -> bool:
    """Say on standard output that a video is there: its name, or with --json its event, which the run has told already
    where it was made now; False where that cannot be written.

    Args:
        finished: frames of one that was there before; None: it was made now.
    """
    if lines.on:
        if finished is not None:
            lines.finished(output, finished)
        return not lines.lost
    return _other() or tell(output)


def _prepare(request: Request) -> Plan:
    if not request.settings.debug:
        from fifo_diffusion.jobs.libraries import quiet_libraries

        quiet_libraries()
    return make_plan(request)


def _other() -> bool:
    """Whether this is a rank that does not talk."""
    return bool(torchrun_rank())


def _quiet(request: Request) -> bool:
    return request.quiet or _other()


class Shown:
    """What a run says, for people. Ranks that do not talk show nothing.

    Args:
        plan, video: what is made.
        quiet: say only how to go on after a stop.
        advice: says that in the place of what is right for one file.

    Attributes:
        failed: how it failed, if it did.
    """

    def __init__(
        self, plan: Plan, video: Video, *, quiet: bool, advice: Callable[[Result], None] | None = None
    ) -> None:
        self.plan, self.video, self.quiet = plan, video, quiet
        self._advice = advice or self._say_how_to_go_on
        self.failed: Failed | None = None
        self._progress: Progress | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.failed = event
        if _other():
            return
        if isinstance(event, FrameDone) and self._progress is not None:
            self._progress.advance()
        elif isinstance(event, Started):
            self._introduce(event)
        elif isinstance(event, Opened):
            self._progress = Progress(self.plan.num_frames, self.plan.done, fps=self.plan.fps, quiet=self.quiet)
        elif isinstance(event, Note):
            say(f"note: {event.text}", quiet=self.quiet)
        elif isinstance(event, Closing | Failed | Ended) and self._progress is not None:
            self._progress.close()
            self._progress = None
        if isinstance(event, Ended) and event.result.stopped:
            self._advice(event.result)

    def _introduce(self, event: Started) -> None:
        plan, settings, quiet = self.plan, self.plan.settings, self.quiet
        length = "endless" if event.num_frames is None else f"{event.num_frames} frames"
        if plan.state is not None:
            length += f", going on from frame {event.done}"
        if plan.request.method == "fifo":
            steps = settings.queue_layout.title
            steps += f", preset {settings.preset}" if settings.preset else ""
        else:
            steps = f"{plan.request.method}, {settings.num_inference_steps} steps"
        size = f"{settings.width}x{settings.height}"
        say(f"{event.output}: {length}, {size}, seed {self.video.seed}, {steps}", quiet=quiet)
        for note in event.notes:
            say(f"note: {words(note)}", quiet=quiet)
        if event.first_frame_seconds:
            say(f"first frame in about {duration(event.first_frame_seconds)}", quiet=quiet)

    def _say_how_to_go_on(self, result: Result) -> None:
        """As much as was made is kept; what to type for the rest."""
        request, output, frames, state = self.plan.request, result.output, result.frames, self.plan.request.state_file
        if not frames:
            say(f"\nstopped by {result.stopped} before the first frame")
            return
        if output == "-":
            say(f"\nstopped by {result.stopped} after {frames} frames")
            return
        if request.batch:
            again = "type the same again to go on"
            if request.settings.overwrite:
                again = "type the same again, without --overwrite, to go on"
            kept = "finished videos are kept" if state else "finished videos are kept; with --state FILE this one too"
            advice = f"{again} ({kept})"
        elif state is not None:
            words: list[object] = ["fifo-diffusion", "generate", "--state", state]
            if not Path(output).absolute().is_relative_to(state.absolute().parent):
                words += ["-o", output]
            if request.settings.drift is not None:
                words += ["--drift", request.settings.drift]
            advice = f"go on with: {shell_words(words)}"
        else:
            command = request.command(**self.plan.changes(self.video), overwrite=True)
            advice = f"whole again: {command} (add --state FILE to go on where it stops)"
        say(f"\nstopped by {result.stopped}: {frames} frames are safe in {output}; {advice}")
