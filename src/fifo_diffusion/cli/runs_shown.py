"""Runs as lines of text."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs.requests import first_prompt_of
from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.jobs.runs.snapshots import size_of
from fifo_diffusion.jobs.runs.status import COMPLETED, IN_PROGRESS, Status
from fifo_diffusion.text import duration, one_line, shortened


def table(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each run."""
    yield f"{'run':<17} {'state':<12} {'frames':>15} {'age':>12}  prompt"
    for run in runs:
        try:
            status = run.status
        except UserError:  # removed meanwhile
            continue
        age = duration(time.time() - run.created_at)
        said = (run.parent or {}).get("prompt") or first_prompt_of(run.request)
        yield f"{run.id:<17} {state_of(status):<12} {_frames(status, run):>15} {age:>12}  {shortened(said, 50)}"


def records(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """An object for each run."""
    for run in runs:
        with suppress(UserError):  # removed meanwhile
            yield record(run)


def record(run: Run) -> dict[str, Any]:
    """What is known of one run, for programs: names as in docs/http.md."""
    status = run.status
    known = (
        "frames",
        "num_frames",
        "fps",
        "width",
        "height",
        "seed",
        "stopped",
        "paused",
        "error",
        "eta_seconds",
        "device",
    )
    return {
        "id": run.id,
        "folder": str(run.folder),
        "status": status.state,
        **{name: getattr(status, name) for name in known},
        "rate": status.rate or None,
        "created_at": run.created_at,
        "completed_at": status.completed_at,
        "prompt": first_prompt_of(run.request),
        "snapshots": run.snapshots(),
        "pins": run.pins(),
        "bytes": size_of(run.folder),
        "parent": run.parent,
        "request": run.request,
    }


def state_of(status: Status) -> str:
    """In a word."""
    if status.paused:
        return "paused"
    return "stopped" if status.stopped and status.state == COMPLETED else status.state.replace("_", " ")


def facts(run: Run) -> Iterator[str]:
    """All that is known of one run."""
    status = run.status
    told = {"run": run.id, "folder": run.folder, "state": state_of(status), "frames": _frames(status, run)}
    if status.state == IN_PROGRESS:
        left = "" if status.eta_seconds is None else f", about {duration(status.eta_seconds)} left"
        told["rate"] = f"{status.rate:g} frames/s{left}"
        told["made by"] = f"pid {status.pid} on {status.host} ({status.device})"
    if status.error is not None:
        told["error"] = status.error["message"]
    if run.parent is not None:
        told["fork of"] = f"{run.parent['id']} at frame {run.parent['frame']}"
    told["states at"] = ", ".join(f"{frame}{'*' * (frame in run.pins())}" for frame in run.snapshots()) or "none yet"
    told["size"] = f"{size_of(run.folder) / 1e6:.1f} MB"
    told |= {name: value for name, value in run.request.items() if name != "schedule"}
    for name, value in told.items():
        yield f"{name:<20} {one_line(value)}"


def timeline(run: Run) -> Iterator[str]:
    """What happened to it."""
    for event in run.events()[0]:
        kind = event["event"]
        if kind == "snapshot":
            continue
        names = ("text", "key", "why", "num_frames", "parent", "fork", "code", "message", "keys", "device", "keep")
        more = [f"{name} {one_line(event[name])}" for name in names if event.get(name) is not None]
        frame = f"frame {event['frame']}" if "frame" in event else ""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
        yield f"{when}  {kind:<11} {frame:<12} {', '.join(more)}".rstrip()


def _frames(status: Status, run: Run) -> str:
    if status.num_frames is not None:
        return f"{status.frames} of {status.num_frames}"
    return f"{status.frames}" if run.request.get("forever") else f"{status.frames} of ?"
