"""Files of prompts: one video per line, or one video with many prompts."""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import Setting, usage
from fifo_diffusion.settings import StreamSettings, specs
from fifo_diffusion.text import shortened

MOST_BYTES = 2**24
"""Of a file of prompts."""
MOST_FRAMES = 10**9
"""Of a video: at 30 frames per second, a year."""


@dataclass(frozen=True)
class Time:
    """A place in a video, where frames per second are not known yet."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:g}s"


Said = str | dict[str, str]
"""A prompt, or {"prompt": text, "change": how}: one that comes in another way than `prompt_change`."""
Schedule = dict[int | Time, Said]
"""Prompts by the frame or time from which on they count."""


def read_prompts(path: Path) -> list[str]:
    """One prompt per line; empty lines and lines that begin with # are skipped."""
    text = _text(path)
    if text.lstrip()[:1] in ("{", "[") and _is_json(text):
        advice = "write one prompt per line, or give one video's prompts by frame with "
        raise usage(f"{path} is JSON: {advice}", Setting("schedule"))
    lines = [(number, line.strip()) for number, line in enumerate(_lines(text), 1)]
    prompts = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not prompts:
        raise usage(f"{path} holds no prompt: write one per line (empty lines and lines with # in front are skipped)")
    keys = [_key(prompt.partition(":")[0]) if ":" in prompt else None for _, prompt in prompts]
    if None not in keys and any(map(_is_start, keys)):
        raise usage(f"{path} holds prompts by frame, of one video: give it with ", Setting("schedule"))
    for number, prompt in prompts:
        check_prompt(prompt, f"{path} line {number}")
    return [prompt for _, prompt in prompts]


def read_schedule(path: Path) -> Schedule:
    """Lines `FRAME: prompt` or `TIME: prompt` (`1:30`, `1:02:03`, `90s`, `1m30s`), or a JSON object {"FRAME": "prompt"}
    (its braces may be missing); frame 0 must be among them."""
    text = _text(path)
    begins = text.lstrip()[:1]
    if begins == '"':  # pairs without braces, as they are pasted from a node
        text = "{" + text.strip().rstrip(",") + "}"
    schedule = _from_json(path, text) if begins in ("{", "[", '"') else _from_lines(path, text)
    _check_start(schedule, str(path), "add a line such as 0: a red ball")
    return schedule


def schedule_of(given: Mapping[Any, Any]) -> Schedule:
    """A schedule from {frame or time: prompt}: 120, "120", "1:30" or "90s"; a prompt may be a `Said`.

    Raises:
        UsageError: it is none, or has no prompt for frame 0.
    """
    pairs = [(str(key), list(said.items()) if isinstance(said, Mapping) else said) for key, said in given.items()]
    schedule = _from_pairs(pairs, "the schedule")
    _check_start(schedule, "the schedule", 'add one, {"0": "a red ball"} say')
    return schedule


def in_frames(schedule: Mapping[Any, Said], fps: float) -> dict[int, Said]:
    """The schedule of a video that plays at this frame rate, in order.

    Raises:
        UserError: two prompts for one frame.
    """
    frames: dict[int, Said] = {}
    names: dict[int, str] = {}
    for key, prompt in schedule.items():
        frame = round(key.seconds * fps) if isinstance(key, Time) else key
        if frame in frames:
            raise usage(f"{names[frame]} and {_named(key)} are the same frame at {fps:g} frames/s: keep one")
        frames[frame], names[frame] = prompt, _named(key)
    return dict(sorted(frames.items()))


def first_prompt(schedule: Mapping[Any, Said]) -> str:
    """The prompt that a video opens with."""
    return next(text_of(said) for key, said in schedule.items() if _is_start(key))


def text_of(said: Said) -> str:
    """The text of what a schedule says of a frame."""
    return said if isinstance(said, str) else said["prompt"]


def check_prompt(prompt: str, where: str = "the prompt") -> None:
    """What cannot be meant as one prompt, and what no text encoder takes."""
    if any(0xD800 <= ord(c) <= 0xDFFF for c in prompt):
        raise usage(f"{where} is not UTF-8: {shortened(prompt)}")
    if re.match(r"\s*\[\s*\d+(\.\d+)?\s*s\s*:", prompt):
        raise usage(
            f"{where} holds prompts by time, and would be taken for one prompt: write them into a file, a line such as "
            "5s: a blue ball for each, and give it with ",
            Setting("schedule"),
        )


# ---------------------------------------------------------------------- lines, JSON, keys

_CLOCK = r"(?:(?P<hours>\d{1,4}):(?=\d\d:))?(?P<minutes>\d{1,5}):(?P<seconds>[0-5]\d(?:\.\d+)?)"
_SECONDS = r"(?P<s>\d{1,9}(?:\.\d+)?)\s*s(?:ec(?:onds)?)?"
_UNITS = rf"(?=\d)(?:(?P<h>\d{{1,5}})\s*h)?\s*(?:(?P<m>\d{{1,6}})\s*m(?:in)?)?\s*(?:{_SECONDS})?"
_UNITS_GIVEN = r"(?=[\d.\s]*[hms])"


