"""The arguments that shape a video, checked and completed; what a saved state must agree with."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.errors import ArgumentError, ArgumentTypeError, Message, Setting
from fifo_diffusion.execution.interfaces import as_banded
from fifo_diffusion.method import Layout, layout_of
from fifo_diffusion.method.draws import can_choose
from fifo_diffusion.models.shared.arguments import MOST_SLOTS, check_text
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.fingerprint import content_hash
from fifo_diffusion.models.shared.texts import Embeds, Prompt, negative_embeds_of, prompt_from_json, prompt_to_json
from fifo_diffusion.settings import FifoSettings, QueueSettings, StreamSettings, TailSettings, checked, specs
from fifo_diffusion.settings.anchors import AnchorSettings
from fifo_diffusion.settings.kinds import plain
from fifo_diffusion.streaming.guidance_checks import check_guidance
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.streaming.steps import check_steps

_NOT_PLAIN = re.compile(r"<\w+( [0-9a-f]{16})?>")


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What completed settings have beside their fields, FIFO's and those of the baselines.

    Attributes:
        seeds: of each video.
        batch: whether frames have an axis for videos.
        pipeline_arguments: for the pipeline's own call.
    """

    seeds: tuple[int, ...]
    batch: bool
    pipeline_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def call(self: Any) -> dict[str, Any]:
        """Arguments for the pipeline's own call."""
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        if self.negative_prompt is not None:
            call["negative_prompt"] = list(self.negative_prompt)
        return call | self.pipeline_arguments


@dataclass(frozen=True, kw_only=True)
class RunSettings(Completed, FifoSettings):
    """Every argument of `FIFO.stream` that shapes the video, but prompts and start: checked, none left open."""

    @property
    def queue_layout(self) -> Layout:
        """Of these settings."""
        return layout_of(self)

    @property
    def steps(self) -> int:
        """Denoising steps of every frame."""
        return self.queue_layout.levels

    @property
    def negative_embeds(self) -> list[Embeds]:
        """The encoded ones among the negative prompts, whose tensors a saved state needs beside `to_json`."""
        return [text for text in dict.fromkeys(self.negative_prompt or ()) if isinstance(text, Embeds)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; arguments that are no plain values are named by their type and a hash of what they hold."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.negative_prompt is not None:
            values["negative_prompt"] = [prompt_to_json(text) for text in self.negative_prompt]
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return values | {"pipeline_arguments": {k: _as_saved(v) for k, v in self.pipeline_arguments.items()}}

    @classmethod
    def collect(
        cls,
        model: VideoModel,
        asked: StreamSettings,
        *,
        videos: int,
        batch: bool,
        state: RunState | None = None,
        pipeline_arguments: dict[str, Any] | None = None,
    ) -> "RunSettings":
        """Check arguments and fill in the model's defaults, or those of the state that is continued.

        Raises:
            ArgumentError: one does not fit.
            ValueError: they do not fit together, or to the state.
        """
        asked = checked(asked)
        given = {name: getattr(asked, name) for name in specs(cls)}
        given |= {"negative_prompt": negative_prompts(asked.negative_prompt, videos), "batch": batch}
        if asked.seed is not None and asked.generator is not None:
            raise ValueError("give either seed or generator, not both")
        if state is not None:
            if asked.generator is not None:
                raise ValueError("a continued run keeps its seed: leave generator out")
            given["seeds"] = None if asked.seed is None else seeds_of(asked.seed, None, videos)
            settings = cls._from_state(state, given, pipeline_arguments or {})
            check_steps(settings.queue_layout, asked.num_inference_steps)
            return settings
        given |= {
            name: model.defaults[name] for name, value in given.items() if value is None and name in model.defaults
        }
        given["window"] = model.frames if asked.window is None else asked.window
        check_slots(given["window"], asked.num_partitions)
        check_taken(asked)
        seeds = seeds_of(asked.seed, asked.generator, videos)
        settings = cls(seeds=seeds, pipeline_arguments=pipeline_arguments or {}, **given)
        check_steps(settings.queue_layout, asked.num_inference_steps)
        check_anchors(settings, asked.start)
        if settings.queue_layout.banded:
            as_banded(model)
            if settings.compat == "published":
                instead = (Setting("lookahead", True), ", or leave ", Setting("compat"), " out")
                raise ArgumentError("lookahead", "banded", Setting("compat", "published"), " has none; use ", *instead)
        elif settings.compat == "published" and settings.cache > 1:
            published = Setting("compat", "published"), " has none; leave one of them out"
            raise ArgumentError("cache", settings.cache, *published)
        elif settings.compat == "published" and (settings.layout != "partitions" or settings.queue_layout.holds):
            published = Setting("compat", "published"), " has the paper's only; leave one of them out"
            raise ArgumentError("layout", settings.layout, *published)
        check_tail(settings)
        check_guidance(model, settings)
        most = model.most_frames
        if most is not None and settings.window > most:
            what = "more frames than this model can take at once; use "
            raise ArgumentError("window", settings.window, what, Setting("window", most), " or less")
        model.latent_shape(settings.height, settings.width)
        return settings

    @classmethod
    def _from_state(cls, state: RunState, given: dict[str, Any], pipeline_arguments: dict[str, Any]) -> "RunSettings":
        every = specs(cls)
        saved = dict(state.settings)
        if saved["negative_prompt"] is not None:
            saved["negative_prompt"] = [prompt_from_json(text, state.embeds) for text in saved["negative_prompt"]]
        for name, value in given.items():
            before = tuple(saved[name]) if isinstance(saved[name], list) else saved[name]
            left_out = value is None or name == "batch" or (name in every and value == every[name].default)
            if not left_out and value != before:
                name = "seed" if name == "seeds" else name
                value, before = (v[0] if isinstance(v, tuple) and len(v) == 1 else v for v in (value, before))
                advice = (": leave ", Setting(name), " out, or start a new run")
                both = (Setting(name, before), ", not ", Setting(name, value))
                raise ValueError(Message("the state was saved with ", *both, *advice))
        kept = saved["pipeline_arguments"]
        for name, value in pipeline_arguments.items():
            if name not in kept:
                raise ValueError(f"the state was saved without {name}: leave it out, or start a new run")
            # States of the first versions have no more than the type, and so it fits whatever it held.
            if kept[name] not in (_as_saved(value), f"<{type(value).__name__}>"):
                before = f"{name}={kept[name]!r}" if not _NOT_PLAIN.fullmatch(str(kept[name])) else f"another {name}"
                raise ValueError(f"the state was saved with {before}: give the same, or start a new run")
        for name, value in kept.items():
            if isinstance(value, str) and _NOT_PLAIN.fullmatch(value) and name not in pipeline_arguments:
                raise ValueError(f"the state was saved with an argument {name} that no file can hold: give it again")
        saved["pipeline_arguments"] = kept | pipeline_arguments
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})


