"""A run is a folder. Everything in it that can be known or asked for without the model.

run_1f2e3d4c5b6a/
  run.json        what was asked for; written last, never changed
  status.json     where it stands; replaced by its maker alone
  events.jsonl    what happened, for ever: the log and the timeline
  control.jsonl   commands by anybody; its maker reads them between frames
  lock            held by its maker
  at              how many frames there were before the one that is made now; exact also when its maker dies
  place           where it stands in the queue, if it was moved
  whole-*.mp4     its video joined, thumbnail-*.jpg: made when somebody asks, and made again when they are gone
  video/          00000000.mp4, 00000032.mp4 ...: parts, named by their first frame; the last one grows
  states/         00000032.safetensors ...: what the run can go on from, at borders of parts
  pins/           00000032: a state that is never thinned out
  live/           frame.jpg, queue.jpg, tick: only while somebody watches
  start/          the picture, video or folder that it starts from
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.locks import FileLock, is_locked
from fifo_diffusion.jobs.runs.commands import checked_command, is_command
from fifo_diffusion.jobs.runs.event_checks import is_event, whole
from fifo_diffusion.jobs.runs.event_checks import time as time_fits
from fifo_diffusion.jobs.runs.lines import append, read, with_ends
from fifo_diffusion.jobs.runs.requests import is_request
from fifo_diffusion.jobs.runs.status import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Status
from fifo_diffusion.version import __version__

ID = re.compile(r"run_[0-9a-f]{12}")
FORMAT = "fifo-diffusion run 1"
WATCHED_SECONDS = 5
"""How long pictures for watchers are written after `RunFolder.watch` was called."""


class RunFolder:
    """What a run's folder says and takes. Any number of processes may look at the same one at the same time.

    Attributes:
        folder: its folder; `id` is the folder's name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record: dict[str, Any] | None = None
        self._known: tuple[tuple[int, ...], Status, Status] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    # ------------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """run_ and twelve hexadecimal digits."""
        return self.folder.name

    @property
    def exists(self) -> bool:
        """Whether it is there and whole: it may have been removed meanwhile."""
        return (self.folder / "run.json").is_file()

    @property
    def record(self) -> dict[str, Any]:
        """All of run.json: `request`, `created_at` (Unix time in seconds), `parent`, `software`, `format`.

        Raises:
            UserError: it was removed, or is damaged or of another version of this program.
        """
        if self._record is None:
            try:
                record = json.loads((self.folder / "run.json").read_text("utf-8"))
                if not _is_record(record):
                    raise ValueError
            except FileNotFoundError as error:
                raise UserError(f"there is no run {self.id} in {self.folder.parent}") from error
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(
                    f"{self.folder / 'run.json'} is damaged, or of another version of this program"
                ) from error
            self._record = record
        return self._record

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for, as `requests.checked` gave it: settings by their names; `prompt` is a text, or there is
        `schedule`, {"0": text, "90s": text}. Always with `model` and `seed`, and with `num_frames`, `seconds` or
        `forever`. `start` of a file is its path inside of the folder, "start/start.png"."""
        return self.record["request"]

    @property
    def created_at(self) -> float:
        """Unix time in seconds."""
        return self.record["created_at"]

    @property
    def parent(self) -> dict[str, Any] | None:
        """Where it comes from: {"id": of the run, "frame": first that may differ, "prompt": where a new one was given};
        the parent may be gone. Else None."""
        return self.record["parent"]

    # ------------------------------------------------------------------ where it stands

    @property
    def status(self) -> Status:
        """Where it stands now. Raises `UserError` alone, for a run that was removed, or may not be read. Cheap: files
        that have not changed are not read again."""
        stamp = _stamp(self.folder / "status.json") + _stamp(self.folder / "control.jsonl")
        if self._known is None or self._known[0] != stamp:
            written = self.written_status()
            self._known = stamp, written, written.after(self.commands(written.control)[0])
        _, written, after = self._known
        if written.state != IN_PROGRESS:
            return after
        if self.is_owned():
            return written
        return replace(after, state=QUEUED, rate=0.0, pid=None, host="") if after.state == IN_PROGRESS else after

    def written_status(self) -> Status:
        """What its maker wrote last, without what follows from unread commands or from its being gone. Where that is
        damaged, by a power cut say, what the events tell.

        Raises:
            UserError: the run is gone.
        """
        try:
            return Status.of(json.loads((self.folder / "status.json").read_text("utf-8")))
        except (OSError, ValueError, RecursionError):
            if not self.exists:
                raise UserError(f"there is no run {self.id} in {self.folder.parent}") from None
        last, control, state, fps = None, 0, QUEUED, None
        for event in self.events()[0]:
            control = max(control, event.get("control", 0))
            fps = event.get("fps", fps) if event["event"] == "started" else fps
            last = event if event["event"] in ("started", "completed", "stopped", "failed") else last
        if last is not None:
            state = {"completed": COMPLETED, "stopped": COMPLETED, "failed": FAILED}.get(last["event"], QUEUED)
        frames = 0 if last is None else last.get("frame", 0)
        stopped = last is not None and last["event"] == "stopped"
        known = {"num_frames": self.request.get("num_frames"), "fps": fps, "stopped": stopped, "control": control}
        return Status(state, frames, **known)

    def publish(self, request: Mapping[str, Any], parent: Mapping[str, Any] | None) -> None:
        """Write run.json, the last file of a new run: from here on it is there, and a worker may take it.

        Raises:
            OSError: it cannot be written.
        """
        record = {"format": FORMAT, "software": f"fifo-diffusion {__version__}", "created_at": round(time.time(), 3)}
        record |= {"parent": None if parent is None else dict(parent), "request": dict(request)}
        with written_whole(self.folder / "run.json") as partial:
            partial.write_text(json.dumps(record, ensure_ascii=False, indent=1), "utf-8")

    def write_status(self, status: Status, *, lasting: bool = False) -> None:
        """For the one who has the lock: replace what `status` reads.

        Args:
            status: the whole of it; `updated_at` is set here.
            lasting: wait until it is on the disk.
        """
        record = vars(status) | {"updated_at": round(time.time(), 3)}
        with written_whole(self.folder / "status.json", lasting=lasting) as partial:
            partial.write_text(json.dumps(record))

    def died_at(self) -> int:
        """Frames that there were when its maker ended without a word."""
        try:
            return max(0, int((self.folder / "at").read_text()))
        except (OSError, ValueError):
            return 0

    def lock(self) -> FileLock:
        """Its lock, not taken yet: `take()` makes this process its maker, `release()` ends that."""
        return FileLock(self.folder / "lock")

    def is_owned(self) -> bool:
        """Whether a process makes it now, here or on another machine."""
        try:
            return is_locked(self.folder / "lock")
        except OSError:  # a folder that may not be written to: nobody here can make it either
            return False

    # ------------------------------------------------------------------ events

    def events(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """What happened, in order. Every event has `event` (its kind) and `at` (Unix time in seconds), and:

        * queued
        * forked: parent (id), frame (of the state that it goes on from), fork (first frame that may differ). What
          follows, of the time before, is the parent's
        * started: frame (number of the first that is made now), resumed, num_frames, fps, width, height, seed, slots,
          model, model_fps (at which its clips play), dtype, device, software, settings (all that shape the video,
          completed)
        * planned: frame (when it is to come into force), asked (there were so many then), and text and change, or keys,
          as below
        * prompt: text, frame (there were so many when it came into force), change ("tail", "queue" or "blend"), key
          (the frame at which a schedule makes the same change), schedule (of frames in the queue then, and later ones)
        * schedule: keys ({"120": text}, as they were given), frame, schedule (as with prompt)
        * snapshot: frame, change_frame (a prompt that is given then counts from this frame on)
        * extended: num_frames
        * died: frame (there were so many). Its maker ended without a word, and another goes on
        * paused, stopped, interrupted (its maker was ended in order, and the next one goes on): frame, why
        * resumed: keep, where it was given
        * failed: frame, code, message; completed: frame
        * note: text

        Those that follow from a command have `control`, the bytes of commands that were read then.

        Args:
            since: where to begin, in bytes, as an earlier call has told.

        Returns:
            the events, and where the next one will begin.
        """
        found, end = read(self.folder / "events.jsonl", since)
        return [event for event in found if is_event(event)], end

    def append_event(self, event: str, **fields: Any) -> int:
        """For the one who has the lock (and whoever makes or forks the run): say what happens; `at` is the time now,
        unless it is given.

        Returns:
            where the next event begins, in bytes.
        """
        return append(self.folder / "events.jsonl", {"at": round(time.time(), 3), "event": event} | fields)

    # ------------------------------------------------------------------ commands

    def command(self, kind: str, **fields: Any) -> None:
        """Ask its maker, or the next one, for something; it is done between two frames. From any process.

        * prompt: `text` from here on. `change`: "tail", "queue" or "blend", else as the run was begun with. `frame`:
          only once there are so many frames.
        * schedule: `keys`, {frame: text}: the prompts of all frames that can still be changed, in the place of those
          planned. Keys before the first of these frames count from that one on.
        * stop: end, with the frames that there are.
        * pause: end for now, and let no worker take it; resume: let one, also what was stopped or failed. `keep`: room
          that it may take from now on, "40GB".
        * pin, unpin: never thin out the state of this `frame`; let it go. That is done at once.
        * extend: make it `num_frames` long in all. Also what is completed.

        Raises:
            ValueError: there is no such command, or its fields do not fit.
            UsageError: a text that is no prompt.
            UserError: the run is gone, or the disk is full.
        """
        fields = checked_command(kind, fields)
        if not self.exists:
            raise UserError(f"there is no run {self.id} in {self.folder.parent}")
        try:
            if kind in ("pin", "unpin"):
                mark = self.folder / "pins" / f"{fields['frame']:08d}"
                mark.touch() if kind == "pin" else mark.unlink(missing_ok=True)
                return
            append(self.folder / "control.jsonl", {"at": round(time.time(), 3), "do": kind, **fields})
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror or error}") from error

    def commands(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Commands from a place in bytes on: each has `do` (its kind), `at` and the fields of `command`; and where the
        next one will begin. Those that are no commands of this version are left out."""
        found, end = read(self.folder / "control.jsonl", since)
        return [command for command in found if is_command(command)], end

    def commands_in_place(self, since: int = 0) -> list[tuple[dict[str, Any], int]]:
        """As `commands`, but with each one the place after it."""
        found = with_ends(self.folder / "control.jsonl", since)
        return [(command, end) for command, end in found if is_command(command)]

    # ------------------------------------------------------------------ files

    def parts(self) -> list[tuple[int, Path]]:
        """The parts of the video in order: number of the first frame, and the file. The last one may be growing, and
        is not there before its second frame."""
        return _numbered(self.folder / "video", ".mp4")

    def snapshots(self) -> list[int]:
        """Frames that it can go on from exactly, in order: there were so many when the state was saved."""
        return [frame for frame, _ in _numbered(self.folder / "states", ".safetensors")]

    def state_path(self, frame: int) -> Path:
        """The file of a snapshot."""
        return self.folder / "states" / f"{frame:08d}.safetensors"

    def part_path(self, frame: int) -> Path:
        """The part that begins with a frame."""
        return self.folder / "video" / f"{frame:08d}.mp4"

    def pins(self) -> list[int]:
        """Frames whose snapshots are never thinned out."""
        return [frame for frame, _ in _numbered(self.folder / "pins", "")]

    @property
    def live_folder(self) -> Path:
        """Where pictures for watchers are, while `watch` is called at least every few seconds: `frame.jpg` (the newest
        frame), `queue.jpg` (guesses of the frames in the queue, side by side, clean left to noisy right; only where
        the model can tell) and, replaced after them, `tick`: {"frames": how many there were, "at": Unix time, "queue":
        the first frame of each picture in `queue.jpg`}."""
        return self.folder / "live"

    def watch(self) -> None:
        """Say that somebody watches: for the next seconds its maker writes `live_folder`."""
        try:
            self.live_folder.mkdir(exist_ok=True)
            (self.live_folder / "watched").touch()
        except FileNotFoundError:  # it was removed
            pass

    @property
    def is_watched(self) -> bool:
        """Whether `watch` was called in the last seconds."""
        try:
            return time.time() - (self.live_folder / "watched").stat().st_mtime < WATCHED_SECONDS
        except OSError:
            return False

    def tick(self) -> int:
        """Frames that there were when the picture in `live_folder` was written; 0 where there is none."""
        frames = self._tick().get("frames")
        return frames if whole(frames) else 0

    def queue_frames(self) -> list[int]:
        """The first frame of each picture in `queue.jpg`; none where there is no such file."""
        frames = self._tick().get("queue")
        return frames if isinstance(frames, list) and all(map(whole, frames)) else []

    def _tick(self) -> dict[str, Any]:
        try:
            found = json.loads((self.live_folder / "tick").read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def delete(self) -> None:
        """Remove it with all its files. Runs that were forked from it keep theirs.

        Raises:
            UserError: it is being made (send the command stop, and wait until `is_owned` is false), or cannot be
                removed.
        """
        if not self.exists:
            raise UserError(f"there is no run {self.id} in {self.folder.parent}")
        with self.lock() as lock:
            try:
                if not lock.take():
                    raise UserError(f"{self.id} is being made: stop it first")
                gone = self.folder.with_name(f".removed-{self.id}-{secrets.token_hex(4)}")
                if os.name == "nt":  # there an open file cannot be moved
                    lock.release()
                os.replace(self.folder, gone)
            except OSError as error:
                raise UserError(f"cannot remove {self.folder}: {error.strerror or error}") from error
        shutil.rmtree(gone, ignore_errors=True)


def _is_record(record: Any) -> bool:
    """Whether it is what `publish` writes."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return False
    parent, made = record.get("parent", ...), time_fits(record.get("created_at"))
    return made and (parent is None or isinstance(parent, dict)) and is_request(record.get("request"))


def _numbered(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """Files named by eight digits or more, in order."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    named = re.compile(rf"([0-9]{{8,12}}){re.escape(suffix)}")
    return sorted((int(match[1]), folder / name) for name in names if (match := named.fullmatch(name)))


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino
