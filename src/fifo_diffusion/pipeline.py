"""`FIFO`: a loaded video diffusion pipeline goes in, an endless iterator of frames comes out."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.execution.batches import BatchLimits
from fifo_diffusion.execution.precision import slow_precision
from fifo_diffusion.method import Layout
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.folders import one_device
from fifo_diffusion.models.loading.hub import HUB, hub_arguments
from fifo_diffusion.models.loading.source import ModelSource, find_model
from fifo_diffusion.models.shared.arguments import passed_on, refuse_unknown
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.modules import lay_out_for_cpu
from fifo_diffusion.models.shared.offload import check_offload, text_encoders, to_device_but
from fifo_diffusion.models.shared.texts import Embeds
from fifo_diffusion.settings import QueueSettings, StreamSettings, checked, specs, taking
from fifo_diffusion.streaming.given import size_for, take_given
from fifo_diffusion.streaming.pace import pace_of
from fifo_diffusion.streaming.presets import with_preset
from fifo_diffusion.streaming.prompt_notes import check_all
from fifo_diffusion.streaming.prompts import (
    PromptTrack,
    is_schedule,
    parse_assigned,
    parse_prompt,
    take_embeds,
    ways_of,
)
from fifo_diffusion.streaming.schedule import Schedule, in_queue
from fifo_diffusion.streaming.settings import RunSettings, described, layout_for
from fifo_diffusion.streaming.start import StartPlan, files_of, prepare_start
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.streaming.steps import levels_of
from fifo_diffusion.streaming.stream import FrameStream
from fifo_diffusion.version import __version__
from fifo_diffusion.video.in_use import begin_reading

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from fifo_diffusion.execution.ranks import Ranks

logger = logging.getLogger(__name__)

Prompt = str | Sequence[Any] | Mapping[Any, Any]
Start = Any


class FIFO:
    """FIFO-Diffusion (arXiv 2405.11473) on a text-to-video pipeline.

    Installs inert hooks on the pipeline's denoiser at once; `close()` or `with` takes them off. The pipeline itself
    (device, precision, offloading, LoRA, attention backend, scheduler) stays as the user set it and can be used as
    before, also between frames. An already compiled denoiser is compiled anew at its next call.

    Args:
        pipe: a loaded pipeline of a supported class (`supported_pipelines()`).
        model: a `VideoModel` to use instead of the registered one; then `pipe` may be None.
        offload_text_encoder: keep the text encoders in host memory, but while they encode (see `TextOffload`). With
            `enable_model_cpu_offload` and the like of the pipeline itself it is not needed.
        group: a process group of `torch.distributed` whose ranks make each video together (docs/architecture.md). A
            group that is there but not given is left alone: its ranks make videos of their own.
        shard_weights: each rank of the group holds a share of the denoiser's weights, and lends it to the others
            (`execution.shared_weights`); for models larger than a card. For good, also after `close()`: then the
            pipeline can be used by all ranks together.

    Raises:
        TypeError: the pipeline's class is not supported.
        ValueError: something is enabled on it that does not go with FIFO (FreeNoise, say).
    """

    def __init__(
        self,
        pipe: Any,
        *,
        model: VideoModel | None = None,
        offload_text_encoder: bool = False,
        group: "ProcessGroup | Ranks | None" = None,
        shard_weights: bool = False,
    ) -> None:
        self.pipe = pipe
        self.model = model or registry.wrap(pipe)
        if offload_text_encoder:
            try:
                self.model.offload_text_encoders()
            except ValueError:
                self.model.close()
                raise
        self.ranks = None if group is None else _ranks_of(group)
        if shard_weights:
            try:
                self._shard()
            except ValueError:
                self.model.close()
                raise
        self.fits: BatchLimits = {}  # what streams found out about the memory
        self.name = type(pipe if model is None else model).__name__  # what files say of the model
        self._closed = False

    @classmethod
    def from_pretrained(cls, name: str | Path | ModelSource, **kwargs: Any) -> "FIFO":
        """A hub id, a local diffusers folder, an original checkpoint (VideoCrafter, Open-Sora Plan, class-conditional
        Latte), or one of the small models inside this package, "toybox" and "toybox-diagonal".

        Goes to a GPU where there is one (half precision there, unless `dtype` says otherwise).

        Args:
            name: what to load, or what `find_model` found of that name.
            **kwargs: for the pipeline's `from_pretrained`, or for `load_checkpoint`; `device` chooses another device.
                `scheduler` may be a text, "euler:use_karras_sigmas=true" say (`models.scheduler_choice`); `flow_shift`
                is the shift of a flow-matching model. Whatever is set on the pipeline later counts instead.
                `offload_text_encoder`, `group` and `shard_weights` are those of `FIFO`; with a group each process takes
                the GPU that torchrun means for it. `offload` keeps all weights in host memory while they do not work:
                "model", "sequential" or "group", see `offload_pipe`.

        Raises:
            ValueError: no such model.
            TypeError: a pipeline class that is not supported.
        """
        gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        source = find_model(name, hub_arguments(kwargs))
        kwargs = {key: value for key, value in kwargs.items() if key not in HUB}
        group = kwargs.pop("group", None)
        if group is not None and gpu == "cuda":
            gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        device = torch.device(kwargs.pop("device", None) or one_device(kwargs.get("device_map")) or gpu)
        offload, offload_text = kwargs.pop("offload", None), kwargs.pop("offload_text_encoder", False)
        shard = kwargs.pop("shard_weights", False)
        if offload is not None:
            check_offload(offload, device, offload_text, shard)
        if not kwargs.keys() & {"dtype", "torch_dtype"}:
            half = "float32" if device.type == "cpu" else source.half_precision
            kwargs["dtype"] = getattr(torch, half)
        pipe = source.load(**kwargs)
        fifo = cls(pipe, group=group)
        fifo.name = source.name
        if offload is not None:
            fifo.model.offload(offload, device)
        elif shard or offload_text:
            if shard:  # first of all, so that no whole denoiser comes to the device
                fifo._shard(device)
            to_device_but(text_encoders(pipe) if offload_text else [], pipe, device)
        else:
            pipe.to(device)
            if device.type == "cpu":
                lay_out_for_cpu(pipe)
        if offload_text:  # said here, since the pipeline itself might take the text encoder's place for its own
            fifo.model.offload_text_encoders(device)
        return fifo

    @taking(StreamSettings, rest="pipeline_arguments")
    def stream(self, prompt: Prompt | None = None, **arguments: Any) -> FrameStream:
        """Frames of one endless video (or of several at once), each as soon as it is there.

        Args:
            {arguments}
            pipeline_arguments: whatever else the pipeline's own call takes and has an effect here (clip_skip, say).

        Numbers may be those of NumPy, or tensors without axes.

        With a `RunState` as start all settings come from it; arguments that say otherwise are refused (those that
        equal their default count as left out).

        With a process group (`group` of `FIFO`) all ranks call this with the same arguments and ask for the same number
        of frames. Rank 0 gets them, the others get None as often. A random seed is that of rank 0.

        Returns:
            A `FrameStream` of uint8 arrays (height, width, 3); for a batch (videos, height, width, 3).

        Raises:
            ValueError, TypeError: arguments that do not fit; no frame has been computed then.
        """
        self._check_open()
        aloud = self.ranks is None or not self.ranks.rank
        with self._refusals_shared():
            own = specs(StreamSettings)
            given = {name: arguments.pop(name) for name in own if name in arguments}
            prompt, given["negative_prompt"] = take_embeds(prompt, given.get("negative_prompt"), arguments)
            arguments = passed_on(arguments, self.model.call_arguments(), own)
            asked = checked(StreamSettings(**given))
            start = asked.start
            state = _state_of(start)
            asked = with_preset(self.model, given) if state is None else asked
            if state is None:
                if prompt is None:
                    raise ValueError("prompt is missing: give a text, a list of texts or a {frame: text} schedule")
                keys, batch = parse_prompt(prompt)
            else:
                batch = state.settings["batch"]
                if prompt is not None and not is_schedule(prompt):
                    prompt = parse_assigned(prompt, len(state.settings["seeds"]))
            frames = None
            if state is None:
                how = {"start_every_frame": asked.start_every_frame, "start_fit": asked.start_fit}
                frames = take_given(self.model, start, **how)
                height, width = size_for(self.model, frames, asked.height, asked.width)
                asked = replace(asked, height=height, width=width)
            settings = RunSettings.collect(
                self.model,
                asked,
                videos=len(keys[0]) if state is None else len(state.settings["seeds"]),
                batch=batch,
                state=state,
                pipeline_arguments=arguments,
            )
            if self.ranks is not None and settings.tail_draws > 1:
                several = "several ranks cannot choose among draws; use ", Setting("tail_draws", 1), ", or one process"
                raise ArgumentError("tail_draws", settings.tail_draws, *several)
            levels = levels_of(self.model, settings)
            plan = prepare_start(self.model, settings, start if state is None else state, frames, asked.include_start)
            if state is None:  # from frames of the video to latents
                check_all(self.model, keys, settings, asked.num_frames, aloud=aloud)
                ways = ways_of(prompt)
                entries = {plan.latent_of(frame): (prompts, ways.get(frame)) for frame, prompts in keys.items()}
                schedule = Schedule.of(entries, settings.prompt_change, **in_queue(settings.queue_layout))
            else:
                saved = state.prompts, state.embeds
                schedule = Schedule.from_json(*saved, settings.prompt_change, **in_queue(settings.queue_layout))
        random_seed = asked.seed is None and asked.generator is None and state is None
        settings = self._agreed(settings, random_seed, schedule, plan, asked.num_frames)
        if aloud and (slow := slow_precision(self.model.device, self.model.dtype)):
            logger.warning(slow)
        call, window = settings.call, settings.window
        call |= {} if plan.picture is None else self.model.about_picture(plan.picture, window)
        stream = FrameStream(
            self.model,
            PromptTrack(self.model, schedule, call, plan.opens(window)),
            settings,
            levels,
            plan,
            noise=asked.noise,
            num_frames=asked.num_frames,
            windows_per_batch=asked.windows_per_batch,
            pace=pace_of(asked.pace, self.model.defaults["fps"]),
            callback_on_frame=asked.callback_on_frame,
            ranks=self.ranks,
            fits=self.fits,
            check_open=self._check_open,
        )
        begin_reading(stream, *files_of(start), *files_of(state))
        if state is not None and is_schedule(prompt):
            stream.schedule = prompt
        elif state is not None and prompt is not None:
            now = stream.prompt if settings.batch else [stream.prompt]
            if list(prompt) != now:
                stream.prompt = list(prompt) if settings.batch else prompt[0]
        stream.metadata = described(
            settings,
            software=f"fifo-diffusion {__version__}",
            prompt=_told(stream.prompt if prompt is None or state is not None else prompt),
            model=self.name,
            seed=list(settings.seeds) if settings.batch else stream.seed,
            start=str(start) if isinstance(start, str | Path) else type(start).__name__,
            include_start=asked.include_start,
            fps=stream.fps,
        )
        return stream

    @contextmanager
    def _refusals_shared(self) -> Iterator[None]:
        """Where arguments are refused on this rank, the others refuse them too."""
        try:
            yield
        except Exception as error:
            if self.ranks is not None:
                with suppress(Exception):
                    self.ranks.check_equal({"error": str(error)})
            raise

    def _agreed(
        self, settings: RunSettings, random_seed: bool, schedule: Schedule, plan: StartPlan, num_frames: int | None
    ) -> RunSettings:
        """The settings, the same on all ranks; with a random seed, rank 0's."""
        if self.ranks is None:
            return settings
        facts = settings.to_json() | {
            "prompt": repr(schedule.to_json()),
            "num_frames": num_frames,
            "start": plan.facts(),
        }
        facts["model"] = self.model.fingerprint()
        if random_seed:
            facts["seeds"] = "random"
        self.ranks.check_equal(facts)
        return replace(settings, seeds=self.ranks.broadcast_object(settings.seeds)) if random_seed else settings

    def __call__(
        self, prompt: Prompt | None = None, *, num_frames: int, output_type: str = "pil", **arguments: Any
    ) -> Any:
        """A whole video at once, returned as the wrapped pipeline returns its clips: `.frames[0]` is the first video.

        All arguments but `output_type` are those of `stream`. With a process group every rank gets the video. A bar
        counts the frames; `pipe.set_progress_bar_config(disable=True)` leaves it out, as in the pipeline.

        Args:
            output_type: "pil", "np", "pt" or "latent", as in the pipeline.
        """
        with self.stream(prompt, num_frames=num_frames, **arguments) as stream, self._bar(num_frames) as bar:
            return stream.collect(output_type, lambda frames: bar.update(frames - bar.n))

    def _bar(self, frames: int) -> Any:
        """A bar as the pipeline itself shows (`set_progress_bar_config`); of several ranks one does."""
        own = getattr(self.pipe, "progress_bar", None)
        shown = own is not None and (self.ranks is None or self.ranks.rank == 0)
        return own(total=frames) if shown else tqdm(total=frames, disable=True)

    def __repr__(self) -> str:
        model = self.model
        closed = ", closed" if self._closed else ""
        return f"<FIFO: {self.name} ({model.family}), windows of {model.frames}, on {model.device}{closed}>"

    @taking(QueueSettings)
    def layout(self, **settings: Any) -> Layout:
        """The queue that `stream` would use with these arguments: its size, windows and cost.

        Args:
            {arguments}
        """
        refuse_unknown("layout()", settings, specs(QueueSettings))
        return layout_for(self.model, with_preset(self.model, settings))

    def close(self) -> None:
        """Take the hooks off the pipeline; running streams end with an error at their next frame."""
        if not self._closed:
            self._closed = True
            self.model.close()
            self.model.free()

    def __enter__(self) -> "FIFO":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shard(self, device: torch.device | None = None) -> None:
        if self.ranks is None:
            raise ArgumentError(
                "shard_weights", True, "there is one process: start several with torchrun, or leave it out"
            )
        self.model.shard(self.ranks, device)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this FIFO is closed: make a new one with FIFO(pipe)")


def _ranks_of(group: Any) -> "Ranks | None":
    from fifo_diffusion.execution.ranks import Ranks

    ranks = group if isinstance(group, Ranks) else Ranks(group)
    return ranks if ranks.size > 1 else None


def _state_of(start: Start) -> RunState | None:
    if isinstance(start, RunState):
        return start
    if isinstance(start, str | Path) and (str(start).endswith(".safetensors") or RunState.is_state(start)):
        return RunState.load(start)
    return None


def _told(prompt: Any) -> Any:
    """As a file holds it."""
    if is_schedule(prompt):
        return {str(frame): _told(text) for frame, text in prompt.items()}
    if isinstance(prompt, Mapping) and "prompt" in prompt:  # of a schedule, with its way
        return {**prompt, "prompt": _told(prompt["prompt"])}
    if isinstance(prompt, Mapping | Embeds):
        return "<embeddings>"
    return prompt if isinstance(prompt, str) else [_told(text) for text in prompt]
