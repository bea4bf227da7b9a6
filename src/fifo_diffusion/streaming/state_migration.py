"""The format of state files by its number, and how a file of an earlier format is read as one of today."""

import re
from collections.abc import Mapping
from typing import Any

from fifo_diffusion.settings import FifoSettings, Settings, specs
from fifo_diffusion.settings.spec import IN_NOTES, IN_SETTINGS, REQUIRED

FORMAT = 2
"""Of the files that are written. It counts up where values move or change their meaning, with a step in `migrated`. A
new setting needs none: its field says what counts in files without it (`older`)."""

_NAME = "fifo-diffusion queue state "  # in files of every format, before its number
_LATER_COUNTERS = {
    "lags": False,
    "unwanted": 0,
    "continues": False,
    "shown_fps": None,
    "shown_fit": "crop",
}
"""What files of format 1 came to hold in time."""


def format_name(number: int = FORMAT) -> str:
    """What a file's metadata call its format."""
    return f"{_NAME}{number}"


def format_of(metadata: Mapping[str, str]) -> int | None:
    """The number of the format that a file's metadata name; None: it is no state."""
    found = re.fullmatch(_NAME + "([1-9][0-9]{0,8})", metadata.get("format", ""))
    return None if found is None else int(found[1])


def migrated(header: Any, number: int) -> dict[str, Any]:
    """The header of a state file as the current format has it. What older files do not say is filled in here and
    nowhere else; whether the values are right is asked later (`check_state`).

    Args:
        header: what its JSON holds.
        number: of its format, at most `FORMAT`.

    Raises:
        ValueError: it is no header of that format.
    """
    header = _copied("values", header)
    if number == 1:
        header = _from_format_1(header)
    header["settings"] = filled(_copied("settings", header.get("settings")), FifoSettings, IN_SETTINGS)
    if isinstance(header.get("position"), dict):
        header["position"] = {"texts": []} | header["position"]
    header["notes"] = notes = _copied("notes", header.get("notes"))
    if "command" in notes:  # those of the command line, not of whoever uses the library
        header["notes"] = filled(notes, Settings, IN_NOTES)
    return header


def filled(values: dict[str, Any], settings: type, part: str) -> dict[str, Any]:
    """The values and, for settings that came after they were written, what counts without them.

    Args:
        values: a part of a file.
        settings: the class that declares them.
        part: `IN_SETTINGS` or `IN_NOTES`.
    """
    declared = {name: spec.older for name, spec in specs(settings).items() if spec.saved == part}
    return {name: older for name, older in declared.items() if older is not REQUIRED} | values


def _from_format_1(old: dict[str, Any]) -> dict[str, Any]:
    """Format 1 has the prompts among the settings and all other values as counters. `lags` says what the setting
    `compat` says; given frames that are no file are a tensor, and their number alone is among the counters."""
    settings = _copied("settings", old.get("settings"))
    counters = _LATER_COUNTERS | _copied("counters", old.get("counters"))
    try:
        counters.setdefault("opening", counters["first_new"])
        counters.setdefault("around", {})
        del counters["lags"]
        shown = {name: counters.pop(f"shown_{name}") for name in ("count", "fps", "fit")}
        shown["path"] = counters.pop("shown")
        return {
            "settings": settings,
            "prompts": settings.pop("prompts"),
            "shown": shown if shown["count"] or shown["path"] is not None else None,
            "outlet": {"unwanted": counters.pop("unwanted")},
            "around": counters.pop("around"),
            "position": counters,
            "fingerprint": old["fingerprint"],
            "notes": old["notes"],
        }
    except KeyError as error:
        raise ValueError(f"its values lack {error.args[0]}") from error


def _copied(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {what} are {type(value).__name__}")
    return dict(value)
