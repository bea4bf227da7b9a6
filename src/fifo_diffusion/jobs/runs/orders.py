"""What a run is asked for while it is made: commands out of its folder, as orders to be carried out between frames."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fifo_diffusion.errors import message_of
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.runs.timeline import pending

Order = dict[str, Any]
"""As a command: `do`, and its fields. Further: `frame`, before which it is carried out; `made`, that it was carried out
before, and is now once more; `later`, that it is only noted as planned now; `control`, the bytes of commands that were
read; `void`, that a later one has undone it."""


class Orders:
    """The orders of one run, read by the one who makes it.

    Args:
        run: its folder.
        frame: there are so many; it goes on from a state of them.
        decided: bytes of commands by which it was decided that the run goes on: stops and pauses in them are over.
    """

    def __init__(self, run: RunFolder, frame: int, decided: int) -> None:
        events = run.events()[0]
        self._decided = decided
        self._run, self.read = run, carried_out(events)
        self._waiting = [_order(event) for event in pending(events, frame)]

    def due(self, status: Status) -> list[Order]:
        """What is to be carried out before the next frame is made, in the order in which it was asked for.

        Args:
            status: of the run as it is made.
        """
        frame = status.frames
        found: list[Order] = []
        size = _size(self._run.folder / "control.jsonl")
        if size > self.read:
            for command, end in self._run.commands_in_place(self.read):
                self.read = end
                order = {name: value for name, value in command.items() if name != "at"} | {"control": end}
                later = order["do"] == "prompt" and order.get("frame", frame) > frame
                found.append(order | {"later": True} if later else order)
        due = [order for order in self._waiting if order["frame"] <= frame]
        self._waiting = [order for order in self._waiting if order["frame"] > frame]
        before = [order for order in found if order["control"] <= self._decided]
        return [*due, *_void(before, ""), *_in_force(found[len(before) :], status)]

    def plan(self, order: Order) -> None:
        """A prompt for later is noted."""
        self._waiting.append({name: value for name, value in order.items() if name != "later"} | {"made": False})

    def drop_planned(self) -> None:
        """A schedule has come into force, in the place of what was planned."""
        self._waiting = [order for order in self._waiting if order["made"]]


def carried_out(events: Iterable[Mapping[str, Any]]) -> int:
    """The bytes of commands that were carried out, by a run's log."""
    return max((event.get("control", 0) for event in events), default=0)


def apply(stream: Any, order: Mapping[str, Any]) -> dict[str, Any]:
    """Change the prompts of a stream as an order has it.

    Returns:
        fields of the event that tells it.

    Raises:
        ValueError: the model does not take them. Nothing has changed.
    """
    if order["do"] == "prompt":
        how = order.get("change")
        key = stream.change_prompt(order["text"], how)
        told = {"text": order["text"], "key": key, "change": how or stream.settings.prompt_change}
    else:
        keys = {int(frame): said for frame, said in order["keys"].items()}
        try:
            stream.schedule = keys
        except ValueError:  # it says something else of frames that are fixed already: it is meant for those after them
            first = stream.change_frame
            stream.schedule = {max(first, frame): said for frame, said in sorted(keys.items())}
        told = {"keys": order["keys"]}
    return told | {"schedule": {str(frame): said for frame, said in stream.schedule.items()}}


def tried(change: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """What `change` returns, or why it was refused."""
    try:
        return change(), ""
    except (ValueError, TypeError) as error:
        return None, str(message_of(error))


def _order(event: Mapping[str, Any]) -> Order:
    do = "schedule" if "keys" in event else "prompt"
    names = ("text", "keys", "change", "frame", "made")
    return {"do": do} | {name: event[name] for name in names if event.get(name) is not None}


def _in_force(found: list[Order], status: Status) -> list[Order]:
    """What came at once, with stops and pauses void but for the one that counts in the end, if any does: by
    `Status.after`, as where nobody makes the run."""
    after = status.after(found)
    return _void(found, "stop" if after.stopped else "pause" if after.paused else "")


def _void(found: list[Order], counts: str) -> list[Order]:
    """All stops and pauses but the last of this kind."""
    last = max((k for k, order in enumerate(found) if order["do"] == counts), default=-1)
    return [
        order | {"void": True} if order["do"] in ("stop", "pause") and k != last else order
        for k, order in enumerate(found)
    ]


def _size(path: Any) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
