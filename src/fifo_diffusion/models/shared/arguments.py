"""What people pass: names that are known, values that are numbers, and which arguments of a pipeline's own call have a
meaning where FIFO has taken over its sampling."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from fifo_diffusion.errors import ArgumentError, ArgumentTypeError
from fifo_diffusion.settings import Settings, specs
from fifo_diffusion.settings.kinds import Number, Whole, plain

MOST_SLOTS = 65536

EMBEDS = ("prompt_embeds", "pooled_prompt_embeds")
NEGATIVE_EMBEDS = tuple(f"negative_{name}" for name in EMBEDS)
"""How pipelines call a text that is encoded already, and the one that is guided away from."""
OTHER_EMBEDS = re.compile(r"(negative_)?prompt_(embeds_\w+|cu_seqlens)")
"""The names of a few pipelines for what belongs to their encoded texts."""

_LONG_VIDEOS = "it belongs to the pipeline's own way to long videos, whose place FIFO takes"
_OWN_STEPS = "it is an argument of its own: give it beside them"
_MANY = "give a list with one prompt for each video"
_CALLBACK = "use callback_on_frame"
_LENGTHS = "give num_frames= for the length of the video, window= for that of the model's clips"
REFUSED = {
    "callback": _CALLBACK,
    "callback_steps": _CALLBACK,
    "callback_on_step_end": _CALLBACK,
    "callback_on_step_end_tensor_inputs": _CALLBACK,
    "latents": "latents go into start=",
    "output_type": "fifo(...) takes it, a stream's frames are uint8 arrays",
    "return_dict": "fifo(...) always returns an object with .frames",
    "num_videos_per_prompt": _MANY,
    "num_images_per_prompt": _MANY,
    "video_length": _LENGTHS,
    "frames": _LENGTHS,
    "min_seconds": _LENGTHS,
    "max_seconds": _LENGTHS,
    "timesteps": _OWN_STEPS,
    "sigmas": _OWN_STEPS,
    "denoising_end": "every frame is denoised to its end",
    "guidance_rescale": "it is an argument of FIFO's streams alone",
    "decode_chunk_size": "frames are decoded as they come",
    "vae_batch_size": "frames are decoded as they come",
    "ar_step": _LONG_VIDEOS,
    "overlap_history": _LONG_VIDEOS,
    "addnoise_condition": _LONG_VIDEOS,
    "base_num_frames": _LONG_VIDEOS,
    "causal_block_size": _LONG_VIDEOS,
}
"""Arguments of pipelines' own calls that would do nothing here, or harm, and why or what to give instead."""

_PASSED_ON = {
    "guidance_scale_2": specs(Settings)["guidance_scale"].kind,
    "fps": Number(0.01, 1000),
    "fps_condition": Number(0.01, 1000),
    "clip_skip": Whole(0),
}
"""Numbers that are passed on."""


def refuse_unknown(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Misspelt arguments do not pass.

    Raises:
        TypeError: names the first unknown one, and the known one that is nearest.
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{function} has no argument {name}" + (nearest(name, known) or ": check its spelling"))


def nearest(name: str, known: Collection[str]) -> str:
    """ ": did you mean ...?", where a known name is like this one; else nothing."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f": did you mean {near[0]}?" if near else ""


def passed_on(
    given: Mapping[str, Any], accepted: Mapping[str, Any] | None, own: Collection[str], function: str = "stream()"
) -> dict[str, Any]:
    """The arguments for the pipeline's own call, checked; those that are None are left out.

    Args:
        given: what is not the function's own.
        accepted: the named arguments of the pipeline's call with their defaults; None: not known, all pass.
        own: the function's own, for advice.

    Raises:
        TypeError: an argument that neither knows, or no dictionary where one is needed.
        ValueError: one that would have no effect, or a number out of range.
    """
    if accepted is not None:
        refuse_unknown(function, given, {*accepted, *REFUSED, *own})
    found = {}
    for name, value in ((name, plain(value)) for name, value in given.items()):
        as_usual = isinstance(value, bool | int | float) and value == (accepted or {}).get(name)
        if value is None or (name in REFUSED and as_usual):
            continue
        if name in (*EMBEDS, *NEGATIVE_EMBEDS):
            raise ValueError(f'{name} is a prompt: give prompt={{"prompt_embeds": ...}}')
        if OTHER_EMBEDS.fullmatch(name):
            raise ValueError(f"{name} is an encoded prompt, which this pipeline takes in parts: give prompt= as text")
        if name in REFUSED:
            raise ValueError(f"{name} cannot be passed on to the pipeline's own call: {REFUSED[name]}")
        if accepted is not None and name not in accepted:
            raise ValueError(f"this pipeline's call does not take {name}: leave it out")
        if name in _PASSED_ON:
            value = _PASSED_ON[name].take(name, value)
        elif name.endswith("_kwargs") and not isinstance(value, Mapping):
            raise ArgumentTypeError(name, value, "give a dictionary")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(name, value, "give a finite number")
        found[name] = value
    return found


def check_text(name: str, text: str) -> None:
    """No text encoder takes half a character, as which bytes that are not UTF-8 come from files and the shell."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is no text at character {error.start} ({text[error.start]!a}): write it anew"
        ) from None


def caption_cleaning(wanted: bool | None) -> bool:
    """Whether captions are cleaned. The pipeline does so by default, and without a word does not where a package is
    missing: the same prompt would be another text on another machine.

    Raises:
        ValueError: it is wanted, and a package is missing.
    """
    for package, name in (("bs4", "beautifulsoup4"), ("ftfy", "ftfy")) if wanted else ():
        if find_spec(package) is None:
            raise ValueError(f"clean_caption=True needs the package {name}: pip install {name}, or leave it out")
    return bool(wanted)
