"""What the values of an evaluation's configuration may be. Names in it become names of files."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from fifo_diffusion.method_list import methods
from fifo_diffusion.settings import DTYPES, Settings, names_of, specs
from fifo_diffusion.settings.spec import IN_NOTES, SAMPLING, STREAM

TABLES = ("cost", "relative-mse", "quality", "ablation")

ROW_KEYS = ("num_frames", "num_prompts", "cost_frames", "tables", "ranks")
"""Keys of a row that are not arguments of its method."""

NAME = re.compile(r"\w[\w.-]{0,99}")
TAKEN = ("base", "ablation")  # folders beside those of the rows
MOST_FRAMES, MOST = 10_000_000, 100_000
TEXT = 10_000  # characters of a prompt

Check = Callable[[Any], str | None]
"""What a value must be, where it is something else."""


def check(values: Mapping[str, Any]) -> None:
    """Check the values of a configuration.

    Raises:
        ValueError: one is of another type or size than it must be. One line that names it.
    """
    for key, value in values.items():
        if key == "rows":
            _check_rows(value)
        elif wrong := _KEYS[key](value):
            raise ValueError(f"{key} must be {wrong}, not {_shown(value)}")


def _check_rows(rows: Any) -> None:
    if not isinstance(rows, Mapping):
        raise ValueError(f"rows must be an object {{name: {{method and its arguments}}}}, not {_shown(rows)}")
    seen: dict[str, str] = {}
    for name, row in rows.items():
        if not NAME.fullmatch(name) or name.lower() in TAKEN:
            raise ValueError(
                f"the row {_shown(name)} needs another name: letters, digits, _, - and dots, which is that of its files"
            )
        if other := seen.get(name.lower()):
            raise ValueError(f"the rows {other} and {name} would have the same files: rename one")
        seen[name.lower()] = name
        if not isinstance(row, Mapping) or "method" not in row:
            raise ValueError(f'the row {name} needs a "method"')
        if not isinstance(row["method"], str) or row["method"] not in methods():
            raise ValueError(f"the row {name} has the method {_shown(row['method'])}: one of {', '.join(methods())}")
        for key, value in row.items():
            if wrong := _row_check(key, row["method"])(value):
                raise ValueError(f"the row {name} has {key} {_shown(value)}: it must be {wrong}")
        if row.get("ranks", 1) > 1 and row["method"] != "fifo":
            raise ValueError(f"the row {name} has ranks {row['ranks']}: a number, and of FIFO only")


def _whole(least: int, most: int) -> Check:
    def wrong(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"a whole number from {least} to {most}"

    return wrong


def _list_of(kind: Check, what: str) -> Check:
    def wrong(value: Any) -> str | None:
        fits = isinstance(value, list | tuple) and 0 < len(value) <= MOST and not any(map(kind, value))
        return None if fits else f"a list of {what}"

    return wrong


def _maybe(kind: Check) -> Check:
    return lambda value: None if value is None else kind(value)


def _text(value: Any) -> str | None:
    fits = isinstance(value, str) and value.strip() and len(value) <= TEXT and "\0" not in value and _encodes(value)
    return None if fits else "a text"


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _one_of(*names: str) -> Check:
    return lambda value: None if isinstance(value, str) and value in names else f"one of {', '.join(names)}"


def _versions(value: Any) -> str | None:
    fits = isinstance(value, Mapping) and all(isinstance(version, str) for version in value.values())
    return None if fits else "an object of texts"


def _sampling(value: Any) -> str | None:
    every = specs(Settings)
    known = names_of(Settings, stages=[SAMPLING])
    if not isinstance(value, Mapping) or set(value) - set(known):
        return f"an object with {' and '.join(known)}"
    wrong = (
        f"an object whose {name} is {wanted}" for name in value if (wanted := every[name].kind.wanted(value[name]))
    )
    return next(wrong, None)


def _plain(value: Any) -> str | None:
    """An argument of a stream: names, numbers, switches."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is finite"
    if isinstance(value, int) and abs(value) > 2**63:
        return "a smaller number"
    return None if value is None or isinstance(value, str | int | float | bool) else "a number, a text, true or false"


def _method_only(value: Any) -> str:
    return "left out: it belongs to the whole evaluation"


_TABLES = _list_of(_one_of(*TABLES), f"{', '.join(TABLES)}")
_KEYS: dict[str, Check] = {
    "model": _text,
    "tables": _TABLES,
    "prompts": _list_of(_text, "texts"),
    "num_frames": _whole(1, MOST_FRAMES),
    "seed": _whole(0, 2**62),
    "base_clips": _whole(1, MOST),
    "base_steps": _whole(1, 1000),
    "cost_frames": _list_of(_whole(1, MOST_FRAMES), "lengths in frames"),
    "partitions": _list_of(_whole(1, 1000), "whole numbers"),
    "mse_clips": _whole(2, MOST),
    "clips": _maybe(_text),
    "ablation_frames": _whole(1, MOST_FRAMES),
    "features": _maybe(_text),
    "clip_model": _maybe(_text),
    "classifier": _maybe(_text),
    "device": _maybe(_text),
    "dtype": _maybe(_one_of(*DTYPES)),
    "sampling": _sampling,
    "versions": _maybe(_versions),
}
_ROW: dict[str, Check] = {
    "num_frames": _whole(1, MOST_FRAMES),
    "num_prompts": _whole(1, MOST),
    "cost_frames": _KEYS["cost_frames"],
    "tables": _TABLES,
    "ranks": _whole(1, 1024),
}
assert set(ROW_KEYS) <= set(_ROW)


def _row_check(key: str, method: str) -> Check:
    """What the value of a row's key may be: an argument of its method's stream, or of the pipeline's own call."""
    spec = specs(Settings).get(key)
    if key in _ROW or spec is None:
        return _ROW.get(key, _plain)
    if key == "method":
        return lambda value: None
    if spec.stage != STREAM or key in ("prompt", "seed") or spec.saved == IN_NOTES or not spec.panel:
        return _method_only
    if spec.methods is not None and method not in spec.methods:
        return lambda value: f"left out: it goes with {' or '.join(spec.methods or ())}"
    return _maybe(spec.kind.wanted) if spec.default is None else spec.kind.wanted


def _shown(value: Any) -> str:
    return repr(value)[:60]
