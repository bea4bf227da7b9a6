"""Everything about a run that can be known and checked before the model's weights are loaded."""

import json
import os
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import CliError, as_option, checking, usage
from fifo_diffusion.execution.torchrun import local_gpu
from fifo_diffusion.jobs.baselines import baseline_settings
from fifo_diffusion.jobs.continuing import continued_video, load_state
from fifo_diffusion.jobs.memory import check_memory, queue_bytes
from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.request import (
    DEFAULT_MODEL,
    DTYPES,
    SAMPLING,
    STARTS,
    STREAM_OPTIONS,
    Request,
    Video,
    model_id,
)
from fifo_diffusion.jobs.start_file import frames_given
from fifo_diffusion.models.shared.arguments import LARGEST
from fifo_diffusion.version import __version__
from fifo_diffusion.video import check_output
from fifo_diffusion.video.in_use import clash

if TYPE_CHECKING:
    from fifo_diffusion.models.loading.source import ModelSource
    from fifo_diffusion.streaming.given import Given


@dataclass
class Plan:
    """A checked run.

    Attributes:
        request: what was typed.
        source, device, dtype: what to load, and how.
        model: the model without its weights.
        settings: completed arguments of the first video (the others differ in the seed).
        fps, scale: of the output.
        num_frames: in all, None for endless.
        videos: to make, or the one that is continued.
        given: frames of the file that the video starts from.
        state: the saved run that is continued, or None.
        planes: latents in each slot of the queue: more than one where the solver remembers.
    """

    request: Request
    source: "ModelSource"
    device: str
    dtype: str
    model: Any
    settings: Any
    fps: float
    scale: int
    num_frames: int | None
    videos: list[Video]
    given: int = 0
    state: Any = None
    planes: int = 1

    @property
    def model_name(self) -> str:
        """As it was given, or when the saved run began."""
        return self.source.name

    @property
    def done(self) -> int:
        """Frames that are there already."""
        return self.state.frame_index if self.state is not None else 0

    @property
    def slots(self) -> int:
        """Latents that are held at once: those of the queue; with a method that computes all at once, those."""
        return self.settings.layout.size * self.planes if self.request.method == "fifo" else self.settings.window

    @property
    def remarks(self) -> list[str]:
        """What is as it was typed, and perhaps not as it was meant."""
        if self.num_frames is None:
            return []
        notes = self.request.given if self.state is None else self.state.notes
        if notes.get("include_start") and self.given >= self.num_frames:
            least = self.given + self.settings.window
            return [
                f"nothing new is made: the video has {self.num_frames} frames, and the --start file gives {self.given} "
                f"of them; to go on after it, give --num-frames {least}, say"
            ]
        return []

    @property
    def start(self) -> str:
        """The kind of start, as `Cost` names it."""
        if self.settings.compat == "published":
            return "published"
        start = self.request.get("start", "clip") if self.state is None else self.state.notes["start"]
        return start if start in STARTS else "known"

    def notes(self, video: Video) -> dict[str, Any]:
        """What a state file must know beside the core's own settings."""
        if self.state is not None:
            return self.state.notes | {"num_frames": self.num_frames}
        folder = (self.request.state_file or Path(".")).absolute().parent
        return {
            "output": os.path.relpath(Path(video.output).absolute(), folder) + "/" * video.output.endswith("/"),
            "prompt": video.prompt if isinstance(video.prompt, str) else {str(k): v for k, v in video.prompt.items()},
            "model": model_id(self.model_name),
            "dtype": self.dtype,
            "fps": self.fps,
            "fps_condition": self.request.get("fps_condition"),
            **{name: self.request.get(name) for name in SAMPLING},
            "scale": self.scale,
            "start": self.request.get("start", "clip"),
            "include_start": self.request.get("include_start", False),
            "start_every_frame": self.request.get("start_every_frame", False),
            "start_fit": self.request.get("start_fit", "crop"),
            "given": self.given,
            "num_frames": self.num_frames,
            "command": self.command(video),
        }

    def facts(self, video: Video) -> dict[str, str]:
        """How to make a video again, as its file tells it."""
        settings = self.settings.to_json()
        for name in ("seeds", "batch", "pipeline_arguments"):
            settings.pop(name)
        notes = self.notes(video)
        facts = {"software": f"fifo-diffusion {__version__}", "command": notes["command"], "prompt": notes["prompt"]}
        facts |= {"model": self.model_name, "seed": video.seed, "dtype": self.dtype} | settings
        facts |= {name: notes[name] for name in ("start", "include_start", "fps", "fps_condition", "scale")}
        facts |= {name: notes[name] for name in SAMPLING if notes.get(name) is not None}
        if notes["start"] not in STARTS:
            facts |= {name: notes.get(name) for name in ("start_every_frame", "start_fit")}
        return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in facts.items()}

    def command(self, video: Video) -> str:
        """What to type for this video again."""
        return self.request.command(**self.changes(video))

    def changes(self, video: Video) -> dict[str, Any]:
        """Options that this video alone has otherwise than they were typed."""
        changes: dict[str, Any] = {"output": video.output, "seed": video.seed, "state": None, "state_every": None}
        if "prompts" in self.request.given:
            changes |= {"prompts": None, "prompt": video.prompt}
        if not self.request.length_given:
            changes["num_frames"] = self.num_frames
        return changes


