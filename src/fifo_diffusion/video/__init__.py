"""Latents to frames, frames to files and back."""

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.metadata import read_metadata
from fifo_diffusion.video.readers import as_frames, count_frames, iter_frames, read_fps, read_frames
from fifo_diffusion.video.sound import add_sound
from fifo_diffusion.video.writers import FrameWriter, check_output, open_writer, write_video

__all__ = [
    "FrameWriter",
    "VideoFileError",
    "add_sound",
    "as_frames",
    "check_output",
    "count_frames",
    "iter_frames",
    "open_writer",
    "read_fps",
    "read_frames",
    "read_metadata",
    "write_video",
]
