"""Where a run stands: what its maker writes, and what follows from commands that nobody has read yet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fifo_diffusion.jobs.runs.event_checks import Check, flag, maybe, number, rate, text, texts, time, whole

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        state: "queued", "in_progress", "completed" (also when it was stopped: it plays) or "failed". A run whose maker
            is gone without a word is queued: the next worker goes on with it.
        frames: that are there.
        num_frames: in all; None: endless, or not known yet (`seconds` were asked for, and the model is not loaded).
        rate: frames per second that its maker makes now; 0 where that is not known.
        stopped: it was asked to stop, and did; more can be made of it.
        paused: it is left alone until somebody resumes it.
        error: of a failed run: {"code": "disk_full", "message": one line}.
        fps: at which the video plays; None before its first frame.
        width, height: of the frames as the model makes them (`scale` of the request enlarges them).
        seed: it is made with.
        slots: of the queue: latents from the one that enters to the one that leaves; None before it began.
        device: of its maker, for example "cuda:0"; empty where nobody has made anything.
        pid, host: of its maker; None and empty when it is not being made.
        started_at, completed_at, updated_at: Unix time in seconds; None where that has not happened.
        control: bytes of the file of commands that its maker has read.
    """

    state: str = QUEUED
    frames: int = 0
    num_frames: int | None = None
    rate: float = 0.0
    stopped: bool = False
    paused: bool = False
    error: dict[str, str] | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    slots: int | None = None
    device: str = ""
    pid: int | None = None
    host: str = ""
    started_at: float | None = None
    completed_at: float | None = None
    updated_at: float | None = None
    control: int = 0

    @property
    def over(self) -> bool:
        """Whether nobody is to make anything of it as things are."""
        return self.state in (COMPLETED, FAILED)

    @property
    def progress(self) -> int:
        """Per cent of its frames that are there; 100 only when it is completed, 0 where it is endless."""
        if self.state == COMPLETED:
            return 100
        return min(99, 100 * self.frames // self.num_frames) if self.num_frames else 0

    @property
    def eta_seconds(self) -> float | None:
        """Until its last frame at the present rate; None where that is not known."""
        if self.state != IN_PROGRESS or not self.num_frames or not self.rate:
            return None
        return max(0, self.num_frames - self.frames) / self.rate

    @classmethod
    def of(cls, record: Any) -> "Status":
        """From the file. What this version does not know is passed over.

        Raises:
            ValueError: no status of this program.
        """
        if not isinstance(record, Mapping):
            raise ValueError("the status of a run is an object")
        found = {name: value for name, value in record.items() if name in _CHECKS}
        for name in found.keys() | {"state"}:
            if not _CHECKS[name](found.get(name)):
                raise ValueError(f"the status of a run has no {name} {found.get(name)!r:.40}")
        return cls(**found)

    def after(self, commands: Iterable[Mapping[str, Any]]) -> "Status":
        """As it will be when commands are read that nobody has read yet, and nobody makes the run now."""
        status = self
        for command in commands:
            do = command.get("do")
            if do == "stop" and not status.over:
                status = replace(status, state=COMPLETED, stopped=True, paused=False)
            elif do == "pause" and not status.over:
                status = replace(status, paused=True)
            elif do == "resume":
                over = status.stopped or status.state == FAILED
                status = replace(status, paused=False)
                status = replace(status, state=QUEUED, stopped=False, error=None) if over else status
            elif do == "extend" and status.num_frames is not None and command["num_frames"] > status.frames:
                status = replace(status, state=QUEUED, num_frames=command["num_frames"])
                status = replace(status, stopped=False, error=None, completed_at=None)
        return status


def _is_state(value: Any) -> bool:
    return value in (QUEUED, IN_PROGRESS, COMPLETED, FAILED)


_CHECKS: dict[str, Check] = {
    "state": _is_state,
    "frames": whole,
    "num_frames": maybe(whole),
    "rate": lambda value: number(value) and value >= 0,
    "stopped": flag,
    "paused": flag,
    "error": maybe(texts),
    "fps": maybe(rate),
    "width": maybe(whole),
    "height": maybe(whole),
    "seed": maybe(lambda value: isinstance(value, int) and 0 <= value < 2**64),
    "slots": maybe(whole),
    "device": text,
    "pid": maybe(whole),
    "host": text,
    **dict.fromkeys(("started_at", "completed_at", "updated_at"), maybe(time)),
    "control": whole,
}
"""Of each value in the file."""
