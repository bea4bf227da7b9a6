"""What may be asked for in a run: the settings of the command that shape a video, checked likewise."""

import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import ArgumentError, Setting, UserError, usage
from fifo_diffusion.jobs.prompt_files import MOST_FRAMES, Schedule, first_prompt, schedule_of
from fifo_diffusion.jobs.request import (
    DEFAULT_FRAMES,
    DEFAULT_MODEL,
    at_most_one,
    check_texts,
    check_without_file,
    model_id,
    quantize_id,
)
from fifo_diffusion.settings import STARTS, Settings, json_schema, specs

_OF_FILES = {"output", "prompts", "state", "run", "overwrite", "write_in_turn", "drift"}
_OF_THE_COMMAND = {"dry_run", "quiet", "json", "debug", "method"}
DEFAULT_EVERY = 32
"""Frames between two states of a run."""


def names() -> list[str]:
    """The settings that a run may have, by name."""
    every = specs(Settings).values()
    wanted = [spec.name for spec in every if spec.panel or spec.positional]
    return [name for name in wanted if name not in _OF_FILES | _OF_THE_COMMAND]


def schema() -> dict[str, Any]:
    """JSON Schema of a request."""
    found = json_schema(Settings, names())
    schedule = found["properties"]["schedule"]
    how = {
        "prompt": {"type": "string"},
        "change": json_schema(Settings, ["prompt_change"])["properties"]["prompt_change"],
    }
    change = {"type": "object", "properties": how, "required": ["prompt", "change"], "additionalProperties": False}
    either = {"anyOf": [{"type": "string"}, change]}
    texts = {"type": "object", "additionalProperties": either, "minProperties": 1}
    schedule |= texts | {"description": 'Prompts by frame or time: {"0": "a red ball", "120": "a blue ball"}.'}
    schedule.pop("pattern", None)
    return found


def checked(request: Mapping[str, Any], *, start_file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """A request as a run keeps it: every value checked, defaults that the model does not decide filled in, names that
    mean the same in another folder.

    Args:
        request: settings by their names; None stands for left out. `schedule` is {frame or time: prompt}.
        start_file: what it starts from, where that is a file.

    Raises:
        ArgumentError: a value does not do.
        UsageError: settings that exclude or need each other, that no run has, or that are missing.
    """
    every, known = specs(Settings), names()
    given = {name: value for name, value in request.items() if value is not None}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            reason = "a run keeps its own files" if name in _OF_FILES else "a run has no such setting"
            raise usage(Setting(name), f": {reason}; leave it out")
        if name == "schedule":
            if not isinstance(value, Mapping):
                raise ArgumentError(name, value, 'give {frame: prompt}, such as {"0": "a red ball"}')
            found[name] = {str(key): text for key, text in schedule_of(value).items()}
        else:
            found[name] = every[name].kind.take(name, value)
    at_most_one(found, "prompt", "schedule")
    at_most_one(found, "num_frames", "seconds", "forever")
    if "prompt" not in found and "schedule" not in found:
        raise usage(Setting("prompt"), " is missing: say what should be seen, or give ", Setting("schedule"))
    check_texts(found.get("prompt"), found.get("negative_prompt"))
    if "keep_seconds" in found and not (found.get("forever") and "keep" in found):
        raise usage(Setting("keep_seconds"), " goes with ", Setting("forever", True), " and ", Setting("keep"))
    _take_start(found, start_file)
    if not found.get("forever") and "seconds" not in found:
        found.setdefault("num_frames", DEFAULT_FRAMES)
    found["model"] = model_id(found.get("model", DEFAULT_MODEL))
    if "quantize" in found:
        found["quantize"] = quantize_id(found["quantize"])
    found.setdefault("seed", random.randrange(2**31))
    if "lora" in found:
        from fifo_diffusion.models.loading.adapters import read_adapters

        found["lora"] = list(map(str, read_adapters(found["lora"])))
    return found


def is_request(request: Any) -> bool:
    """Whether this is what `checked` gives, as a file has it: every value of its kind. What this version does not know
    is passed over."""
    if not isinstance(request, Mapping) or not {"model", "seed"} <= request.keys():
        return False
    every = specs(Settings)
    if not all(every[n].kind.fits(v) for n, v in request.items() if n in every and n not in ("schedule", "start")):
        return False
    if not isinstance(request.get("start", ""), str) or not {"num_frames", "seconds", "forever"} & request.keys():
        return False
    if "schedule" not in request:
        return "prompt" in request
    try:
        return isinstance(request["schedule"], Mapping) and bool(schedule_of(request["schedule"]))
    except UserError:
        return False


def schedule_in(request: Mapping[str, Any]) -> Schedule | str:
    """The prompt of a checked request, or its schedule."""
    return request["prompt"] if "prompt" in request else schedule_of(request["schedule"])


def first_prompt_of(request: Mapping[str, Any]) -> str:
    """The text that a checked request's video opens with, for lists."""
    if "prompt" in request:
        return request["prompt"]
    return first_prompt(schedule_of(request["schedule"]))


def frames_asked(request: Mapping[str, Any], fps: float) -> int | None:
    """Frames in all of a checked request, at so many per second; None: endless.

    Raises:
        ArgumentError: more than any video may have.
    """
    if request.get("forever"):
        return None
    if "seconds" not in request:
        return request["num_frames"]
    frames = request["seconds"] * fps
    if frames > MOST_FRAMES:
        most = f"they are {frames:g} frames at {fps:g} frames/s; give at most {MOST_FRAMES / fps:g}"
        raise ArgumentError("seconds", request["seconds"], most)
    return max(1, round(frames))


def _take_start(found: dict[str, Any], start_file: str | os.PathLike[str] | None) -> None:
    start = found.get("start", STARTS[0])
    if start_file is None:
        if start not in STARTS:
            raise ArgumentError("start", start, "give clip or noise; a file is given as start_file")
        check_without_file(found, start)
        return
    if "start" in found:
        raise usage(Setting("start"), " and start_file exclude each other: give one of them")
    path = Path(start_file)
    if not path.exists():
        raise ArgumentError("start_file", str(start_file), "there is no such file; give an image, a video or a folder")
    suffix = path.suffix.lower() if re.fullmatch(r"\.[a-z0-9]{1,5}", path.suffix.lower()) else ""
    if suffix == ".safetensors":
        raise ArgumentError("start_file", str(start_file), "a saved run goes on in its own folder, or with state")
    found["start"] = f"start/start{suffix if path.is_file() else ''}"
