"""The video of a run out of its parts: whole, one frame, a small picture."""

import io
import os
from itertools import islice

import numpy as np
from PIL import Image

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.start_file import sound_of
from fifo_diffusion.settings import STARTS, Settings, names_of
from fifo_diffusion.settings.spec import IN_NOTES
from fifo_diffusion.video import VideoFileError, iter_frames, read_metadata
from fifo_diffusion.video.joining import join_videos

THUMBNAIL_SIDE = 320
"""Pixels of the longer side of a small picture, at most."""


def join(run: RunFolder, path: str | os.PathLike[str], frames: int | None = None) -> int:
    """The run's video so far as one ordinary mp4; see `Run.join`."""
    parts = run.parts()
    if not parts:
        raise UserError(f"{run.id} has no frame yet")
    try:
        facts = {name: said for name, said in read_metadata(parts[0][1]).items() if name != "first_frame"}
        facts |= {"run": run.id} | ({"first_frame": str(parts[0][0])} if parts[0][0] else {})
        count = join_videos([part for _, part in parts], path, metadata=facts, most_frames=frames)
        usual = Settings()
        request = {name: getattr(usual, name) for name in names_of(Settings, saved=IN_NOTES)} | run.request
        if request["include_start"] and request["start"] not in STARTS and not parts[0][0]:
            request["start"] = str(run.folder / request["start"])
            begun = (event for event in run.events()[0] if event["event"] == "started")
            rates = next(((e["fps"], e["model_fps"]) for e in begun if e.get("fps") and e.get("model_fps")), None)
            sound = None if rates is None else sound_of(request, str(path), *rates)[0]
            if sound is not None and rates is not None:
                sound.put_into(str(path), count / rates[0])
    except VideoFileError as error:
        raise UserError(str(error)) from error
    return count


def frame(run: RunFolder, number: int) -> np.ndarray:
    """One frame of the run's video; see `Run.frame`."""
    parts = run.parts()
    if number < 0 or not parts:
        raise UserError(f"{run.id} has no frame {number}")
    if number < parts[0][0]:
        raise UserError(f"frame {number} of {run.id} was removed to save room; the oldest is {parts[0][0]}")
    first, part = max(each for each in parts if each[0] <= number)
    try:
        found = next(islice(iter_frames(part), number - first, None), None)
    except VideoFileError:
        found = None
    if found is None:
        raise UserError(f"{run.id} has no frame {number} yet")
    return found


def thumbnail(run: RunFolder) -> bytes:
    """A JPEG of the middle of the run's video; see `Run.thumbnail`."""
    parts = run.parts()
    if not parts:
        raise UserError(f"{run.id} has no frame yet")
    first, part = parts[len(parts) // 2]
    kept = run.folder / f"thumbnail-{first:08d}.jpg"
    if kept.is_file():
        return kept.read_bytes()
    try:
        picture = Image.fromarray(next(iter_frames(part)))
    except VideoFileError as error:
        raise UserError(str(error)) from error
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    data = as_jpeg(picture)
    try:
        for old in run.folder.glob("thumbnail-*.jpg"):
            old.unlink(missing_ok=True)
        with written_whole(kept, lasting=False, alone=False) as partial:
            partial.write_bytes(data)
    except OSError:  # it is made anew the next time
        pass
    return data


def as_jpeg(picture: Image.Image | np.ndarray, quality: int = 85) -> bytes:
    """A picture as the bytes of a JPEG."""
    found, data = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture, io.BytesIO()
    found.save(data, "JPEG", quality=quality)
    return data.getvalue()