def _as_saved(value: Any) -> Any:
    """An argument of the pipeline's call as a state file has it."""
    if isinstance(value, int | float | bool | None) or (isinstance(value, str) and not value.startswith("<")):
        return value
    return f"<{type(value).__name__} {content_hash(value)}>"


def described(settings: Any, **facts: Any) -> dict[str, str]:
    """These facts and the settings of a run as a video file keeps them; `fifo-diffusion info` shows them."""
    plain = settings.to_json()
    facts |= {name: value for name, value in plain.items() if name not in ("seeds", "batch") and value != {}}
    return {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in facts.items()}


def layout_for(model: VideoModel, asked: QueueSettings) -> Layout:
    """The queue layout of these settings, with the model's own clip length where no window is given."""
    asked = checked(asked)
    window = model.frames if asked.window is None else asked.window
    check_slots(window, asked.num_partitions)
    check_taken(asked)
    return layout_of(replace(asked, window=window))


def check_tail(settings: RunSettings) -> None:
    """Refuse settings of the tail that would do nothing, or that the layout has no room for.

    Raises:
        ArgumentError: such a setting.
    """
    given = {name: getattr(settings, name) for name, spec in specs(TailSettings).items()}
    given = {name: value for name, value in given.items() if value != specs(TailSettings)[name].default}
    for name, value in given.items():
        needs = {"tail_reference": "coherent_tail", "tail_adain": "coherent_tail"}.get(name)
        needs = {"tail_every": "tail_draws", "tail_threshold": "tail_draws"}.get(name, needs)
        if settings.compat == "published":
            raise ArgumentError(name, value, Setting("compat", "published"), " has none; leave one of them out")
        if needs is not None and needs not in given:
            raise ArgumentError(name, value, "it does nothing without ", Setting(needs), "; give both, or none")
    if settings.tail_draws > 1 and not can_choose(settings.queue_layout):
        what = "where frames enter, their windows show none before them that draws could be compared with; use "
        raise ArgumentError("tail_draws", settings.tail_draws, what, Setting("tail_draws", 1), ", or another layout")


