"""What a run can be told while it is made, as records of one file."""

import re
from collections.abc import Mapping
from typing import Any

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.request import check_texts
from fifo_diffusion.settings import FifoSettings, specs
from fifo_diffusion.settings.kinds import Size

CHANGE = specs(FifoSettings)["prompt_change"].kind
COMMANDS = {
    "prompt": {"text": str, "change": str, "frame": int},
    "schedule": {"keys": dict},
    "stop": {},
    "pause": {},
    "resume": {"keep": str},
    "pin": {"frame": int},
    "unpin": {"frame": int},
    "extend": {"num_frames": int},
}
"""What can be commanded, and with which fields; see `RunFolder.command`."""
NEEDED = {"prompt": ("text",), "schedule": ("keys",), "pin": ("frame",), "unpin": ("frame",), "extend": ("num_frames",)}


def checked_command(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a command as they are written down; None stands for left out.

    Raises:
        ValueError: there is no such command, or they do not fit.
        UsageError: a text that is no prompt.
    """
    known = COMMANDS.get(kind)
    if known is None:
        raise ValueError(f"there is no command {kind!r}: give {', '.join(COMMANDS)}")
    fields = {name: value for name, value in fields.items() if value is not None}
    for name in NEEDED.get(kind, ()):
        if name not in fields:
            raise ValueError(f"the command {kind} needs {name}")
    for name, value in fields.items():
        wanted = known.get(name)
        if wanted is None or not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"the command {kind} takes no {name}={value!r}")
    if "keep" in fields:
        Size().take("keep", fields["keep"])
    if kind == "schedule":
        fields["keys"] = keys_of(fields["keys"])
        for said in fields["keys"].values():
            _check(said) if isinstance(said, str) else _check(said["prompt"], said.get("change"))
    elif kind == "prompt":
        _check(fields["text"], fields.get("change"))
    return fields


def _check(text: str, change: str | None = None) -> None:
    check_texts(text, None)
    if change is not None:
        CHANGE.take("change", change)


def keys_of(schedule: Mapping[Any, Any]) -> dict[str, Any]:
    """A schedule {frame: text} or {frame: {"prompt": text, "change": how}} as it is written down.

    Raises:
        ValueError: it is none.
    """
    found = {}
    for frame, said in schedule.items():
        changes = isinstance(said, Mapping) and said.keys() <= {"prompt", "change"} and "prompt" in said
        texts = said.values() if changes else [said]
        if not re.fullmatch(r"\d{1,10}", str(frame)) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"a schedule is {{frame: text}}, and {frame!r}: {said!r} is neither")
        found[str(int(frame))] = dict(said) if changes else said
    return found


def is_command(command: Mapping[str, Any]) -> bool:
    """Whether a record is a command of this version."""
    kind = command.get("do")
    known = COMMANDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        return False
    try:
        checked_command(str(kind), {name: command[name] for name in known if name in command})
    except (ValueError, UserError):
        return False
    return True
