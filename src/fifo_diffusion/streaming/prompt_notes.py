"""What a user should hear about prompts that do not do all they seem to."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.texts import Prompt
from fifo_diffusion.streaming.prompts import Prompts, check_prompts, parse_assigned
from fifo_diffusion.streaming.settings import RunSettings

logger = logging.getLogger(__name__)

LONGEST = 200
"""Letters of a text that are quoted."""


def check_all(
    model: VideoModel, keys: Mapping[int, Prompts], settings: RunSettings, num_frames: int | None, *, aloud: bool
) -> None:
    """Check the prompts of a new video, and with `aloud` tell what there is to tell; arguments as `prompt_notes`.

    Raises:
        ValueError: prompts that the model does not take.
    """
    check_prompts(model, keys.values(), settings.call)
    if settings.negative_prompt is not None and settings.guidance_scale > 1:
        check_prompts(model, [settings.negative_prompt], settings.call)
    for note in prompt_notes(model, keys, settings, num_frames) if aloud else ():
        logger.warning(note)


def assigned(model: VideoModel, prompt: Any, settings: RunSettings, *, aloud: bool) -> Prompts:
    """A prompt that is assigned to a running video, checked likewise.

    Raises:
        ValueError, TypeError: see `parse_assigned`; or the model does not take it.
    """
    prompts = parse_assigned(prompt, len(settings.seeds))
    check_prompts(model, [prompts], settings.call)
    for note in unseen_notes(model, prompts, settings.call) if aloud else ():
        logger.warning(note)
    return prompts


def prompt_notes(
    model: VideoModel, keys: Mapping[int, Prompts], settings: RunSettings, num_frames: int | None
) -> Iterator[str | Message]:
    """Of a new video, one line each.

    Args:
        keys: {frame: prompts of all videos}, frames as the viewer counts them.
    """
    late = [frame for frame in sorted(keys) if num_frames is not None and frame >= num_frames]
    late = late[1:] if settings.prompt_change == "blend" else late  # the first of them is approached
    if late:
        frames = ", ".join(map(str, late[:5])) + (", ..." if len(late) > 5 else "")
        yield f"no frame is made under the prompt of frame {frames}: the video has {num_frames} frames, from 0 on"
    negatives = settings.negative_prompt or ()
    if any(negatives) and model.told_guidance and (settings.call.get("true_cfg_scale") or 1) <= 1:
        told = "the negative prompt has no effect: this model takes its guidance as an input and makes no pass for one"
        own = "true_cfg_scale" in (model.call_arguments() or {})
        yield told + (" (in Python, true_cfg_scale above 1 adds it)" if own else "")
        negatives = ()
    elif any(negatives) and not model.told_guidance and settings.guidance_scale <= 1:
        weak = Setting("guidance_scale", settings.guidance_scale)
        yield Message("the negative prompt has no effect with ", weak, ": use more than 1")
        negatives = ()
    prompts = [prompt for key in sorted(keys) for prompt in keys[key]]
    yield from unseen_notes(model, prompts, settings.call)
    yield from unseen_notes(model, negatives, settings.call, "negative prompt")


def unseen_notes(
    model: VideoModel, prompts: Iterable[Prompt], call: Mapping[str, Any], kind: str = "prompt"
) -> Iterator[str]:
    """A line for each text that is longer than the text encoder takes, and for each prompt that the model says
    something of."""
    for text in dict.fromkeys(prompts):
        if kind == "prompt" and isinstance(text, str) and (remark := model.remark_on(text)):
            yield remark
        words = model.unseen_words(text, call) if isinstance(text, str) else ""
        if words:
            what = f"{kind} {_short(text, 60)!r}"
            yield f"the text encoder does not see the end of the {what}: {_short(words, LONGEST)!r}"


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."
