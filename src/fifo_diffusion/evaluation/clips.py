"""Known clips to measure on: from toybox's world, or from a folder of videos."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fifo_diffusion.toybox.world import FAMILIES, make_clip
from fifo_diffusion.video import VideoFileError, count_frames, read_frames

SUFFIXES = (".mp4", ".webm", ".gif", ".mov", ".mkv", ".avi")


def world_clips(count: int, frames: int, seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """Clips of the toybox world and their captions, of combinations that were never trained on; families in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        clip, caption, _ = make_clip(rng, frames, FAMILIES[number % len(FAMILIES)], held=True)
        yield clip, caption


def folder_clips(folder: Path, count: int, frames: int, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, str]]:
    """The last frames of the videos in a folder, resized; with "" as caption where no text file has the same name.

    Raises:
        ValueError: no such folder, a video that cannot be read or is too short, too few of them.
    """
    if not folder.is_dir():
        raise ValueError(f"--clips {folder}: there is no such folder; give one with videos, or leave it out for toybox")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES or (p.is_dir() and any(p.glob("*.png"))))
    if len(paths) < count:
        raise ValueError(
            f"--clips {folder} holds {len(paths)} videos, {count} are needed: add some, or fewer --mse-clips"
        )
    for path in paths[:count]:
        try:
            there = count_frames(path)
            if there < frames:
                raise ValueError(f"{path} has {there} frames, {frames} are needed (n f + f // 2)")
            clip = read_frames(path, last=frames, size=size)
        except (VideoFileError, OSError) as error:
            raise ValueError(f"{path} cannot be read as a video: {error}") from error
        text = Path(os.path.splitext(path)[0] + ".txt")
        yield clip, text.read_text().strip() if text.exists() else ""
