"""Files of prompts: one video per line, or one video with many prompts."""

import json
import re
from pathlib import Path
from typing import Any

from fifo_diffusion.app.errors import usage


def read_prompts(path: Path) -> list[str]:
    """One prompt per line; empty lines and lines that begin with # are skipped."""
    lines = (line.strip() for line in _text(path).splitlines())
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise usage(f"{path} holds no prompt: write one per line (empty lines and lines with # in front are skipped)")
    return prompts


def read_schedule(path: Path) -> dict[int, str]:
    """Lines `FRAME: prompt`, or a JSON object {"FRAME": "prompt"}; frame 0 must be among them."""
    text = _text(path)
    schedule = _from_json(path, text) if text.lstrip().startswith(("{", "[")) else _from_lines(path, text)
    if 0 not in schedule:
        has = f"its first is frame {min(schedule)}" if schedule else "it is empty"
        raise usage(f"{path} has no prompt for frame 0 ({has}): add a line such as 0: a red ball")
    return dict(sorted(schedule.items()))


def _from_lines(path: Path, text: str) -> dict[int, str]:
    schedule: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\d+)\s*:\s*(\S.*)", line)
        if not match:
            raise usage(
                f"{path} line {number}: {_short(line)} is not of the form FRAME: prompt, such as 100: a red ball"
            )
        _add(schedule, match[1], match[2], f"{path} line {number}")
    return schedule


def _from_json(path: Path, text: str) -> dict[int, str]:
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise usage(f"{path} line {error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from error
    schedule: dict[int, str] = {}
    for pair in pairs:
        if not isinstance(pair, tuple) or not isinstance(pair[1], str) or not re.fullmatch(r"\s*\d+\s*", pair[0]):
            shown = f"{pair[0]!r}: {pair[1]!r}" if isinstance(pair, tuple) else repr(pair)
            raise usage(f'{path}: {_short(shown)} is not of the form "FRAME": "prompt", such as "100": "a red ball"')
        _add(schedule, pair[0], pair[1].strip(), str(path))
    return schedule


def _add(schedule: dict[int, str], frame: str, prompt: str, where: str) -> None:
    if not prompt:
        raise usage(f"{where}: the prompt of frame {int(frame)} is empty")
    if int(frame) in schedule:
        raise usage(f"{where}: frame {int(frame)} has two prompts: keep one")
    schedule[int(frame)] = prompt


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise usage(f"{path} is not a text file in UTF-8: save it as one") from error
    except FileNotFoundError as error:
        raise usage(f"there is no file {path}") from error
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}") from error


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")
