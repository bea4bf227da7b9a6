"""A run's events as a schedule: the prompts by the frame that they count from, which make the same video again."""

from collections.abc import Iterable, Mapping
from typing import Any

from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.requests import schedule_in
from fifo_diffusion.models.loading.checkpoints import checkpoint_of

CHANGES = ("planned", "prompt", "schedule")
"""Events that change which text a frame has."""
USUAL_FPS = 8.0
"""For times in the schedule of a run that has not begun, of a model that is not known."""


def prompts_of(run: RunFolder) -> dict[int, Any]:
    """All prompts of a run as `FIFO.stream` takes them, {frame: text} or {frame: {"prompt": text, "change": how}}:
    those asked for at the beginning, and what was given and edited while it ran. With the request's other settings they
    make the same frames again.

    Raises:
        UserError: the run is gone.
    """
    events = run.events()[0]
    asked = schedule_in(run.request)
    keys: dict[int, Any] = {0: asked} if isinstance(asked, str) else dict(in_frames(asked, fps_of(run) or USUAL_FPS))
    for event in events:
        if event["event"] in ("prompt", "schedule") and "schedule" in event:
            keys = _followed(keys, {int(frame): said for frame, said in event["schedule"].items()})
    return keys


def fps_of(run: RunFolder) -> float | None:
    """Frames per second at which a run's video plays or will play; None: its model will tell, once it is loaded.

    Raises:
        UserError: the run is gone.
    """
    known = checkpoint_of(run.request["model"])
    return run.status.fps or run.request.get("fps") or (known.defaults.get("fps") if known else None)


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
        if event["event"] == "schedule":  # in the place of what was planned until then, but for itself
            found = [each for each in found if each["made"] or _fulfils(event, each)]
        if event["event"] not in CHANGES or event["frame"] < frame:
            continue
        planned = event["event"] == "planned"
        same = next((each for each in found if not each["made"] and _fulfils(event, each)), None)
        if same is not None and not planned:
            same["made"] = True
        else:
            found.append(dict(event) | {"made": not planned})
    return sorted(found, key=lambda each: each["frame"])


def _fulfils(event: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Whether an event is the change that was planned. (A plan that says no way leaves it to the run's settings.)"""
    how = planned.get("change")
    same = all(event.get(name) == planned.get(name) for name in ("frame", "text", "keys"))
    return same and how in (None, event.get("change"))
