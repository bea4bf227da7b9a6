"""Everything about a run that can be known and checked before the model's weights are loaded."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import ArgumentError, Message, Setting, UserError, usage, usage_errors
from fifo_diffusion.execution.torchrun import local_gpu, torchrun_rank
from fifo_diffusion.jobs.baselines import baseline_settings
from fifo_diffusion.jobs.continuing import continued_video, load_state
from fifo_diffusion.jobs.memory import check_memory, queue_bytes
from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.request import DEFAULT_MODEL, Request, Video, model_id, quantize_id
from fifo_diffusion.jobs.start_file import frames_given
from fifo_diffusion.settings import DTYPES, STARTS, FifoSettings, Settings, StreamSettings, names_of, specs
from fifo_diffusion.settings.spec import IN_NOTES, REQUIRED, SAMPLING, STREAM
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
        request: what was asked for.
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
        if self.request.method == "fifo":
            return self.settings.queue_layout.size * self.planes
        from fifo_diffusion.baselines import BASELINES

        streams = BASELINES[self.request.method].streams
        return self.settings.window if streams or self.num_frames is None else self.num_frames

    @property
    def kept(self) -> dict[str, Any]:
        """The settings that the notes of a state file keep: as they were when the run began."""
        if self.state is not None:
            return self.state.notes
        return {name: getattr(self.request.settings, name) for name in names_of(Settings, saved=IN_NOTES)}

    @property
    def remarks(self) -> list[Message]:
        """What is as it was asked for, and perhaps not as it was meant."""
        if self.num_frames is None:
            return []
        if self.kept["include_start"] and self.given >= self.num_frames:
            least = Setting("num_frames", self.given + self.settings.window)
            return [
                Message(
                    f"nothing new is made: the video has {self.num_frames} frames, and the file given as ",
                    *(Setting("start"), f" has {self.given} of them; to go on after it, give ", least, ", say"),
                )
            ]
        return []

    @property
    def start(self) -> str:
        """The kind of start, as `Cost` names it."""
        if self.settings.compat == "published":
            return "published"
        return self.kept["start"] if self.kept["start"] in STARTS else "known"

    def notes(self, video: Video) -> dict[str, Any]:
        """What a state file must know beside the core's own settings."""
        if self.state is not None:
            return self.state.notes | {"num_frames": self.num_frames}
        folder = (self.request.state_file or Path(".")).absolute().parent
        return self.kept | {
            "output": os.path.relpath(Path(video.output).absolute(), folder) + "/" * video.output.endswith("/"),
            "prompt": video.prompt if isinstance(video.prompt, str) else {str(k): v for k, v in video.prompt.items()},
            "model": model_id(self.model_name),
            "lora": _absolute(self.kept["lora"]),
            "quantize": quantize_id(self.kept["quantize"]),
            "dtype": self.dtype,
            "fps": self.fps,
            "given": self.given,
            "num_frames": self.num_frames,
            "command": self.command(video),
        }

    def facts(self, video: Video) -> dict[str, str]:
        """How to make a video again, as its file tells it."""
        settings, notes, every = self.settings.to_json(), self.notes(video), specs(Settings)
        # What older files do not say is said only where it counts, so that they are found to be the same.
        unsaid = [name for name in settings if name in every and settings[name] == every[name].older]
        for name in ("seeds", "batch", "pipeline_arguments", *unsaid):
            settings.pop(name)
        facts = {"software": f"fifo-diffusion {__version__}", "command": notes["command"], "prompt": notes["prompt"]}
        facts |= {"model": self.model_name, "seed": video.seed, "dtype": self.dtype} | settings
        for name, spec in every.items():
            if spec.saved != IN_NOTES or name in ("model", "dtype"):
                continue
            without = notes["start"] in STARTS if spec.of_file else notes[name] == spec.older
            if spec.older is REQUIRED or not without:
                facts[name] = notes[name]
        return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in facts.items()}

    def command(self, video: Video) -> str:
        """What to type for this video again."""
        return self.request.command(**self.changes(video))

    def changes(self, video: Video) -> dict[str, Any]:
        """Options that this video alone has otherwise than they were given."""
        changes: dict[str, Any] = {"output": video.output, "seed": video.seed, "state": None, "state_every": None}
        if self.request.batch:
            changes |= {"prompts": None, "prompt": video.prompt}
        if not self.request.settings.length_given:
            changes["num_frames"] = self.num_frames
        return changes


def _absolute(loras: list[str] | None) -> list[str] | None:
    """Names that mean the same in another folder."""
    from fifo_diffusion.models.loading.adapters import read_adapters

    return None if loras is None else list(map(str, read_adapters(loras)))


def check_outputs(request: Request) -> None:
    """Before anything slow: can every output be written, and does it destroy nothing that the video is made from?"""
    for name in (video.output for video in request.videos):
        _check_inputs(request, name)
        if request.batch and not request.settings.overwrite and os.path.lexists(name):
            continue  # perhaps a part of this batch: `resumed` will see
        folder = Path(name).parent
        if request.batch and not folder.exists() and os.access(folder.parent, os.W_OK):
            continue  # the folder that all videos of --prompts go into is made when the first is there
        with usage_errors():
            check_output(
                name,
                fps=request.settings.fps or 8,
                scale=request.settings.scale,
                overwrite=request.settings.overwrite,
            )
    drift = request.settings.drift
    if drift is not None and os.path.lexists(drift) and not request.continues and not request.settings.overwrite:
        raise UserError(f"{drift} exists: choose another name, or add ", Setting("overwrite", True))
    if drift is not None and (os.path.isdir(drift) or not os.access(Path(drift).absolute().parent, os.W_OK)):
        raise UserError(f"cannot write {drift}: name a file in a folder that exists and that you may write into")
    state = request.state_file
    if state is not None and not os.access(state.parent, os.W_OK):
        raise UserError(f"cannot write {state}: choose a folder that exists and that you may write into")
    if state is not None and state.is_dir():
        raise ArgumentError("state", str(state), "it is a folder: name a file in it")


