"""A run's events as a schedule: the prompts by the frame that they count from, which make the same video again."""

from collections.abc import Iterable, Mapping
from typing import Any

from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.requests import schedule_in

CHANGES = ("planned", "prompt", "schedule")
"""Events that change which text a frame has."""


def prompts_of(run: RunFolder) -> dict[int, Any]:
    """All prompts of a run as `FIFO.stream` takes them, {frame: text} or {frame: {"prompt": text, "change": how}}:
    those asked for at the beginning, and what was given and edited while it ran. With the request's other settings they
    make the same frames again.

    Raises:
        UserError: the run is gone.
    """
    events = run.events()[0]
    fps = next((event["fps"] for event in events if event["event"] == "started" and event.get("fps")), 1.0)
    asked = schedule_in(run.request)
    keys: dict[int, Any] = {0: asked} if isinstance(asked, str) else dict(in_frames(asked, fps))
    for event in events:
        if event["event"] in ("prompt", "schedule") and "schedule" in event:
            keys = _followed(keys, {int(frame): said for frame, said in event["schedule"].items()})
    return keys


def _followed(before: Mapping[int, Any], known: Mapping[int, Any]) -> dict[int, Any]:
    """What was known of all frames, and is known now of those in the queue and later ones. Both are in the order in
    which changes happen; the first of those known now is what holds from earlier on, without its way."""
    first, *later = known
    order = list(before)
    kept = order[: order.index(first) + 1] if first in before else [frame for frame in order if frame < first]
    return {frame: before[frame] for frame in kept} | {frame: known[frame] for frame in later}


def pending(events: Iterable[Mapping[str, Any]], frame: int) -> list[dict[str, Any]]:
    """Changes that are to be made, or made again, after going on from a state of `frame` frames: those for then or
    later, in order. In those that came into force before, `made` is True."""
    found: list[dict[str, Any]] = []
    for event in events:
        if event["event"] not in CHANGES or event["frame"] < frame:
            continue
        planned = event["event"] == "planned"
        same = next((each for each in found if _what(each) == _what(event)), None)
        if same is not None and not planned:
            same["made"] = True
        else:
            found.append(dict(event) | {"made": not planned})
    return sorted(found, key=lambda each: each["frame"])


def _what(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event["frame"], event.get("text"), str(event.get("keys"))
