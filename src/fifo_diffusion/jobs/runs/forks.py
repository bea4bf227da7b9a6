"""New runs that begin with the frames of another one."""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import ArgumentError, UserError
from fifo_diffusion.jobs.request import check_texts
from fifo_diffusion.jobs.runs.commands import CHANGE
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.runs.timeline import prompts_of
from fifo_diffusion.settings import STARTS

FOLDERS = ("video", "states", "pins", "live")
HISTORY = ("started", "planned", "prompt", "schedule")
"""Events of the frames that a fork has from its parent."""


def fork(
    parent: RunFolder,
    at: int | None,
    prompt: str | None,
    *,
    num_frames: int | None = None,
    schedule: Mapping[int, str] | None = None,
    change: str | None = None,
    snapshot: int | None = None,
) -> RunFolder:
    """See `Run.fork`.

    Args:
        snapshot: the state to go on from; None: the newest at or before `at`.
    """
    status = parent.status
    at = status.frames if at is None else at
    if at < 0 or at > status.frames:
        raise UserError(f"{parent.id} has {status.frames} frames: give a frame from 0 to {status.frames}, not {at}")
    check_texts(prompt, None)
    if change is not None:
        CHANGE.take("change", change)
    request = dict(parent.request)
    num_frames = status.num_frames if num_frames is None else num_frames
    if num_frames is not None:
        request = {name: value for name, value in request.items() if name not in ("seconds", "forever")}
        request["num_frames"] = num_frames
    if num_frames is not None and num_frames <= at:
        raise ArgumentError("num_frames", num_frames, f"it counts all frames, and {at} are there: give more")
    record = {"id": parent.id, "frame": at}
    record |= {} if prompt is None else {"prompt": prompt}
    child = RunFolder(parent.folder.with_name(f"run_{secrets.token_hex(6)}"))
    try:
        for name in FOLDERS:
            (child.folder / name).mkdir(parents=True)
        frame = _take_frames(parent, child, at if snapshot is None else snapshot)
        if request.get("start", STARTS[0]) not in STARTS:
            link_tree(parent.folder / "start", child.folder / "start")
        known = {name: getattr(status, name) for name in ("fps", "width", "height", "seed", "slots")}
        child.write_status(Status(frames=frame, num_frames=num_frames, **known))
        child.append_event("queued")
        child.append_event("forked", parent=parent.id, frame=frame, fork=at)
        changed = prompt is not None or schedule is not None
        for event in parent.events()[0]:
            kind = event["event"]
            if (
                (kind in HISTORY and event["frame"] < at)
                or (kind == "snapshot" and event["frame"] <= frame)
                or (kind == "planned" and not changed and event.get("asked", 0) <= at)
            ):
                _inherit(child, event)
        if prompt is not None:
            child.append_event("planned", text=prompt, frame=at, change=change, asked=frame)
        if schedule is not None:
            child.append_event(
                "planned", keys={str(key): text for key, text in schedule.items()}, frame=at, asked=frame
            )
        child.publish(request, record)
    except (OSError, UserError) as error:
        shutil.rmtree(child.folder, ignore_errors=True)
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot fork {parent.id}: {error.strerror or error}") from error
    return child


def _inherit(child: RunFolder, event: Mapping[str, Any]) -> None:
    """Into the child's log, under the time at which it happened."""
    child.append_event(**{name: value for name, value in event.items() if name != "control"})


def rerender(
    parent: RunFolder, from_frame: int, schedule: Mapping[int, str], num_frames: int | None = None
) -> RunFolder:
    """See `Run.rerender`."""
    early = [frame for frame in schedule if frame < from_frame]
    if early or not schedule:
        has = f"it has one for frame {min(early)}" if early else "it is empty"
        raise ValueError(f"the schedule holds prompts from frame {from_frame} on, and {has}")
    first = {event["frame"]: event["change_frame"] for event in parent.events()[0] if event["event"] == "snapshot"}
    fits = [frame for frame in parent.snapshots() if first.get(frame, from_frame + 1) <= from_frame]
    if not fits:
        least = min((first[frame] for frame in parent.snapshots() if frame in first), default=None)
        says = "it has no state yet" if least is None else f"its earliest state shapes frames from {least} on"
        raise UserError(
            f"frame {from_frame} of {parent.id} cannot be changed: {says}; make it anew with another schedule"
        )
    at = max(fits)
    kept = {frame: text for frame, text in prompts_of(parent).items() if first[at] <= frame < from_frame}
    return fork(parent, at, None, num_frames=num_frames, schedule=kept | dict(schedule), snapshot=at)


def _take_frames(parent: RunFolder, child: RunFolder, at: int) -> int:
    """Link the states up to a frame, and the parts before the newest of them, which is returned."""
    wanted = [frame for frame in parent.snapshots() if frame <= at]
    got = -1
    for frame in wanted:
        try:
            link(parent.state_path(frame), child.state_path(frame))
            got = frame
        except FileNotFoundError:  # thinned out meanwhile
            continue
    if got < 0:
        raise UserError(f"{parent.id} has no state at or before frame {at}: its first frame is not there yet")
    for first, part in parent.parts():
        if first < got:
            link(part, child.part_path(first))
    return got


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def link_tree(source: Path, target: Path) -> None:
    """All files of a folder, linked."""
    shutil.copytree(source, target, copy_function=lambda one, other: link(Path(one), Path(other)))
