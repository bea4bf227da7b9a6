"""What lies where an output is to go: whose it is, and how much of it there is."""

import os
from pathlib import Path

from fifo_diffusion.video import VideoFileError, count_frames, read_metadata

BEGINNINGS = (b"ftyp", b"\x1aE\xdf\xa3", b"GIF8")
"""Of mp4 (after four bytes), webm and GIF."""
LARGEST_BEGINNING = 2**16
"""Bytes that a video file may have before its first frame: the settings in it are of a few thousand."""


def frames_there(output: str) -> int:
    """Frames of a video, GIF or folder of PNGs; 0 where there are none that can be read."""
    try:
        return count_frames(output)
    except (VideoFileError, OSError):
        return 0


def facts_of(output: str) -> dict[str, str]:
    """How a video was made; nothing where it does not say."""
    try:
        return read_metadata(output)
    except (VideoFileError, OSError):
        return {}


def is_nobodys(output: str) -> bool:
    """Whether there is nothing that anybody could miss: no frame and nothing else, as a run leaves it that was killed
    before its first frame was in the file."""
    path = Path(output)
    if path.is_dir():
        return not any(path.glob("frame_*.png"))
    if not path.is_file():
        return not os.path.lexists(path)
    if path.stat().st_size > LARGEST_BEGINNING or frames_there(output):
        return False
    with open(path, "rb") as file:
        head = file.read(8)
    return not head or head.startswith(BEGINNINGS) or head[4:].startswith(BEGINNINGS[0])
