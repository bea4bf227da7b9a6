"""Which records of a run's log are events: files may be damaged, or written by hand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fifo_diffusion.settings.kinds import Size

Check = Callable[[Any], bool]


def whole(value: Any) -> bool:
    """A whole number from 0 on that JSON's readers agree about."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def number(value: Any) -> bool:
    """A finite number."""
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return fits and math.isfinite(value) if isinstance(value, float) else fits and abs(value) < 2**53


def time(value: Any) -> bool:
    """Unix time in seconds, in a year that has a date."""
    return number(value) and 0 <= value < 10**11


def rate(value: Any) -> bool:
    """Frames per second at which something plays."""
    return number(value) and value > 0


def text(value: Any) -> bool:
    return isinstance(value, str)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def texts(value: Any) -> bool:
    """An object of texts."""
    return isinstance(value, dict) and all(map(text, value.values()))


def maybe(check: Check) -> Check:
    """That, or None."""
    return lambda value: value is None or check(value)


def schedule(value: Any) -> bool:
    """{frame: text}, or {frame: {"prompt": text, "change": how}}, of one frame at least."""
    return isinstance(value, dict) and bool(value) and all(_is_frame(k) and _is_said(v) for k, v in value.items())


def _is_frame(key: str) -> bool:
    return len(key) <= 12 and key.isascii() and key.isdecimal()


def _is_said(said: Any) -> bool:
    if not isinstance(said, dict):
        return text(said)
    return text(said.get("prompt")) and all(map(maybe(text), said.values()))


_FRAME: dict[str, Check] = {"frame": whole}
NEEDED: dict[str, dict[str, Check]] = {
    "forked": _FRAME | {"parent": text, "fork": whole},
    "prompt": _FRAME | {"text": text},
    "schedule": _FRAME | {"keys": schedule, "schedule": schedule},
    "snapshot": _FRAME | {"change_frame": whole},
    "extended": {"num_frames": whole},
    **dict.fromkeys(("started", "planned", "died", "paused", "stopped", "interrupted", "completed", "failed"), _FRAME),
    "note": {"text": text},
}
"""What an event of a kind must have."""
MAY: dict[str, Check] = {
    **dict.fromkeys(("control", "asked"), whole),
    "text": maybe(text),
    "change": maybe(text),
    "keys": maybe(schedule),
    "keep": lambda value: not Size().wanted(value),
    "num_frames": maybe(whole),
    **dict.fromkeys(("fps", "model_fps"), maybe(rate)),
    "schedule": schedule,
    **dict.fromkeys(("code", "message", "why"), text),
}
"""What it may have."""


def is_event(record: Mapping[str, Any]) -> bool:
    """Whether a record is an event; one of a kind that this version does not know may hold anything else."""
    kind = record.get("event")
    if not isinstance(kind, str) or not time(record.get("at")):
        return False
    needed = NEEDED.get(kind, {})
    right = all(name in record and check(record[name]) for name, check in needed.items())
    right = right and all(check(record[name]) for name, check in MAY.items() if name in record)
    return right and (kind != "planned" or text(record.get("text")) or schedule(record.get("keys")))