def _check_inputs(request: Request, output: str) -> None:
    sources, model = request.settings.files, request.settings.model
    sources |= {"model": model} if model is not None and os.path.exists(model) else {}
    for name, source in sources.items():
        if name not in ("output", "state") and clash(output, [source]) is not None:
            raise usage(
                *(f"{output} is what ", Setting(name), " names, and writing there would destroy it: "),
                *("choose another name with ", Setting("output")),
            )


def make_plan(request: Request, state: Any = None) -> Plan:
    """Check a request completely, but for what only the weights can tell.

    Args:
        request: what was asked for.
        state: that the request's one video goes on from, where no state file of the request says it. Its notes are
            those of `Plan.notes`.
    """
    state = load_state(request) if request.continues else state
    notes = state.notes if state is not None else {}
    asked = request.settings
    model_name = notes.get("model") or asked.model or DEFAULT_MODEL
    device, dtype = usable_device(asked.device), notes.get("dtype") or asked.dtype
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.registry import wrap
    from fifo_diffusion.models.shared.offload import check_offload
    from fifo_diffusion.streaming.steps import levels_of

    with usage_errors():
        if asked.offload is not None:
            check_offload(asked.offload, device, asked.offload_text_encoder, asked.shard_weights)
        if asked.shard_weights and torchrun_rank() is None:
            raise ArgumentError(
                "shard_weights", True, "there is one process: start several with torchrun, or leave it out"
            )
        source = find_model(model_name)
        dtype = DTYPES[dtype or ("float32" if device.startswith("cpu") else source.half_precision)]
        model = wrap(source.load_without_weights(**sampling(request, state)))
        if asked.fps_condition is not None and model.fps_condition is None:
            raise usage(f"{model_name} takes no frame rate: leave ", Setting("fps_condition"), " out")
        fps = float(notes.get("fps") or asked.fps or model.defaults["fps"])
        num_frames = notes["num_frames"] if notes and not asked.length_given else request.num_frames(fps)
        given = None if state is not None else frames_given(model, request)
        if request.method == "fifo":
            settings = _settings(model, request, state, given)
        else:
            settings = baseline_settings(model, asked, request.videos[0].seed, num_frames)
        levels = levels_of(model, settings)
        if state is not None:
            state.check_fits(model.latent_shape(settings.height, settings.width), levels.planes)
    videos = [continued_video(request, state, num_frames)] if request.continues else request.videos
    videos = [v if isinstance(v.prompt, str) else replace(v, prompt=in_frames(v.prompt, fps)) for v in videos]
    scale = int(notes.get("scale") or asked.scale)
    count = notes["given"] if notes else 0 if given is None else given.count
    _check_scale(settings, scale)
    known = (source, device, dtype, model, settings, fps, scale, num_frames, videos, count, state)
    plan = Plan(request, *known, planes=levels.planes)
    check_memory(device, queue_bytes(model, settings, plan.slots), settings, scale)
    return plan


def _check_scale(settings: Any, scale: int) -> None:
    most = max(1, specs(FifoSettings)["width"].kind.most // max(settings.width, settings.height))
    if scale > most:
        size = f"{settings.width * scale}x{settings.height * scale}"
        raise ArgumentError("scale", scale, f"it makes pictures of {size}; use at most {most}")


def stream_arguments(request: Request) -> dict[str, Any]:
    """The settings that were given, are arguments of `FIFO.stream` and shape the video, but for prompt and seed."""
    others = {"prompt", "seed", "num_frames", "windows_per_batch"}
    taken = set(names_of(Settings, stages=[STREAM], method="fifo")) - others
    return {name: value for name, value in request.settings.given.items() if name in taken}


def sampling(request: Request, state: Any) -> dict[str, Any]:
    """What the model is sampled by, as it was given now or when the saved run began: arguments of
    `FIFO.from_pretrained`."""
    said = request.settings.given if state is None else state.notes
    return {name: said[name] for name in names_of(Settings, stages=[SAMPLING]) if said.get(name) is not None}


def usable_device(name: str | None) -> str:
    """The device that was asked for; a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    import torch

    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = gpu if name is None else name
    name = local_gpu() if name == "cuda" else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        advice = ("there is no such device here; use ", Setting("device", gpu))
        raise usage(Setting("device", name), ": ", *advice) from error
    return str(device)


def _settings(model: Any, request: Request, state: Any, start: "Given | None") -> Any:
    """The arguments of the first video, checked and completed by the core."""
    from fifo_diffusion.streaming.given import size_for
    from fifo_diffusion.streaming.presets import with_preset
    from fifo_diffusion.streaming.settings import RunSettings

    asked = StreamSettings()
    if state is None:
        names = (*specs(FifoSettings), "num_inference_steps", *(("start",) if request.settings.start in STARTS else ()))
        known = {name: value for name, value in request.settings.given.items() if name in names}
        asked = with_preset(model, known | {"seed": request.videos[0].seed})
        height, width = size_for(model, start, asked.height, asked.width)
        asked = replace(asked, height=height, width=width)
    return RunSettings.collect(model, asked, videos=1, batch=False, state=state)
