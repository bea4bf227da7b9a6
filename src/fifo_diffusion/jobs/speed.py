"""How fast this machine is: measured in real runs, kept in a small file in the user's cache folder."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fifo_diffusion.jobs.plan import Plan

from fifo_diffusion.files import written_whole

SLOWEST = 1e6
"""Seconds per frame-forward that a run may have taken."""


def speed_file() -> Path:
    """Where the measurements are."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "fifo-diffusion" / "speed.json"


def key(model: str, device: str, dtype: str, height: int, width: int) -> str:
    """What a measurement is of."""
    return f"{model} | {device} | {dtype} | {width}x{height}"


def speed_key(plan: "Plan") -> str:
    """What the speed of a plan's videos is remembered under."""
    device = plan.device
    if device.startswith("cuda"):
        import torch

        device = torch.cuda.get_device_name(device)
    return key(plan.model_name, device, plan.dtype, plan.settings.height, plan.settings.width)


def speed_of(plan: "Plan") -> float | None:
    """Seconds per frame-forward of such videos on this machine, where an earlier run has told."""
    return known_speed(speed_key(plan))


def known_speed(which: str) -> float | None:
    """Seconds per frame-forward in the last real run, or None."""
    value = _read().get(which)
    return value if isinstance(value, float) and 0 < value < SLOWEST else None


def remember_speed(which: str, seconds_per_forward: float) -> None:
    """Keep a measurement; a cache that cannot be written is no matter."""
    try:
        path = speed_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path, alone=False) as partial:
            partial.write_text(json.dumps(_read() | {which: float(seconds_per_forward)}, indent=1) + "\n")
    except (OSError, ValueError, RuntimeError):  # no home, a name that no file can have
        pass


def _read() -> dict[str, float]:
    try:
        known = json.loads(speed_file().read_text())
    except (OSError, ValueError, RuntimeError):
        return {}
    return known if isinstance(known, dict) else {}
