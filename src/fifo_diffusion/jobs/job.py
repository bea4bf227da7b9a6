"""One video to make, decided in all things: what the runner needs to know, whoever asks for it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fifo_diffusion.errors import ArgumentError, Message
from fifo_diffusion.jobs.baselines import baseline_arguments
from fifo_diffusion.jobs.checkpointer import Keeping
from fifo_diffusion.jobs.cost import cost_of
from fifo_diffusion.jobs.plan import Plan, stream_arguments
from fifo_diffusion.jobs.prompt_files import text_of
from fifo_diffusion.jobs.request import DEFAULT_STATE_EVERY, DEFAULT_STATE_SECONDS, Video
from fifo_diffusion.jobs.speed import speed_key
from fifo_diffusion.jobs.start_file import Sound, sound_of

if TYPE_CHECKING:
    from fifo_diffusion.pipeline import FIFO
    from fifo_diffusion.streaming.state import RunState


class Watch(Protocol):
    """Who looks at a video's frames while they are made, on the rank that writes. The runner opens it as a context, and
    closes it when no frame is made any more.

    Attributes:
        notes: what a state of this moment must hold for it, as plain values; the notes of the state that a run goes on
            from have them.
    """

    notes: dict[str, Any]

    def begin(self, stream: Any) -> None:
        """The stream is open, and its first frame still to come."""

    def frame(self, number: int, frame_HWC: Any) -> None:
        """This frame was given to the writer."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: object) -> Any: ...


@dataclass(frozen=True)
class Job:
    """One video. `job_of` makes it of a checked plan; in Python it may be made by hand.

    Attributes:
        fifo: the loaded model.
        output: where the video goes: a file, a folder of PNGs ("name/"), or "-" for standard output.
        prompt: a text or a {frame: text} schedule. A saved run has its own.
        num_frames: in all, those of an earlier run included; None: endless.
        method: "fifo", or the name of a baseline.
        arguments: further ones of `FIFO.stream`, or of the baseline: `seed` and so on. A saved run has its own.
        windows_per_batch: as in `FIFO.stream`; may differ from that of the saved run.
        pace: whether frames come no faster than the output plays.
        state: the saved run that goes on, in the output that it counts.
        fps: of the output; None: the model's own.
        scale: enlarges each pixel to a square of scale x scale.
        metadata: texts to keep in the output; None: how the stream is made, where it knows.
        overwrite: replace what is there.
        background: encode in a thread while the next frame is computed.
        make_folder: make the folder that the output goes into.
        state_file: where states are saved; None: nowhere.
        state_every: frames between states.
        state_seconds: a state is also due after this many; None: not by time.
        keeping: what is kept in place of a state file; None: that.
        notes: what the state file holds beside the stream's own state.
        watch: who looks at the frames.
        sound: put into the output when it is closed.
        remarks: on what was asked for, told at the start.
        cost: the work in frame-forwards, to learn this machine's speed from; None: it is not learnt.
        speed_key: what the speed is remembered under.

    Raises:
        ValueError: states are asked for with a baseline, which has none.
    """

    fifo: "FIFO"
    output: str
    prompt: Any = None
    num_frames: int | None = None
    method: str = "fifo"
    arguments: dict[str, Any] = field(default_factory=dict)
    windows_per_batch: int | None = None
    pace: bool = False
    state: "RunState | None" = None
    fps: float | None = None
    scale: int = 1
    metadata: dict[str, str] | None = None
    overwrite: bool = False
    background: bool = True
    make_folder: bool = False
    state_file: Path | None = None
    state_every: int = DEFAULT_STATE_EVERY
    state_seconds: float | None = DEFAULT_STATE_SECONDS
    keeping: Keeping | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    watch: Watch | None = None
    sound: Sound | None = None
    remarks: tuple[str | Message, ...] = ()
    cost: Any = None
    speed_key: str = ""

    def __post_init__(self) -> None:
        if self.method != "fifo" and (self.state is not None or self.state_file is not None):
            raise ArgumentError("method", self.method, "it has no states: leave state and state_file out")

    @property
    def done(self) -> int:
        """Frames that are there already."""
        return self.state.frame_index if self.state is not None else 0


def job_of(plan: Plan, fifo: "FIFO", video: Video) -> Job:
    """One of the plan's videos, with the loaded model."""
    request, settings = plan.request, plan.request.settings
    arguments = stream_arguments(request) if request.method == "fifo" else baseline_arguments(request.settings)
    sound, of_sound = sound_of(plan.kept, video.output, plan.fps, plan.model.defaults["fps"])
    return Job(
        fifo,
        video.output,
        video.prompt,
        plan.num_frames,
        method=request.method,
        arguments=arguments | {"seed": video.seed},
        windows_per_batch=settings.windows_per_batch,
        pace=settings.pace,
        state=plan.state,
        fps=plan.fps,
        scale=plan.scale,
        metadata=plan.facts(video),
        overwrite=settings.overwrite or video.replaces,
        background=not settings.write_in_turn,
        make_folder=bool(request.batch),
        state_file=request.state_file,
        state_every=DEFAULT_STATE_EVERY if settings.state_every is None else settings.state_every,
        state_seconds=DEFAULT_STATE_SECONDS if settings.state_every is None else None,
        notes=plan.notes(video),
        sound=sound,
        remarks=(*of_sound, *plan.remarks, *_remarks_on(plan, video.prompt)),
        cost=cost_of(plan),
        speed_key=speed_key(plan),
    )


def _remarks_on(plan: Plan, prompt: str | dict[int, Any]) -> list[str]:
    """What the model says of the texts of a prompt or schedule; FIFO's stream tells it by itself."""
    if plan.request.method == "fifo":
        return []
    texts = [prompt] if isinstance(prompt, str) else map(text_of, prompt.values())
    return list(dict.fromkeys(filter(None, map(plan.model.remark_on, texts))))
