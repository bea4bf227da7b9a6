"""`--json`: answers and events for programs, one JSON object per line of standard output."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from fifo_diffusion.cli.errors import words
from fifo_diffusion.cli.progress import reason, say, silence
from fifo_diffusion.jobs.events import Ended, Event, FrameDone, Note, Opened, Result, Started, StateSaved
from fifo_diffusion.jobs.explained import code_of
from fifo_diffusion.jobs.plan import Plan
from fifo_diffusion.jobs.prompt_files import text_of
from fifo_diffusion.jobs.request import Video
from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.streaming.rate import Rate
from fifo_diffusion.version import __version__


def put(record: Mapping[str, Any]) -> bool:
    """Write one line; False where standard output cannot be written, and then nothing more is written to it."""
    try:
        print(json.dumps(record, ensure_ascii=True, separators=(",", ":")), flush=True)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        say(f"fifo-diffusion: standard output cannot take what --json tells: {reason(error)}")
        return False
    return True


def put_event(event: str, **fields: Any) -> bool:
    """Write one event, with the time now (Unix time in seconds) as `at`, as in the log of a run."""
    return put({"at": round(time.time(), 3), "event": event} | fields)


def put_failure(error: Exception, exit_code: int, message: str) -> bool:
    """Write the last event of a command that failed."""
    return put_event("failed", code=code_of(error), message=message, exit_code=exit_code)


class EventLines:
    """What happens in `generate`, for programs, in the words of a run's log (docs/ecosystem.md).

    Args:
        on: whether it is asked for, and this process is the one that tells; else nothing is written.

    Attributes:
        on: as given.
        lost: standard output could not be written. Videos are made all the same.
    """

    def __init__(self, on: bool) -> None:
        self.on, self.lost = on, False

    def tell(self, event: str, **fields: Any) -> None:
        """One event."""
        if self.on and not self.lost:
            self.lost = not put_event(event, **fields)

    def loading(self, plan: Plan) -> None:
        """The model's weights are loaded now."""
        self._loading = time.monotonic()
        self.tell("loading", **_model(plan))

    def loaded(self, plan: Plan) -> None:
        """They are there."""
        self.tell("loaded", **_model(plan), seconds=round(time.monotonic() - self._loading, 3))

    def finished(self, output: str, frames: int | None) -> None:
        """A video is complete already, and nothing is made of it."""
        self.tell("completed", frame=frames, output=output, made=0, seconds=0.0)

    def interrupted(self, why: str) -> None:
        """A stop was asked for before the first frame."""
        self.tell("interrupted", frame=0, why=why, made=0)

    def of(self, plan: Plan, video: Video) -> "_OneVideo":
        """Who listens to the events of one video."""
        return _OneVideo(self, plan, video)

    def of_run(self, run: Run) -> "_OneRun":
        """Who listens to the events of a run in a folder."""
        return _OneRun(self, run)


class _Frames:
    """The event of each frame."""

    def __init__(self, lines: EventLines) -> None:
        self._lines, self._rate, self._began = lines, Rate(), time.monotonic()

    def begin(self) -> None:
        self._began = time.monotonic()

    def came(self, frames: int) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        self._lines.tell("frame", frame=frames, seconds=seconds, rate=self._rate.came() or None)


class _OneVideo:
    """Events of a video that goes into a file."""

    def __init__(self, lines: EventLines, plan: Plan, video: Video) -> None:
        self._lines, self._plan, self._video, self._frames = lines, plan, video, _Frames(lines)
        keys = {} if isinstance(video.prompt, str) else video.prompt
        self._prompts = {int(key): said for key, said in keys.items() if int(key)}  # type: ignore[call-overload]

    def __call__(self, event: Event) -> None:
        lines = self._lines
        if isinstance(event, Started):
            self._begin(event)
        elif isinstance(event, Opened):
            self._frames.begin()
        elif isinstance(event, FrameDone):
            if (said := self._prompts.get(event.frames - 1)) is not None:
                way = {"change": said["change"]} if isinstance(said, Mapping) and "change" in said else {}
                lines.tell("prompt", frame=event.frames - 1, text=text_of(said), **way)
            self._frames.came(event.frames)
        elif isinstance(event, StateSaved):
            lines.tell("snapshot", frame=event.frames, state=str(event.path))
        elif isinstance(event, Note):
            lines.tell("note", text=words(event.text))
        elif isinstance(event, Ended):
            self._end(event.result)

    def _begin(self, event: Started) -> None:
        plan, settings = self._plan, self._plan.settings
        prompt = self._video.prompt
        self._lines.tell(
            "started",
            frame=event.done,
            resumed=bool(event.done),
            num_frames=event.num_frames,
            output=event.output,
            prompt=prompt if isinstance(prompt, str) else {str(key): said for key, said in prompt.items()},
            seed=self._video.seed,
            width=settings.width,
            height=settings.height,
            scale=plan.scale,
            fps=plan.fps,
            method=plan.request.method,
            slots=plan.settings.queue_layout.slots if plan.request.method == "fifo" else None,
            **_model(plan),
            software=f"fifo-diffusion {__version__}",
            settings=settings.to_json(),
        )
        for note in event.notes:
            self._lines.tell("note", text=words(note))

    def _end(self, result: Result) -> None:
        what, why = ("interrupted", {"why": result.stopped}) if result.stopped else ("completed", {})
        made = {"made": result.made, "seconds": round(result.seconds, 3)}
        self._lines.tell(what, frame=result.frames, **why, output=result.output, **made)


class _OneRun:
    """Events of a run: the lines of its log as they come, and its frames."""

    def __init__(self, lines: EventLines, run: Run) -> None:
        self._lines, self._run, self._frames = lines, run, _Frames(lines)
        self._read = run.events()[1]

    def __call__(self, event: Event) -> None:
        self.news()
        if isinstance(event, Started):
            for note in event.notes:
                self._lines.tell("note", text=words(note))
        elif isinstance(event, Opened):
            self._frames.begin()
        elif isinstance(event, FrameDone):
            self._frames.came(event.frames)
        elif isinstance(event, Note):
            self._lines.tell("note", text=words(event.text))

    def news(self) -> None:
        """Pass on what the log has got since."""
        if not self._lines.on:
            return
        found, self._read = self._run.events(self._read)
        for record in found:
            if record["event"] != "failed":  # which the command tells itself, with its exit code
                self._lines.tell(**record | {"output": str(self._run.folder)})


def _model(plan: Plan) -> dict[str, Any]:
    return {"model": plan.model_name, "device": plan.device, "dtype": plan.dtype}


def described(plan: Plan) -> dict[str, Any]:
    """The answer of `generate --dry-run --json`."""
    from fifo_diffusion.jobs.description import counted

    def said(prompt: Any) -> Any:
        return prompt if isinstance(prompt, str) else {str(key): text for key, text in prompt.items()}

    videos = [{"output": video.output, "seed": video.seed, "prompt": said(video.prompt)} for video in plan.videos]
    known = _model(plan) | {"family": plan.model.family, "method": plan.request.method, "done": plan.done}
    return known | {"videos": videos, "settings": plan.settings.to_json()} | counted(plan, words)
