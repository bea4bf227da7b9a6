"""How fast this machine is: measured in real runs, kept in a small file in the user's cache folder."""

import json
import os
from pathlib import Path

SLOWEST = 1e6
"""Seconds per frame-forward that a run may have taken."""


def speed_file() -> Path:
    """Where the measurements are."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "fifo-diffusion" / "speed.json"


def key(model: str, device: str, dtype: str, height: int, width: int) -> str:
    """What a measurement is of."""
    return f"{model} | {device} | {dtype} | {width}x{height}"


def known_speed(which: str) -> float | None:
    """Seconds per frame-forward in the last real run, or None."""
    value = _read().get(which)
    return value if isinstance(value, float) and 0 < value < SLOWEST else None


def remember_speed(which: str, seconds_per_forward: float) -> None:
    """Keep a measurement; a cache that cannot be written is no matter."""
    try:
        path = speed_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(_read() | {which: float(seconds_per_forward)}, indent=1) + "\n")
        os.replace(partial, path)
    except (OSError, ValueError, RuntimeError):  # no home, a name that no file can have
        pass


def _read() -> dict[str, float]:
    try:
        known = json.loads(speed_file().read_text())
    except (OSError, ValueError, RuntimeError):
        return {}
    return known if isinstance(known, dict) else {}
