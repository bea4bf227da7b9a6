"""What a run is asked for while it is made: commands out of its folder, as orders to be carried out between frames."""

from collections.abc import Callable, Mapping
from typing import Any

from fifo_diffusion.errors import message_of
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.runs.timeline import pending

Order = dict[str, Any]
"""As a command: `do`, and its fields. Further: `frame`, before which it is carried out; `made`, that it was carried out
before, and is now once more; `control`, the bytes of commands that were read; `void`, that a later one has undone
it."""


class Orders:
    """The orders of one run, read by the one who makes it.

    Args:
        run: its folder.
        frame: there are so many; it goes on from a state of them.
    """

    def __init__(self, run: RunFolder, frame: int) -> None:
        events = run.events()[0]
        self._run, self.read = run, max((event.get("control", 0) for event in events), default=0)
        self._waiting = [_order(event) for event in pending(events, frame)]

    def due(self, status: Status) -> list[Order]:
        """What is to be carried out before the next frame is made. A prompt that a command has for later is noted as
        planned.

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
                if order.get("frame", frame) > frame and order["do"] == "prompt":
                    told = {name: order[name] for name in ("text", "frame", "change") if name in order}
                    self._run.append_event("planned", **told, asked=frame, control=end)
                    self._waiting.append(order | {"made": False})
                else:
                    found.append(order)
        due = [order for order in self._waiting if order["frame"] <= frame]
        self._waiting = [order for order in self._waiting if order["frame"] > frame]
        return [*due, *_in_force(found, status)]


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
    counts = "stop" if after.stopped else "pause" if after.paused else ""
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