def check_outputs(request: Request) -> None:
    """Before anything slow: can every output be written, and does it destroy nothing that the video is made from?"""
    for name in (video.output for video in request.videos):
        _check_inputs(request, name)
        if request.batch and "overwrite" not in request.given and os.path.lexists(name):
            continue  # perhaps a part of this batch: `resumed` will see
        folder = Path(name).parent
        if "prompts" in request.given and not folder.exists() and os.access(folder.parent, os.W_OK):
            continue  # the folder that all videos of --prompts go into is made when the first is there
        with checking():
            check_output(
                name,
                fps=request.get("fps", 8),
                scale=request.get("scale", 1),
                overwrite="overwrite" in request.given,
            )
    state = request.state_file
    if state is not None and not os.access(state.parent, os.W_OK):
        raise CliError(f"cannot write {state}: choose a folder that exists and that you may write into")
    if state is not None and state.is_dir():
        raise usage(f"--state {state} is a folder: name a file in it")


def _check_inputs(request: Request, output: str) -> None:
    for option in ("start", "schedule", "prompts", "model"):
        source = request.get(option)
        if source in (None, *STARTS) or (option == "model" and not os.path.exists(source)):
            continue
        if clash(output, [source]) is not None:
            raise usage(
                f"{output} is what {as_option(option)} names, and writing there would destroy it: "
                "choose another name with -o"
            )


def make_plan(request: Request) -> Plan:
    """Check a request completely, but for what only the weights can tell."""
    state = load_state(request) if request.continues else None
    notes = state.notes if state is not None else {}
    model_name = notes.get("model") or request.get("model", DEFAULT_MODEL)
    device, dtype = usable_device(request.get("device")), notes.get("dtype") or request.get("dtype")
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.registry import wrap

    with checking():
        source = find_model(model_name)
        dtype = DTYPES[dtype or ("float32" if device.startswith("cpu") else source.half_precision)]
        model = wrap(source.load_without_weights(**sampling(request, state)))
        if "fps_condition" in request.given and model.fps_condition is None:
            raise usage(f"{model_name} is not told a frame rate: leave --fps-condition out")
        fps = float(notes.get("fps") or request.get("fps") or model.defaults["fps"])
        num_frames = notes["num_frames"] if notes and not request.length_given else request.num_frames(fps)
        given = None if state is not None else frames_given(model, request)
        if request.method == "fifo":
            settings = _settings(model, request, state, given)
            steps, published = settings.layout.levels, settings.compat == "published"
        else:
            settings = baseline_settings(model, request.given, request.videos[0].seed, num_frames)
            steps, published = settings.num_inference_steps, False
        levels = model.levels(steps, eta=settings.eta, scheduler_exact=settings.scheduler_exact, published=published)
        if state is not None:
            state.check_fits(model.latent_shape(settings.height, settings.width), levels.planes)
    videos = request.videos if state is None else [continued_video(request, state, num_frames)]
    videos = [v if isinstance(v.prompt, str) else replace(v, prompt=in_frames(v.prompt, fps)) for v in videos]
    scale = int(notes.get("scale") or request.get("scale", 1))
    count = notes["given"] if notes else 0 if given is None else given.count
    _check_scale(settings, scale)
    known = (source, device, dtype, model, settings, fps, scale, num_frames, videos, count, state)
    plan = Plan(request, *known, planes=levels.planes)
    check_memory(device, queue_bytes(model, settings, plan.slots), settings, scale)
    return plan


def _check_scale(settings: Any, scale: int) -> None:
    most = max(1, LARGEST["width"] // max(settings.width, settings.height))
    if scale > most:
        size = f"{settings.width * scale}x{settings.height * scale}"
        raise usage(f"--scale {scale} makes pictures of {size}: use at most {most}")


def stream_arguments(request: Request) -> dict[str, Any]:
    """The options that shape the video, as arguments of `FIFO.stream`."""
    return {name: request.given[name] for name in STREAM_OPTIONS if name in request.given}


def sampling(request: Request, state: Any) -> dict[str, Any]:
    """`scheduler` and `flow_shift`, as they were typed now or when the saved run began."""
    said = request.given if state is None else state.notes
    return {name: said[name] for name in SAMPLING if said.get(name) is not None}


def usable_device(name: str | None) -> str:
    """The device that was asked for; a GPU where there is one.

    Raises:
        CliError: there is no such device.
    """
    import torch

    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = gpu if name is None else name
    name = local_gpu() if name == "cuda" else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise usage(f"--device {name or repr(name)}: there is no such device here; use --device {gpu}") from error
    return str(device)


def _settings(model: Any, request: Request, state: Any, start: "Given | None") -> Any:
    """The arguments of the first video, checked and completed by the core."""
    from fifo_diffusion.pipeline import FIFO
    from fifo_diffusion.streaming.given import size_for
    from fifo_diffusion.streaming.settings import RunSettings

    usual = signature(FIFO.stream).parameters
    names = [name for name in (*STREAM_OPTIONS, "seed") if "start" not in name]
    given = {name: usual[name].default for name in names}
    if state is None:
        given |= {name: request.given[name] for name in names if name in request.given}
        given["seed"] = request.videos[0].seed
        given["height"], given["width"] = size_for(model, start, given["height"], given["width"])
    return RunSettings.collect(
        model, videos=1, batch=False, generator=None, pipeline_arguments={}, state=state, **given
    )
