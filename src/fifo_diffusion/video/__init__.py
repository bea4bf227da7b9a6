"""Latents to frames, frames to files and back."""

from .errors import VideoFileError
from .metadata import read_metadata
from .readers import as_frames, count_frames, iter_frames, read_fps, read_frames
from .sound import add_sound
from .writers import FrameWriter, open_writer, write_video

__all__ = [
    "FrameWriter",
    "VideoFileError",
    "add_sound",
    "as_frames",
    "count_frames",
    "iter_frames",
    "open_writer",
    "read_fps",
    "read_frames",
    "read_metadata",
    "write_video",
]
