"""What the routes of one server share, and how runs are made of requests."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs.requests import checked
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.timeline import fps_of, prompts_of
from fifo_diffusion.settings import Settings, specs
from fifo_diffusion.studio import fields as of_request
from fifo_diffusion.studio import pictures
from fifo_diffusion.studio.answers import HttpError, conflict, refused
from fifo_diffusion.studio.board import Board
from fifo_diffusion.studio.events import Listeners
from fifo_diffusion.studio.fields import Asked, Upload, asked
from fifo_diffusion.studio.guard import Door
from fifo_diffusion.studio.planning import Planner
from fifo_diffusion.studio.retries import Retries
from fifo_diffusion.studio.workers import Workers
from fifo_diffusion.text import shortened

T = TypeVar("T")

STOP_SECONDS = 10
"""How long a deletion waits for the video's maker to stop."""
LENGTHS = ("num_frames", "seconds", "forever")


@dataclass
class Studio:
    """One server.

    Attributes:
        runs: the folder of runs.
        models: names that may be asked for; the first is taken where none is named.
        loras: likewise of LoRAs.
        door: whom it lets in.
        workers: who makes the videos; None: somebody else starts them.
        page: whether it has one.
        answered: answers by status, since it started.
    """

    runs: Runs
    models: tuple[str, ...]
    loras: tuple[str, ...] = ()
    door: Door = field(default_factory=Door)
    workers: Workers | None = None
    page: bool = True
    answered: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.board = Board(self.runs, self.models)
        self.retries = Retries(self.runs)
        self.planner = Planner()
        self.listeners = Listeners(self.board)

    @property
    def uploads(self) -> Path:
        """Where files of clients lie until somebody has read them."""
        return self.runs.root / ".uploads"

    # ------------------------------------------------------------------ what is asked for

    def wanted(self, fields: Mapping[str, Any], **how: Any) -> Asked:
        """The fields of a new video, with models and LoRAs from the server's lists.

        Args:
            fields: from the wire.
            **how: for `fields.asked`.

        Raises:
            HttpError: one does not fit.
        """
        found = asked(fields, **how)
        self._check_names(found.settings)
        return found

    def _check_names(self, settings: Mapping[str, Any]) -> None:
        model = settings.get("model")
        if model is not None and model not in self.models:
            told = f"there is no model {shortened(model, 80)} here: give {' or '.join(self.models)}"
            raise HttpError(400, f"{told} (others: start the server with --models)", "model")
        for name in settings.get("lora", ()):
            place = name if name in self.loras else name.rpartition(":")[0]
            if place not in self.loras:
                offered = ", ".join(self.loras) or "the server was started without any"
                raise HttpError(400, f"there is no LoRA {shortened(name, 80)} here: {offered}", "lora")

    async def create(self, found: Asked, parent: Mapping[str, Any] | None = None) -> Run:
        """A new run.

        Raises:
            HttpError: it does not fit together, or cannot be kept.
        """
        settings = {"model": self.models[0]} | found.settings
        if found.start_of is not None:
            file = pictures.start_file(self.board.get(found.start_of))
            if file is None:
                raise HttpError(400, f"{found.start_of} did not start from a file", "start_of")
            return await attempt(lambda: self.runs.create(settings, start_file=file, parent=parent))
        if found.start is None:
            return await attempt(lambda: self.runs.create(settings, parent=parent))
        path = self.kept(found.start, "input_reference")
        try:
            return await attempt(lambda: self.runs.create(settings, start_file=path, parent=parent))
        finally:
            path.unlink(missing_ok=True)

    def kept(self, upload: Upload, name: str) -> Path:
        """An upload as a file, to be removed by the caller.

        Raises:
            HttpError: it is no picture or video by its name; 503, the disk is full.
        """
        if not upload.suffix:
            raise HttpError(400, f"{name}: {upload.name[:80]} is no picture or video by its ending", name)
        return pictures.kept_upload(self.uploads, upload.data, upload.suffix)

    async def cost(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What a video would cost; nothing is made.

        Args:
            fields: of a new video, from the wire. What is wrong with them is in the answer.

        Raises:
            HttpError: 503, nobody answers.
        """
        path = None
        try:
            found = self.wanted(fields)
            settings = {"model": self.models[0]} | found.settings
            file = None if found.start_of is None else pictures.start_file(self.board.get(found.start_of))
            if found.start is not None:
                file = path = self.kept(found.start, "input_reference")
            whole = await attempt(lambda: checked(settings, start_file=file))
            return await self.planner.ask(whole | ({} if file is None else {"start": str(file)}))
        except HttpError as error:
            if error.status >= 500:
                raise
            return {"ok": False, "error": {"message": error.message, "param": error.param}}
        finally:
            if path is not None:
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ runs out of runs

    async def fork(self, run: Run, at: int | None, fields: Mapping[str, Any]) -> Run:
        """A run that has the first frames of another one.

        Args:
            run: the other one.
            at: the first frame that may differ; None: after its last one.
            fields: `prompt`, `change`; `num_frames` or `seconds` in all.

        Raises:
            HttpError: it cannot be.
        """
        of_request.no_others(fields, "frame", "prompt", "change", "num_frames", "seconds")
        count = of_request.whole_of(fields, "num_frames", 1)
        if count is None and fields.get("seconds") is not None:
            count = frames_of(fields, fps_of(run))
        prompt, change = of_request.text_of(fields, "prompt"), of_request.text_of(fields, "change")
        return await attempt(lambda: run.fork(at, prompt, num_frames=count, change=change))

    async def remix(self, run: Run, prompt: str, changes: Asked) -> Run:
        """A run of the same settings and seed under another prompt, from the first frame on.

        Raises:
            HttpError: the changes do not fit.
        """
        if changes.start is not None or changes.start_of is not None:
            raise HttpError(400, "a remix starts as its run did: leave the file out", "input_reference")
        settings = dict(changes.settings)
        if any(name in settings for name in LENGTHS):
            settings = dict.fromkeys(LENGTHS) | settings
        return await attempt(lambda: run.remix(prompt, **settings))

    async def lengthened(self, run: Run, fields: Mapping[str, Any], at: int | None = None) -> Run:
        """A run that goes on where another one ends.

        Args:
            run: the other one.
            fields: `seconds` or `num_frames` that are added; `prompt`.
            at: frames of the other one that it has; None: all.

        Raises:
            HttpError: it cannot be.
        """
        more, prompt = frames_of(fields, fps_of(run)), of_request.text_of(fields, "prompt")

        def forked() -> Run:
            there = run.status.frames
            end = there if at is None else min(at, there)
            last = list(prompts_of(run).values())[-1]
            same = prompt == (last["prompt"] if isinstance(last, dict) else last)
            return run.fork(end, None if same else prompt, num_frames=end + more)

        return await attempt(forked)

    async def lengthened_file(self, upload: Upload, fields: Mapping[str, Any]) -> Run:
        """A run that goes on where a file ends: bit for bit where it is one of ours, else from its frames.

        Args:
            upload: the file.
            fields: as for `lengthened`; `model` for a file that is not ours.

        Raises:
            HttpError: it cannot be.
        """
        path = self.kept(upload, "video")
        try:
            id, frames = await self.planner.origin(path)
            run = self.runs.get(id)
            if run is not None and run.status.frames:
                return await self.lengthened(run, fields, frames)
            return await self._grown(upload, path, fields)
        finally:
            path.unlink(missing_ok=True)

    async def _grown(self, upload: Upload, path: Path, fields: Mapping[str, Any]) -> Run:
        new = {name: fields[name] for name in ("prompt", "model") if fields.get(name)}
        found = self.wanted(new | {"include_start": True, "input_reference": upload})
        whole = await attempt(lambda: checked({"model": self.models[0]} | found.settings, start_file=path))
        plan = await self.planner.ask(whole | {"start": str(path)})
        if not plan["ok"]:
            raise HttpError(400, plan["error"]["message"], plan["error"]["param"])
        count = plan["given"] + frames_of(fields, plan["fps"])
        return await self.create(Asked(found.settings | {"num_frames": count}, found.start))

    async def delete(self, run: Run) -> None:
        """Remove a run; one that is being made is stopped first.

        Raises:
            HttpError: 409, that takes longer.
        """
        until = time.monotonic() + STOP_SECONDS
        if run.is_owned():
            run.command("stop")
        while run.is_owned():
            if time.monotonic() > until:
                raise conflict(f"{run.id} is being made: it stops after its next frame, delete it again then")
            await asyncio.sleep(0.1)
        await attempt(run.delete)


def frames_of(fields: Mapping[str, Any], fps: float | None) -> int:
    """The frames in `num_frames` or `seconds`.

    Args:
        fields: from the wire.
        fps: frames per second; None: not known.

    Raises:
        HttpError: neither is there, or the rate is needed and not known.
    """
    count = of_request.whole_of(fields, "num_frames", 1)
    if count is not None:
        return count
    if fields.get("seconds") is None:
        raise HttpError(400, "seconds is missing: say how long, in seconds, or as num_frames", "seconds")
    seconds = of_request.setting_of(specs(Settings)["seconds"].kind, "seconds", fields["seconds"])
    if fps is None:
        raise HttpError(400, "the frame rate is not known before the run begins: give num_frames", "seconds")
    return max(1, round(seconds * fps))


async def attempt(make: Callable[[], T]) -> T:
    """Work on files, in a thread.

    Raises:
        HttpError: 400, what was asked for does not fit; 409, it failed.
    """
    try:
        return await asyncio.to_thread(make)
    except (ValueError, TypeError) as error:
        raise refused(error) from error
    except UserError as error:
        raise refused(error) from error
