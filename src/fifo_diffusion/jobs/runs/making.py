"""One run from wherever it stands to its end: what `fifo-diffusion work`, `generate --run` and Python do with it."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fifo_diffusion.errors import UserError, message_of, usage
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs import run as runner
from fifo_diffusion.jobs.continuing import check_notes
from fifo_diffusion.jobs.events import Event, Failed, Result
from fifo_diffusion.jobs.explained import code_of, explain
from fifo_diffusion.jobs.job import Job, job_of
from fifo_diffusion.jobs.plan import Plan, make_plan
from fifo_diffusion.jobs.request import Request, Video
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.keeping import LENGTH, PAUSE, STOP, RunKeeping
from fifo_diffusion.jobs.runs.orders import carried_out
from fifo_diffusion.jobs.runs.requests import DEFAULT_EVERY, schedule_in
from fifo_diffusion.jobs.runs.status import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Status
from fifo_diffusion.jobs.stop import OwnStop, Stop, Stopped
from fifo_diffusion.settings import STARTS, Settings
from fifo_diffusion.streaming.state import NotWhole, RunState

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.pipeline import FIFO

DEATHS = 3
"""How often a run may end its maker without a word at the same frame."""


class Models(Protocol):
    """Where loaded models come from."""

    def __call__(self, plan: Plan) -> "FIFO":
        """The model of a plan with its weights."""


@dataclass(frozen=True)
class Begun:
    """What a run goes on from; the same on all ranks.

    Attributes:
        status: as things stand, with what commands say that nobody had read.
        frame: of the state; None: there is none, and the video begins.
        num_frames: in all, as commands have changed it since it was asked for; None: as asked for, or endless.
    """

    status: Status
    frame: int | None
    num_frames: int | None


def make(
    run: RunFolder,
    models: Models,
    *,
    stop: Stop | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    on_plan: Callable[[Plan], None] = lambda _: None,
    pauses: bool = False,
    raises: bool = False,
    device: str | None = None,
    ranks: "Ranks | None" = None,
) -> Status:
    """Make a run as far as it goes, from where it stands.

    Whoever calls has its lock (rank 0 has). Errors become part of the run: it is failed then, and its status and events
    say why. Over several ranks all call this for the same run.

    Args:
        run: its folder.
        models: loads the model, or has it.
        stop: asks to stop, as in `jobs.run`; the run is queued then, and goes on later.
        on_event: events of the runner, each after it is noted in the folder.
        on_plan: called with the checked plan, before weights are loaded.
        pauses: where `stop` ends it, it is left alone until somebody resumes it.
        raises: raise errors too, when they are noted.
        device: to make it on, where the run does not say one; None: a GPU where there is one.
        ranks: processes that make it together, or None.

    Returns:
        where it stands now; on ranks that do not write, perhaps a moment before.

    Raises:
        RankError: another rank ended the run, or is gone: these processes cannot make videos together any more.
    """
    from fifo_diffusion.execution.ranks import RankError

    stop, writes = OwnStop(Stop() if stop is None else stop), ranks is None or not ranks.rank
    try:
        begun = _prepare(run) if writes else None
    except UserError as error:  # its log may not be read: another user's, say
        _fail(run, run.written_status(), error)
        begun = None
    if ranks is not None:
        begun = ranks.broadcast_object(begun)
    if begun is None:
        status = run.status
        if raises and status.state == FAILED and status.error is not None:
            raise UserError(status.error["message"])
        return status
    keeping: RunKeeping | None = None
    failed: list[Failed] = []

    def told(event: Event) -> None:
        if keeping is not None:
            keeping.saw(event)
        failed.extend([event] if isinstance(event, Failed) else [])
        on_event(event)

    try:
        state = None if begun.frame is None else _state(run, begun.frame)
        with stop.at_once():
            plan = _plan(run, begun, state, device)
            on_plan(plan)
            keeping = _keeping(run, plan, begun, state, stop, ranks)
            keeping.loads()
            fifo = models(plan)
        result = _make(run, plan, keeping, fifo, stop, told)
    except Stopped as stopped:
        if ranks is not None:
            ranks.abort(stopped)
        if writes:
            why = str(stopped) or "a stop"
            run.append_event("interrupted", frame=begun.status.frames, why=why)
            run.write_status(replace(begun.status, state=QUEUED, paused=pauses), lasting=True)
    except RankError:
        raise
    except Exception as error:
        if writes:
            refused = bool(failed) and failed[0].refused
            status = begun.status if keeping is None else replace(keeping.status, num_frames=keeping.num_frames)
            _fail(run, status, usage(message_of(error)) if refused else error)
        if raises:
            raise
    else:
        if writes:
            _end(keeping, result, pauses)
    return run.status


def _make(
    run: RunFolder, plan: Plan, keeping: RunKeeping, fifo: "FIFO", stop: Stop, told: Callable[[Event], None]
) -> Result:
    video = plan.videos[0]
    job = _job(run, plan, keeping, fifo, video)
    while True:
        result = runner.run(job, on_event=told, stop=stop)
        if result.stopped or keeping.ended_by or keeping.num_frames == job.num_frames:
            return result
        # It was extended meanwhile: the same once more, from its last frame on.
        state = keeping.state if keeping.state is not None else RunState.load(run.state_path(result.frames))
        job = replace(job, state=state, num_frames=keeping.num_frames)


def _job(run: RunFolder, plan: Plan, keeping: RunKeeping, fifo: "FIFO", video: Video) -> Job:
    job = job_of(plan, fifo, video)
    return replace(job, output=str(run.folder), keeping=keeping, sound=None, make_folder=False)


def _keeping(
    run: RunFolder, plan: Plan, begun: Begun, state: RunState | None, stop: Stop, ranks: "Ranks | None"
) -> RunKeeping:
    asked = run.request
    keep = [event["keep"] for event in run.events()[0] if event["event"] == "resumed" and event.get("keep")]
    keeping = RunKeeping(
        run,
        replace(begun.status, num_frames=plan.num_frames, fps=plan.fps),
        stop,
        every=asked.get("state_every", DEFAULT_EVERY),
        facts={
            "model": plan.model_name,
            "model_fps": plan.model.defaults["fps"],
            "device": plan.device,
            "dtype": plan.dtype,
            "fps": plan.fps,
        },
        notes=plan.notes(plan.videos[0]),
        keep=keep[-1] if keep else asked.get("keep"),
        keep_seconds=asked.get("keep_seconds"),
        ranks=ranks,
    )
    keeping.state = state
    return keeping


def _state(run: RunFolder, frame: int) -> RunState:
    path = run.state_path(frame)
    state = RunState.load(path)
    check_notes(state, path)
    start = run.request.get("start", STARTS[0])
    if state.shown is not None and state.shown.path is not None and start not in STARTS:
        # The state says where that file was: the folder may have moved since, or be a fork's, which has its own.
        state.shown = replace(state.shown, source=str((run.folder / start).absolute()))
    return state


def _plan(run: RunFolder, begun: Begun, state: RunState | None, device: str | None) -> Plan:
    asked = dict(run.request)
    prompt = schedule_in(asked)
    for name in ("schedule", "keep", "keep_seconds", "state_every"):
        asked.pop(name, None)
    if not isinstance(prompt, str):  # for the command that makes it again
        file = run.folder / "schedule.json"
        asked["schedule"] = str(file)
        if not file.exists():
            with written_whole(file) as partial:
                partial.write_text(json.dumps(run.request["schedule"], ensure_ascii=False, indent=1), "utf-8")
    if asked.get("start", STARTS[0]) not in STARTS:
        asked["start"] = str(run.folder / asked["start"])
    if begun.num_frames is not None:
        asked = {name: value for name, value in asked.items() if name not in ("seconds", "forever")}
        asked["num_frames"] = begun.num_frames
    asked.setdefault("device", device)
    video = Video(prompt, "video.mp4", asked["seed"])
    return make_plan(Request(Settings.of(asked), [video]), state)


# ---------------------------------------------------------------------- where it stands


def _prepare(run: RunFolder) -> Begun | None:
    """Bring the folder to a state from which the run goes on: without frames that no state counts, or what a crash has
    damaged. None: there is nothing to make."""
    written = run.written_status()
    commands, read = run.commands(written.control)
    wanted = written.after(commands)
    if wanted.over or wanted.paused:
        _leave(run, written, wanted, read)
        return None
    wanted = replace(wanted, control=read)
    if written.state == IN_PROGRESS and _has_died(run, wanted):
        return None
    try:
        frame = _newest_state(run)
    except (ValueError, OSError, UserError) as error:
        _fail(run, wanted, error)
        return None
    for first, part in run.parts():
        if first >= (frame or 0):
            part.unlink(missing_ok=True)
    for leftover in (run.folder / "video").glob(".*.part"):
        leftover.unlink(missing_ok=True)
    if frame is None and run.parent is not None and run.parent["frame"]:
        _fail(run, wanted, UserError(f"{run.id} is a fork, and the states that it goes on from are gone"))
        return None
    waiting = run.commands(carried_out(run.events()[0]))[0]
    asked = [command["num_frames"] for command in waiting if command["do"] == "extend"]
    asked = [count for count in asked if count > (frame or 0)] or _extended(run)
    return Begun(replace(wanted, frames=frame or 0), frame, asked[-1] if asked else None)


def _leave(run: RunFolder, written: Status, wanted: Status, read: int) -> None:
    """What commands have decided before anything was made. (Others among them, prompts say, wait for the next maker:
    so the events do not say that they were read.)"""
    if wanted == written:
        return
    if wanted.state == COMPLETED:
        run.append_event("stopped", frame=written.frames, why="the command stop")
        wanted = replace(wanted, completed_at=round(time.time(), 3))
    else:
        run.append_event("paused", frame=written.frames, why="the command pause")
    run.write_status(replace(wanted, control=read, rate=0.0, pid=None, host=""), lasting=True)


def _has_died(run: RunFolder, written: Status) -> bool:
    """Note that its maker ended without a word; whether that has happened so often that the run is given up."""
    frame = run.died_at()
    run.append_event("died", frame=frame, pid=written.pid)
    same = 0
    for event in reversed(run.events()[0]):
        if event["event"] in ("resumed", "failed") or (event["event"] == "died" and event["frame"] != frame):
            break
        same += event["event"] == "died"
    if same < DEATHS:
        return False
    told = f"its process ended {same} times at frame {frame} without a word (out of memory, perhaps): look at the log"
    _fail(run, written, UserError(told), code="died")
    return True


def _newest_state(run: RunFolder) -> int | None:
    """The newest state that is whole; those after it are removed.

    Raises:
        ValueError, OSError: the newest that is whole cannot be read by this version, or not now. Nothing was removed.
        UserError: none is whole, and there are frames.
    """
    torn: list[Path] = []
    for frame in reversed(run.snapshots()):
        try:
            RunState.load(run.state_path(frame))
        except FileNotFoundError:  # thinned out meanwhile
            continue
        except NotWhole:
            torn.append(run.state_path(frame))
            continue
        for path in torn:
            path.unlink(missing_ok=True)
        return frame
    if torn and (run.parts() or run.parent is not None):
        raise UserError(f"no state of {run.id} can be read: what was made of it stays, and plays; ask for a new run")
    return None


def _extended(run: RunFolder) -> list[int]:
    return [event["num_frames"] for event in run.events()[0] if event["event"] == "extended"]


# ---------------------------------------------------------------------- how it ends


def _end(keeping: RunKeeping, result: Result, pauses: bool) -> None:
    run, ended = keeping.run, {"rate": 0.0, "pid": None, "host": "", "frames": result.frames}
    if keeping.ended_by == STOP:
        run.append_event("stopped", frame=result.frames, why=result.stopped)
        ended |= {"state": COMPLETED, "stopped": True, "completed_at": round(time.time(), 3)}
    elif keeping.ended_by == PAUSE:
        run.append_event("paused", frame=result.frames, why=result.stopped)
        ended |= {"state": QUEUED, "paused": True}
    elif result.stopped and keeping.ended_by != LENGTH:
        run.append_event("interrupted", frame=result.frames, why=result.stopped)
        ended |= {"state": QUEUED, "paused": pauses}
    else:
        run.append_event("completed", frame=result.frames)
        ended |= {"state": COMPLETED, "stopped": False, "completed_at": round(time.time(), 3)}
    keeping.put(lasting=True, **ended)


def _fail(run: RunFolder, status: Status, error: Exception, code: str = "") -> None:
    """Note the error; on a full disk make room for that first."""
    code, message = code or code_of(error), str(explain(error))
    if code == "disk_full":
        free = shutil.disk_usage(run.folder).free / 1e6
        message = f"{message} ({free:.0f} MB are free in {run.folder.parent}; resume it once there is room)"
    failed = replace(
        status, state=FAILED, error={"code": code, "message": message}, rate=0.0, pid=None, host="", paused=False
    )
    for attempt in (1, 2):
        try:
            run.append_event("failed", frame=status.frames, code=code, message=message)
            run.write_status(failed, lasting=True)
            return
        except OSError:
            if attempt == 1:
                _make_room(run)
    with suppress(OSError):  # the event cannot be told; the status at least says it, and the run is not taken again
        run.write_status(failed)


def _make_room(run: RunFolder) -> None:
    """Of a full disk: what can be made again goes; the last part is made again from the newest state."""
    snapshots = run.snapshots()
    again = [part for first, part in run.parts() if snapshots and first >= snapshots[-1]]
    for path in [*again, *run.folder.glob("thumbnail-*"), *run.live_folder.glob("*")]:
        with suppress(OSError):
            Path(path).unlink()
