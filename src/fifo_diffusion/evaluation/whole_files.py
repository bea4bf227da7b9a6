"""Files that are there whole or not at all, however the process ends."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fifo_diffusion.files import written_whole
from fifo_diffusion.video import write_video


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, in place of the one that is there."""
    _whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an .npy file."""

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.save(file, values)

    _whole(path, write)


def load_array(path: Path) -> np.ndarray | None:
    """The array in an .npy file; None where there is none, or a damaged one."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def load_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, or a damaged one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def video_once(path: Path, frames: Callable[[], Iterable[np.ndarray]], fps: float, **options: Any) -> None:
    """Write a video that is not there yet.

    Args:
        frames: makes them; called where they are needed only.
        **options: of `write_video`.
    """
    if not path.exists():
        _whole(path, lambda partial: write_video(partial, frames(), fps=fps, **options))


def _whole(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        write(partial)
