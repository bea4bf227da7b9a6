"""The arguments that shape a video, checked and completed; what a saved state must agree with."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.execution.interfaces import as_banded
from fifo_diffusion.method import Lookahead, QueueLayout
from fifo_diffusion.models.shared.arguments import MOST_SLOTS, STRONGEST, check_text, flag, number, plain, short, whole
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.fingerprint import content_hash
from fifo_diffusion.models.shared.texts import Embeds, Prompt, negative_embeds_of, prompt_from_json, prompt_to_json
from fifo_diffusion.streaming.state import QueueState

_NOT_PLAIN = re.compile(r"<\w+( [0-9a-f]{16})?>")


@dataclass(frozen=True)
class RunSettings:
    """Every argument of `FIFO.stream` that shapes the video, but prompts and start."""

    seeds: tuple[int, ...]
    batch: bool
    num_partitions: int
    lookahead: Lookahead
    frames_per_level: int
    window: int
    eta: float
    height: int
    width: int
    guidance_scale: float
    negative_prompt: tuple[Prompt, ...] | None
    prompt_change: str
    compat: str | None
    scheduler_exact: bool
    pipeline_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> QueueLayout:
        return QueueLayout(self.window, self.num_partitions, self.lookahead, self.frames_per_level)

    @property
    def call(self) -> dict[str, Any]:
        """Arguments for the pipeline's own call."""
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        if self.negative_prompt is not None:
            call["negative_prompt"] = list(self.negative_prompt)
        return call | self.pipeline_arguments

    @property
    def negative_embeds(self) -> list[Embeds]:
        """The encoded ones among the negative prompts, whose tensors a saved state needs beside `to_json`."""
        return [text for text in dict.fromkeys(self.negative_prompt or ()) if isinstance(text, Embeds)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; arguments that are no plain values are named by their type and a hash of what they hold."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.negative_prompt is not None:
            values["negative_prompt"] = [prompt_to_json(text) for text in self.negative_prompt]
        return values | {"pipeline_arguments": {k: _as_saved(v) for k, v in self.pipeline_arguments.items()}}

    @classmethod
    def collect(
        cls,
        model: VideoModel,
        *,
        videos: int,
        state: QueueState | None,
        seed: int | Sequence[int] | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        negative_prompt: Any,
        num_inference_steps: int | None,
        window: int | None,
        pipeline_arguments: dict[str, Any],
        compat: str | None,
        **given: Any,
    ) -> "RunSettings":
        """Check arguments and fill in the model's defaults, or those of the state that is continued.

        Raises:
            ValueError: see the messages.
        """
        num_inference_steps = None if num_inference_steps is None else whole("num_inference_steps", num_inference_steps)
        window = None if window is None else whole("window", window, least=2)
        given |= _checked(given)
        if compat not in (None, "published"):
            raise ValueError(f'compat={compat!r} is not known: leave it out or use "published"')
        negative = negative_prompts(negative_prompt, videos)
        given |= {"window": window, "compat": compat, "negative_prompt": negative}
        if seed is not None and generator is not None:
            raise ValueError("give either seed or generator, not both")
        if state is not None:
            if generator is not None:
                raise ValueError("a continued run keeps its seed: leave generator out")
            given["seeds"] = None if seed is None else seeds_of(seed, None, videos)
            settings = cls._from_state(state, given, pipeline_arguments)
            _check_steps(settings.layout, num_inference_steps)
            return settings
        for name in ("height", "width", "guidance_scale", "eta"):
            if given[name] is None:
                given[name] = model.defaults[name]
        given["window"] = model.frames if window is None else window
        check_slots(given["window"], given["num_partitions"])
        settings = cls(seeds=seeds_of(seed, generator, videos), pipeline_arguments=pipeline_arguments, **given)
        _check_steps(settings.layout, num_inference_steps)
        if settings.layout.banded:
            as_banded(model)
            if compat == "published":
                raise ValueError(
                    'compat="published" knows no lookahead="banded": use lookahead=True, or leave compat out'
                )
        if model.most_frames is not None and settings.window > model.most_frames:
            raise ValueError(
                f"window={settings.window} is more frames than this model can take at once: use window="
                f"{model.most_frames} or less"
            )
        model.latent_shape(settings.height, settings.width)
        return settings

    @classmethod
    def _from_state(cls, state: QueueState, given: dict[str, Any], pipeline_arguments: dict[str, Any]) -> "RunSettings":
        saved = dict(state.settings)
        saved.pop("prompts")
        if saved["negative_prompt"] is not None:
            saved["negative_prompt"] = [prompt_from_json(text, state.embeds) for text in saved["negative_prompt"]]
        usual = {"num_partitions": 4, "lookahead": True, "frames_per_level": 1, "prompt_change": "tail"}
        usual |= {"batch": saved["batch"], "scheduler_exact": False}
        for name, value in given.items():
            before = tuple(saved[name]) if isinstance(saved[name], list) else saved[name]
            if value is not None and value != usual.get(name) and value != before:
                raise ValueError(
                    f"the state was saved with {name}={before!r}, not {value!r}: leave {name} out, or start a new run"
                )
        kept = saved["pipeline_arguments"]
        for name, value in pipeline_arguments.items():
            if name not in kept:
                raise ValueError(f"the state was saved without {name}: leave it out, or start a new run")
            # States of earlier versions have the type only.
            if kept[name] not in (_as_saved(value), f"<{type(value).__name__}>"):
                before = f"{name}={kept[name]!r}" if not _NOT_PLAIN.fullmatch(str(kept[name])) else f"another {name}"
                raise ValueError(f"the state was saved with {before}: give the same, or start a new run")
        for name, value in kept.items():
            if isinstance(value, str) and _NOT_PLAIN.fullmatch(value) and name not in pipeline_arguments:
                raise ValueError(f"the state was saved with an argument {name} that no file can hold: give it again")
        saved["pipeline_arguments"] = kept | pipeline_arguments
        saved["seeds"] = tuple(saved["seeds"])
        if saved["negative_prompt"] is not None:
            saved["negative_prompt"] = tuple(saved["negative_prompt"])
        return cls(**saved)


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


def default_layout(
    model: VideoModel, num_partitions: int, lookahead: Lookahead, frames_per_level: int, window: int | None
) -> QueueLayout:
    """The queue layout of these arguments, with the model's own clip length where no window is given."""
    window = model.frames if window is None else whole("window", window, least=2)
    n, b = whole("num_partitions", num_partitions), whole("frames_per_level", frames_per_level)
    check_slots(window, n)
    return QueueLayout(window, n, plain(lookahead), b)


def check_slots(window: int, num_partitions: int) -> None:
    """Raises ValueError for a queue that no memory holds."""
    if window * num_partitions > MOST_SLOTS:
        raise ValueError(
            f"a queue of {num_partitions} x {window} frames is too long: use num_partitions={MOST_SLOTS // window} or "
            "less"
        )


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
        raise TypeError(f"negative_prompt must be a text, or a list with one for each video, not {short(given)}")
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
            raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, not {short(value)}")
    if one:
        return tuple((seed + k) % 2**64 for k in range(videos))
    if len(seeds) != videos:
        raise ValueError(f"{len(seeds)} seeds for {videos} videos: give one, or one for each")
    return tuple(seeds)


def _drawn_seed(generator: torch.Generator | None) -> int:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, or a list of them, not {short(generator)}: a number goes into seed="
        )
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(0, 2**31, (1,), generator=generator, device=device))


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Those of these arguments that are numbers or truth values, as Python's own.

    Raises:
        ValueError: one is none, or out of range.
    """
    found: dict[str, Any] = {}
    for name in ("num_partitions", "frames_per_level", "height", "width"):
        optional = name in ("height", "width") and given[name] is None
        found[name] = None if optional else whole(name, given[name])
    for name, least, most in (("guidance_scale", -STRONGEST, STRONGEST), ("eta", 0.0, 1.0)):
        found[name] = None if given[name] is None else number(name, given[name], least, most)
    found["lookahead"] = plain(given["lookahead"])
    found["scheduler_exact"] = flag("scheduler_exact", given["scheduler_exact"])
    return found


def _check_steps(layout: QueueLayout, steps: int | None) -> None:
    if steps is None or steps == layout.levels:
        return
    f, b = layout.frames, layout.frames_per_level
    fitting = sorted({max(1, steps * b // f), max(1, -(-steps * b // f))})
    fitting = [n for n in fitting if n * f % b == 0]
    advice = " or ".join(f"num_partitions={n} ({n * f // b} steps)" for n in fitting)
    raise ValueError(
        f"num_inference_steps={steps} does not fit: the queue of {layout.partitions} x {f} frames, {b} per level, "
        f"takes {layout.levels} steps; leave it out, or use {advice}"
    )