def _from_lines(path: Path, text: str) -> Schedule:
    schedule: Schedule = {}
    for number, line in enumerate(_lines(text), 1):
        line, where = line.strip(), f"{path} line {number}"
        if not line or line.startswith("#"):
            continue
        match = (
            re.fullmatch(rf"(?P<key>{_CLOCK})\s*:(?P<rest>.*)", line)
            or re.fullmatch(rf"(?P<key>{_UNITS_GIVEN}{_UNITS})\s*:(?P<rest>.*)", line)
            or re.fullmatch(r"(?P<key>\d+)\s*:(?P<rest>.*)", line)
        )
        if not match:
            raise usage(
                f"{where}: {_short(line)} is not of the form FRAME: prompt or TIME: prompt, such as 100: a red ball, "
                "1:30: a red ball or 90s: a red ball"
            )
        if re.match(r"[0-5]\d\b|\s*\d+\s*:", match["rest"]):
            raise usage(
                f"{where}: {_short(line)} may mean a frame or a time: write a time as 1:30: a red ball, and a prompt "
                'that begins with such numbers in JSON: {"0": "16:9 ..."}'
            )
        _add(schedule, match["key"], match["rest"].strip(), where)
    return schedule


def _from_json(path: Path, text: str) -> Schedule:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise usage(f"{path} line {error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
    except (RecursionError, ValueError) as error:  # far too deep; a number of thousands of digits
        raise usage(f'{path} is no JSON object of "FRAME": "prompt" pairs, such as "100": "a red ball"') from error
    return _from_pairs(pairs, str(path))


def _from_pairs(pairs: list[Any], where: str) -> Schedule:
    schedule: Schedule = {}
    for pair in pairs:
        if isinstance(pair, tuple) and isinstance(pair[1], list) and pair[1] and _has_negative(pair[1]):
            raise usage(
                f"{where}: {_short(pair[0])} has a negative prompt of its own, and one holds for the whole video: "
                "give ",
                Setting("negative_prompt"),
            )
        change = _change(pair[1]) if isinstance(pair, tuple) else None
        if change is not None and _key(pair[0]) is not None:
            _add(schedule, pair[0], change["prompt"].strip(), where, change["change"])
            continue
        if not isinstance(pair, tuple) or not isinstance(pair[1], str) or _key(pair[0]) is None:
            shown = f"{pair[0]!r}: {pair[1]!r}" if isinstance(pair, tuple) else repr(pair)
            raise usage(f'{where}: {_short(shown)} is not of the form "FRAME": "prompt", such as "100": "a red ball"')
        _add(schedule, pair[0], pair[1].strip(), where)
    return schedule


def _change(pairs: Any) -> dict[str, str] | None:
    """{"prompt": text, "change": how}, where these pairs are that."""
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    found = dict(pairs)
    kind = specs(StreamSettings)["prompt_change"].kind
    right = found.keys() == {"prompt", "change"} and isinstance(found["prompt"], str) and kind.fits(found["change"])
    return found if right else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _has_negative(pairs: list[Any]) -> bool:
    return any(isinstance(pair, tuple) and "negative" in str(pair[0]).lower() for pair in pairs)


def _key(text: str) -> int | Time | None:
    """A frame, a time, or neither."""
    text = text.strip()
    if re.fullmatch(r"\d+", text, re.ASCII):
        digits = text.lstrip("0") or "0"
        return int(digits) if len(digits) <= 12 else MOST_FRAMES
    clock = re.fullmatch(_CLOCK, text, re.ASCII)
    if clock:
        return Time(60 * (60 * int(clock["hours"] or 0) + int(clock["minutes"])) + float(clock["seconds"]))
    units = re.fullmatch(_UNITS_GIVEN + _UNITS, text, re.ASCII)
    if units:
        return Time(3600 * int(units["h"] or 0) + 60 * int(units["m"] or 0) + float(units["s"] or 0))
    return None


def _add(schedule: Schedule, typed: str, prompt: str, where: str, change: str | None = None) -> None:
    key = _key(typed)
    if key is None or (key >= MOST_FRAMES if isinstance(key, int) else key.seconds >= MOST_FRAMES):
        raise usage(f"{where}: {_short(typed)} is no frame number below {MOST_FRAMES:,}, and no time such as 1:30")
    if not prompt:
        raise usage(f"{where}: the prompt of {_named(key)} is empty")
    if key in schedule:
        raise usage(f"{where}: {_named(key)} has two prompts: keep one")
    if re.search(r"\s--neg\s", prompt):
        whole = f"{where}: one negative prompt holds for the whole video: give "
        raise usage(whole, Setting("negative_prompt"), " instead of --neg")
    check_prompt(prompt, where)
    schedule[key] = prompt if change is None else {"prompt": prompt, "change": change}


def _check_start(schedule: Schedule, where: str, advice: str) -> None:
    if not any(_is_start(key) for key in schedule):
        has = f"its first is {_named(min(schedule, key=_in_order))}" if schedule else "it is empty"
        raise usage(f"{where} has no prompt for frame 0 ({has}): {advice}")


def _is_start(key: int | Time | None) -> bool:
    return key == 0 or key == Time(0)


def _in_order(key: int | Time) -> float:
    return key.seconds if isinstance(key, Time) else key


def _named(key: int | Time) -> str:
    return f"frame {key}" if isinstance(key, int) else str(key)


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise usage(f"{path} is no ordinary file: save the prompts in one")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise usage(f"{path} is larger than {MOST_BYTES // 2**20} MB: that is no file of prompts")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise usage(f"{path} is not a text file in UTF-8: save it as one") from error
    except FileNotFoundError as error:
        raise usage(f"there is no file {path}") from error
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}") from error


def _short(value: Any) -> str:
    return repr(shortened(value, 40))
