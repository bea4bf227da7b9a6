"""`Runs`: a folder of runs, and what can be made of one: forks, longer ones, other ones."""

import math
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.locks import FileLock, is_locked
from fifo_diffusion.jobs.runs import forks, parts
from fifo_diffusion.jobs.runs.folder import ID, RunFolder
from fifo_diffusion.jobs.runs.requests import checked
from fifo_diffusion.jobs.runs.status import QUEUED, Status
from fifo_diffusion.settings import STARTS
from fifo_diffusion.video import VideoFileError, read_metadata

WORKERS = ".workers"
"""Folder in a folder of runs with a file for each worker, which it holds locked."""


class Run(RunFolder):
    """One run: what its folder says and takes (see `RunFolder`), and what can be made of it. Nothing here computes a
    frame; a worker, or `generate --run`, does."""

    held: FileLock | None = None
    """Its lock, where `Runs.create` was to take it."""

    @property
    def place(self) -> float:
        """Where it stands among those that wait: the smallest comes first. When it was made, until it is moved."""
        try:
            place = float((self.folder / "place").read_text())
        except (OSError, ValueError):
            return self.created_at
        return place if math.isfinite(place) else self.created_at

    @place.setter
    def place(self, place: float) -> None:
        try:
            with written_whole(self.folder / "place", lasting=False, alone=False) as partial:
                partial.write_text(repr(place))
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror or error}") from error

    def fork(
        self,
        at: int | None = None,
        prompt: str | None = None,
        *,
        num_frames: int | None = None,
        schedule: Mapping[int, str] | None = None,
        change: str | None = None,
    ) -> "Run":
        """A new run that has this one's first frames and goes on from there by itself.

        The frames before `at` are the same, and shared by hard links where the file system has them. Where no state was
        kept at `at`, those between the newest before it and `at` are computed again, bit for bit. With neither prompt
        nor schedule it goes on as this run would have from there: with the prompts that were planned by then, without
        those that were given later.

        Args:
            at: the first frame that may differ; None: after the last one that is there.
            prompt: from `at` on; None: as in this run.
            num_frames: in all; None: as in this run.
            schedule: instead of a prompt, {frame: text} for frames still to come.
            change: how the prompt changes: "tail", "queue" or "blend".

        Returns:
            the new run, queued, in the same folder of runs.

        Raises:
            UserError: no such frame is there yet, or no state before it; `num_frames` are not more than `at`; the disk
                is full.
        """
        return Run(forks.fork(self, at, prompt, num_frames=num_frames, schedule=schedule, change=change).folder)

    def rerender(self, from_frame: int, schedule: Mapping[int, str], *, num_frames: int | None = None) -> "Run":
        """A new run with other prompts from a frame of the video on, as if the schedule had been so from the start.

        It is a fork at the newest state from which frame `from_frame` can still be shaped wholly; with
        `prompt_change="tail"` the frames shortly before it change a little too, since they are denoised beside it.

        Args:
            from_frame: the first one that is wholly under new prompts; there may be fewer frames now.
            schedule: {frame: text} with keys from `from_frame` on; what this run has before stays.
            num_frames: in all; None: as in this run.

        Raises:
            UserError, ValueError: as `fork`; keys before `from_frame`; no kept state is early enough.
        """
        return Run(forks.rerender(self, from_frame, schedule, num_frames).folder)

    def remix(self, prompt: str, **changes: Any) -> "Run":
        """A new run from the first frame on: the same settings and seed, another prompt.

        Args:
            prompt: in the place of this run's prompt or schedule.
            **changes: of other settings, by name.

        Raises:
            UsageError, ArgumentError, UserError: as `Runs.create`.
        """
        request = {name: value for name, value in self.request.items() if name != "schedule"} | {"prompt": prompt}
        start = request.pop("start", None)
        kept = start is not None and start not in STARTS
        request |= {"start": start} if start in STARTS else {}
        file = self.folder / start if kept else None
        parent = {"id": self.id, "frame": 0}
        return Runs(self.folder.parent).create(request | changes, start_file=file, parent=parent)

    def extend(self, frames: int) -> "Run":
        """Make it so many frames longer, in its own folder: than it was to be, or than it is where it was stopped. A
        completed one is queued again.

        Returns:
            itself.

        Raises:
            UserError: it is endless, or its length is not known before it begins.
            ValueError: frames are fewer than 1.
        """
        if frames < 1:
            raise ValueError(f"frames={frames}: give at least 1")
        status = self.status
        if self.request.get("forever"):
            raise UserError(f"{self.id} is endless already")
        if status.num_frames is None:
            raise UserError(f"{self.id} has not begun, and its length in frames is not known yet: extend it later")
        base = status.frames if status.stopped else status.num_frames
        self.command("extend", num_frames=base + frames)
        return self

    def join(self, path: str | os.PathLike[str], frames: int | None = None) -> int:
        """Its video as one ordinary mp4 (index in front, sound of the start file where there is some). Packets are
        copied, nothing is encoded anew. Works while it is being made.

        Args:
            path: where it goes; replaced when it is whole.
            frames: no more than these; None: all that are there.

        Returns:
            the number of frames in it.

        Raises:
            UserError: there is no frame yet, or the file cannot be written.
        """
        return parts.join(self, path, frames)

    def frame(self, number: int) -> np.ndarray:
        """One frame of the video: uint8 (height, width, 3), as it is in the file. Works while it is being made, but for
        the newest frame.

        Args:
            number: from 0 on.

        Raises:
            UserError: it is not there yet, or no longer.
        """
        return parts.frame(self, number)

    def thumbnail(self) -> bytes:
        """A JPEG of about the middle of the video so far, of at most 320 pixels a side; kept in its folder.

        Raises:
            UserError: there is no frame yet.
        """
        return parts.thumbnail(self)


