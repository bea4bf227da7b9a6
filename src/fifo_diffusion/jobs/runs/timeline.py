"""A run's events as a schedule: the prompts by the frame that they count from, which make the same video again."""

from collections.abc import Iterable, Mapping
from typing import Any

from fifo_diffusion.jobs.prompt_files import in_frames
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.requests import schedule_in


def prompts_of(run: RunFolder) -> dict[int, str]:
    """All prompts of a run, {frame: text}, as `FIFO.stream` takes them: those asked for at the beginning, and what was
    given and edited while it ran. With the request's other settings they make the same frames again.

    A prompt that came into force by "blend" has two keys: where it began, and where it is reached.

    Raises:
        UserError: the run is gone.
    """
    events = run.events()[0]
    fps = next((event["fps"] for event in events if event["event"] == "started"), 1.0)
    asked = schedule_in(run.request)
    keys = {0: asked} if isinstance(asked, str) else in_frames(asked, fps)
    for event in events:
        if event["event"] == "prompt":
            keys = _assigned(keys, event)
        elif event["event"] == "schedule":
            keys = edited(keys, event["keys"], event["key"])
    return keys


def edited(keys: Mapping[int, str], new: Mapping[Any, str], first: int) -> dict[int, str]:
    """A schedule whose keys from `first` on are replaced; new keys before it count from there on."""
    kept = {frame: text for frame, text in keys.items() if frame < first}
    late = {max(first, int(frame)): text for frame, text in sorted(new.items(), key=lambda each: int(each[0]))}
    return kept | late


def _assigned(keys: Mapping[int, str], event: Mapping[str, Any]) -> dict[int, str]:
    key, text = event["key"], event["text"]
    kept = {frame: before for frame, before in keys.items() if frame < key}
    if event.get("change") == "blend":
        return kept | {key: entering(keys, key), event["reached"]: text}
    return kept | {key: text}


def entering(keys: Mapping[int, str], frame: int) -> str:
    """The text that counts for a frame."""
    return keys[max((key for key in keys if key <= frame), default=min(keys))]


def pending(events: Iterable[Mapping[str, Any]], frame: int) -> list[dict[str, Any]]:
    """Changes that are to be made, or made again, after going on from a state: `planned`, `prompt` and `schedule`
    events for this frame or later, in order. In those that came into force before, `made` is True."""
    found: list[dict[str, Any]] = []
    for event in events:
        if event["event"] not in ("planned", "prompt", "schedule") or event["frame"] < frame:
            continue
        same = [each for each in found if _what(each) == _what(event)]
        if same:
            same[0]["made"] = same[0]["made"] or event["event"] != "planned"
        else:
            found.append(dict(event) | {"made": event["event"] != "planned"})
    return sorted(found, key=lambda each: each["frame"])


def _what(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event["frame"], event.get("text"), str(event.get("keys")), event.get("change")
