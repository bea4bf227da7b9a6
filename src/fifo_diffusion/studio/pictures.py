"""Pictures and files of a run, for answers: one frame, the newest, sheets of frames, the video."""

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from fifo_diffusion.errors import UserError
from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.runs.parts import as_jpeg
from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.studio.answers import HttpError, missing
from fifo_diffusion.video import VideoFileError, read_metadata
from fifo_diffusion.video.joining import join_videos

SHEET = 4
"""Rows and columns of a sheet of frames."""
SHEET_WIDTH = 1024
JOINED_KEPT = 2
"""Joined videos that stay in a run's folder: a player may still read the one before."""
ONE_DAY = "private, max-age=86400"


async def frame(run: Run, number: int, width: int | None = None) -> Response:
    """One frame as a JPEG.

    Args:
        run: whose.
        number: of the frame, from 0 on.
        width: make it no wider than this, in pixels.

    Raises:
        HttpError: 404, it is not there.
    """
    data = await _made(lambda: as_jpeg(_scaled(Image.fromarray(run.frame(number)), width)))
    return Response(data, media_type="image/jpeg", headers={"cache-control": ONE_DAY})


async def newest(run: Run) -> Response:
    """The newest frame as a JPEG: the one written for watchers while the run is made, else out of its video.

    Raises:
        HttpError: 404, there is none yet.
    """
    if run.is_owned():
        run.watch()
        with suppress(OSError):
            return Response((run.live_folder / "frame.jpg").read_bytes(), media_type="image/jpeg")
    return Response(await _made(lambda: as_jpeg(_last(run))), media_type="image/jpeg")


def _last(run: Run) -> Any:
    frames = run.status.frames
    try:
        return run.frame(frames - 1)
    except UserError:  # while a part grows, its newest frame is not there yet
        return run.frame(frames - 2)


def queue_strip(run: Run) -> Response:
    """The picture of the queue, as it was written for watchers.

    Raises:
        HttpError: 404, there is none yet.
    """
    run.watch()
    try:
        return Response((run.live_folder / "queue.jpg").read_bytes(), media_type="image/jpeg")
    except OSError as error:
        raise missing(f"{run.id} has no picture of its queue") from error


async def thumbnail(run: Run) -> Response:
    """A small JPEG of the video.

    Raises:
        HttpError: 404, there is no frame yet.
    """
    return Response(await _made(run.thumbnail), media_type="image/jpeg")