class Runs:
    """A folder of runs.

    Args:
        root: the folder; it is made with the first run.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._known: dict[str, Run] = {}

    def create(
        self,
        request: Mapping[str, Any],
        *,
        start_file: str | os.PathLike[str] | None = None,
        parent: Mapping[str, Any] | None = None,
        lock: bool = False,
    ) -> Run:
        """A new run, queued: a worker will make it.

        Args:
            request: settings by their names, as `FIFO.stream` and the command have them: `prompt`, or `schedule` as
                {0: text, "90s": text}; `num_frames`, `seconds` or `forever`; `model`, `seed` and so on. Without a seed
                one is drawn.
            start_file: a picture, video or folder of pictures that it starts from; it is copied.
            parent: for `Run.parent`.
            lock: take its lock before anybody else can see it, so that this process makes it; see `Run.held`.

        Raises:
            UsageError, ArgumentError: the request does not fit; see `requests.checked`.
            UserError: the folder cannot be written.
        """
        whole = checked(request, start_file=start_file)
        folder = self.root / f"run_{secrets.token_hex(6)}"
        try:
            for name in ("video", "states", "pins", "live"):
                (folder / name).mkdir(parents=True)
            if start_file is not None:
                _copy(Path(start_file), folder / whole["start"])
            run = Run(folder)
            run.write_status(Status(num_frames=whole.get("num_frames"), seed=whole["seed"]))
            run.append_event("queued")
            if lock:
                run.held = run.lock()
                run.held.take()
            run.publish(whole, parent)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"cannot make a run in {self.root}: {error.strerror or error}") from error
        self._known[run.id] = run
        return run

    def get(self, id: str) -> Run | None:
        """The run of this id; None where there is none, or it is no id."""
        if not ID.fullmatch(id):
            return None
        run = self._known.get(id) or Run(self.root / id)
        if not run.exists:
            self._known.pop(id, None)
            return None
        self._known[id] = run
        return run

    def queue(self) -> list[Run]:
        """Those that wait for a worker, in the order in which they are to be made: the oldest first, but for those that
        were moved. Paused ones do not wait."""
        waiting = []
        for run in self.list():
            try:
                status = run.status
                if status.state == QUEUED and not status.paused:
                    waiting.append((run.place, run.created_at, run.id, run))
            except UserError:  # removed meanwhile
                continue
        return [run for *_, run in sorted(waiting, key=lambda each: each[:3])]

    def list(self) -> list[Run]:
        """All runs, the newest first. Damaged ones are left out."""
        try:
            names = [entry.name for entry in os.scandir(self.root) if ID.fullmatch(entry.name)]
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            run = self.get(name)
            try:
                if run is not None:
                    found.append((run.created_at, run.id, run))
            except UserError:
                continue
        self._known = {run.id: run for _, _, run in found}
        return [run for _, _, run in sorted(found, key=lambda each: each[:2], reverse=True)]

    def move(self, run: Run, before: Run | None) -> None:
        """Give a run that waits another place in the queue.

        Args:
            run: which.
            before: the one that is to come after it; None: it is to be the last one.

        Raises:
            UserError: it cannot be written.
        """
        others = [each for each in self.queue() if each != run]
        places = [each.place for each in others]
        if before is None or before not in others:
            run.place = max(places, default=run.created_at) + 1
            return
        at = others.index(before)
        run.place = (places[at - 1] + places[at]) / 2 if at else places[at] - 1

    def workers(self) -> int:
        """How many workers look after this folder now, on all machines that share it."""
        try:
            files = list((self.root / WORKERS).iterdir())
        except OSError:
            return 0
        found = 0
        for file in files:
            try:
                found += is_locked(file)
            except OSError:  # another user's
                found += 1
        return found

    def of_video(self, path: str | os.PathLike[str]) -> Run | None:
        """The run that a video file was joined from, by what the file says; None where it does not, or the run is
        gone. For files that somebody gives back, to go on with."""
        try:
            return self.get(read_metadata(path).get("run", ""))
        except (VideoFileError, OSError):
            return None

    def find(self, name: str) -> Run:
        """The run that a person names: an id, the beginning of one (with or without run_), "last" for the newest, or
        the path of its folder.

        Raises:
            UserError: there is none, or there are several; the message helps.
        """
        path = Path(name)
        if path.name != name and ID.fullmatch(path.name) and Run(path).exists:
            return Run(path)
        every = self.list()
        if name == "last" and every:
            return every[0]
        begins = name if name.startswith("run_") else f"run_{name}"
        found = [run for run in every if run.id.startswith(begins)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(run.id for run in found[:4]) + (", ..." if len(found) > 4 else "")
            raise UserError(f"{name} may be any of {ids}: give more of the id")
        there = f"the newest is {every[0].id}" if every else "there is none yet"
        raise UserError(f"there is no run {name} in {self.root} ({there})")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir()
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