def check_anchors(settings: RunSettings, start: Any) -> None:
    """Refuse anchors where there is nothing to keep, and settings of them that would do nothing.

    Raises:
        ArgumentError: such a setting.
    """
    given = {name: getattr(settings, name) for name, spec in specs(AnchorSettings).items()}
    given = {name: value for name, value in given.items() if value != specs(AnchorSettings)[name].default}
    for name, value in given.items():
        if settings.compat == "published":
            raise ArgumentError(name, value, Setting("compat", "published"), " has none; leave one of them out")
        if not settings.anchors:
            raise ArgumentError(name, value, "it does nothing without ", Setting("anchors"), "; give both, or none")
        if isinstance(start, str) and start == "noise":
            raise ArgumentError(name, value, Setting("start", "noise"), " has no frames to keep; leave one of them out")


def check_taken(asked: QueueSettings) -> None:
    """Refuse what the layout would not read.

    Raises:
        ArgumentError: a setting of the queue is given that is not of this layout.
    """
    for name, spec in specs(QueueSettings).items():
        value = getattr(asked, name)
        if name not in ("window", *QueueSettings.of_layout(asked.layout)) and value != spec.default:
            raise ArgumentError(name, value, Setting("layout", asked.layout), " does not take it; leave it out")


def check_slots(window: int, num_partitions: int) -> None:
    """Raises ValueError for a queue that no memory holds."""
    if window * num_partitions > MOST_SLOTS:
        what = f"a queue of {num_partitions} x {window} frames is too long; use "
        most = Setting("num_partitions", MOST_SLOTS // window)
        raise ArgumentError("num_partitions", num_partitions, what, most, " or less")


def negative_prompts(given: Any, videos: int) -> tuple[Prompt, ...] | None:
    """One for each video, or None. A dictionary holds encoded texts, see `negative_embeds_of`.

    Raises:
        ValueError: another number of them.
        TypeError: they are no texts.
    """
    if given is None:
        return None
    found = [given] if isinstance(given, str | Embeds) else given
    found = negative_embeds_of(found) if isinstance(found, Mapping) else found
    kinds = {type(text) for text in found} if isinstance(found, list | tuple) else {type(found)}
    found = found * videos if found != given and len(found) == 1 else found
    if kinds not in ({str}, {Embeds}, set()):
        raise ArgumentTypeError("negative_prompt", given, "give a text, or a list with one for each video")
    for text in found if kinds == {str} else ():
        check_text("negative_prompt", text)
    if len(found) != videos:
        raise ValueError(f"{len(found)} negative prompts for {videos} videos: give one, or one for each")
    return tuple(found)


def seeds_of(
    seed: int | Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None, videos: int
) -> tuple[int, ...]:
    """One seed per video: counted up from one (0 follows on 2**64 - 1), as given, or drawn.

    Raises:
        ValueError: another number of seeds, or one out of range.
        TypeError: something else than generators.
    """
    if seed is None and isinstance(generator, list | tuple):
        if len(generator) != videos:
            raise ValueError(f"{len(generator)} generators for {videos} videos: give one, or one for each")
        return tuple(_drawn_seed(each) for each in generator)
    if seed is None:
        seed = _drawn_seed(generator)
    seed = seed.tolist() if isinstance(seed, np.ndarray | Tensor) else plain(seed)
    one = not isinstance(seed, Sequence) or isinstance(seed, str | bytes | bytearray)
    seeds = [seed] if one else [plain(each) for each in seed]
    for value in seeds:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
            raise ArgumentError("seed", value, "give a whole number from 0 to 2**64 - 1")
    if one:
        return tuple((seed + k) % 2**64 for k in range(videos))
    if len(seeds) != videos:
        raise ValueError(f"{len(seeds)} seeds for {videos} videos: give one, or one for each")
    return tuple(seeds)


def _drawn_seed(generator: torch.Generator | None) -> int:
    if generator is not None and not isinstance(generator, torch.Generator):
        advice = "give a torch.Generator, or a list of them; a number goes into "
        raise ArgumentTypeError("generator", generator, advice, Setting("seed"))
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(0, 2**31, (1,), generator=generator, device=device))