async def sheet(run: Run) -> Response:
    """A JPEG of evenly spread frames, in rows.

    Raises:
        HttpError: 404, there is no frame yet.
    """

    def made() -> bytes:
        frames = max(1, run.status.frames - (not run.status.over))
        first = run.parts()[0][0] if run.parts() else 0
        count = SHEET**2
        numbers = [first + (frames - first) * k // count for k in range(count)]
        pictures = {n: _scaled(Image.fromarray(run.frame(n)), SHEET_WIDTH // SHEET) for n in dict.fromkeys(numbers)}
        width, height = pictures[numbers[0]].size
        whole = Image.new("RGB", (width * SHEET, height * SHEET))
        for place, number in enumerate(numbers):
            whole.paste(pictures[number], (place % SHEET * width, place // SHEET * height))
        return as_jpeg(whole)

    return Response(await _made(made), media_type="image/jpeg")


async def video(run: Run, frames: int | None = None) -> Response:
    """The video so far as one mp4, kept in the run's folder until there are more frames.

    Args:
        run: whose.
        frames: no more than these.

    Raises:
        HttpError: 404, there is no frame yet; 422, and there will be none.
    """
    status = run.status
    if not status.frames:
        if status.state == "failed":
            raise HttpError(422, f"{run.id} failed before its first frame: {(status.error or {}).get('message', '')}")
        raise missing(f"{run.id} has no frame yet")
    parts = run.parts()
    first = parts[0][0] if parts else 0  # those before it were removed to save room
    wanted = min(status.frames, frames or status.frames)
    if wanted <= first:
        raise missing(f"the oldest frame of {run.id} is {first}")
    path = _joined(run, first, wanted, whole=status.over)
    if path is None:
        path = await _made(lambda: _join(run, first, wanted))
    return _file(path, run, int(path.stem.rpartition("-")[2]) - first, first=first)


def _joined(run: Run, first: int, wanted: int, *, whole: bool) -> Path | None:
    """The file of frames from the first that is there up to this one, where it was joined before. That of a growing run
    may lack the newest ones."""
    there = sorted(run.folder.glob(f"whole-{first:08d}-{wanted:08d}-*.mp4"))
    return there[-1] if there and (not whole or there[-1].stem.endswith(f"-{wanted:08d}")) else None


def _join(run: Run, first: int, wanted: int) -> Path:
    partial = run.folder / f".whole-{secrets.token_hex(6)}.mp4"
    try:
        end = first + run.join(partial, wanted - first)
        path = run.folder / f"whole-{first:08d}-{wanted:08d}-{end:08d}.mp4"
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    every = sorted(run.folder.glob("whole-*.mp4"), key=lambda each: each.stat().st_mtime)
    for old in every[:-JOINED_KEPT]:
        old.unlink(missing_ok=True)
    return path


async def piece(run: Run, since: int, until: int | None) -> Response:
    """Frames of the video as one mp4, cut where parts begin.

    Args:
        run: whose.
        since: a frame in the first part.
        until: the frame after the last one that must be there; None: the end.

    Raises:
        HttpError: 404, they are not there; 400, there are none between these two.
    """
    if until is not None and until <= since:
        raise HttpError(400, f"to {until}: give more than from, which is {since}", "to")
    parts = run.parts()
    begins = [first for first, _ in parts if first <= since]
    if not begins or since >= run.status.frames:
        raise missing(f"{run.id} has no frame {since}")
    chosen = [path for first, path in parts if first >= begins[-1] and (until is None or first < until)]
    path = run.folder / f".piece-{secrets.token_hex(6)}.mp4"

    def made() -> int:
        try:
            facts = read_metadata(chosen[0]) | {"run": run.id, "first_frame": str(begins[-1])}
            return join_videos(chosen, path, metadata=facts)
        except VideoFileError as error:
            raise UserError(str(error)) from error

    count = await _made(made)
    done = BackgroundTask(path.unlink, missing_ok=True)
    return _file(path, run, count, name=f"{run.id}-{begins[-1]:08d}.mp4", first=begins[-1], background=done)


def _file(path: Path, run: Run, count: int, *, name: str = "", first: int = 0, background: Any = None) -> Response:
    headers = {"x-frames": str(count), "x-first-frame": str(first)}
    name = name or f"{run.id}.mp4"
    how = {"media_type": "video/mp4", "filename": name, "content_disposition_type": "inline"}
    return FileResponse(path, headers=headers, background=background, **how)


def start_file(run: Run) -> Path | None:
    """The file that a run starts from, where it does."""
    start = run.request.get("start", "")
    path = run.folder / start
    return path if start.startswith("start/") and path.is_file() else None


def kept_upload(folder: Path, data: bytes, suffix: str) -> Path:
    """An upload as a file, for who decodes it.

    Args:
        folder: made where it is not there.
        data: of the file.
        suffix: its ending, ".png" say.

    Raises:
        HttpError: 503, the disk is full.
    """
    path = folder / f"upload-{secrets.token_hex(8)}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(path, lasting=False) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise HttpError(503, f"the upload cannot be kept: {error.strerror or error}") from error
    return path


def _scaled(picture: Image.Image, width: int | None) -> Image.Image:
    if width is None or picture.width <= width:
        return picture
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS)


async def _made(make: Callable[[], Any]) -> Any:
    """What decodes or joins, in a thread.

    Raises:
        HttpError: 404, what it needs is not there.
    """
    try:
        return await asyncio.to_thread(make)
    except UserError as error:
        raise missing(str(error)) from error
    except OSError as error:  # a full disk, or the run was removed meanwhile
        status = 404 if isinstance(error, FileNotFoundError) else 503
        raise HttpError(
            status, f"the picture cannot be made: {error.strerror or os.strerror(error.errno or 5)}"
        ) from error
