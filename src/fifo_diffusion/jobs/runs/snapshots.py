"""Which states of a run are kept, and what goes when room is short."""

import math
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from fifo_diffusion.errors import Setting, UserError
from fifo_diffusion.jobs.runs.folder import RunFolder

NEWEST = 4
"""States that are kept in any case, as long as there is room; two of them also when there is not."""


class NoRoom(UserError):
    """A run has no room left: that of the disk, or what it may take of it."""


def to_drop(frames: Collection[int], every: int, stay: Collection[int] = ()) -> list[int]:
    """The states that are let go of those that are there: the newest four stay, further back fewer and fewer, about
    four for each power of two. None is ever missed later: what is dropped today would be dropped tomorrow.

    Args:
        frames: of the states, at least one.
        every: frames between states that come by themselves; others come in between.
        stay: frames whose states stay.
    """
    newest = sorted(frames)[-NEWEST:]
    last = newest[-1] // every
    return [
        frame
        for frame in sorted(frames)
        if frame and frame not in stay and frame not in newest and not _stays(frame, every, last)
    ]


def _stays(frame: int, every: int, last: int) -> bool:
    number, between = divmod(frame, every)
    age = last - number
    if age < NEWEST:
        return not between
    return not between and number % 2 ** int(math.log2(age / NEWEST)) == 0


def thin(run: RunFolder, every: int, stay: Iterable[int]) -> None:
    """Let states of a run go, see `to_drop`."""
    frames = run.snapshots()
    if frames:
        for frame in to_drop(frames, every, {*stay, *run.pins()}):
            with suppress(OSError):  # on Windows nobody removes what another process reads: it goes the next time
                run.state_path(frame).unlink(missing_ok=True)


def keep_within(run: RunFolder, most: int, stay: Collection[int], *, oldest_frame: int | None = None) -> None:
    """Bring a run to a size: states go first, the oldest first, but for pinned ones and the newest two; then what can
    be made again; then parts of the video.

    Args:
        run: it has just saved a state.
        most: bytes that it may take.
        stay: frames whose states go last.
        oldest_frame: parts that end before it may go; None: none may.

    Raises:
        NoRoom: it is larger still.
    """
    over = size_of(run.folder) - most
    if over <= 0:
        return
    pins, frames = set(run.pins()), run.snapshots()
    droppable = [frame for frame in frames[:-2] if frame not in pins]
    droppable.sort(key=lambda frame: (frame in stay or not frame, frame))
    over = _remove([run.state_path(frame) for frame in droppable], over)
    over = _remove([*run.folder.glob("whole*.mp4"), *run.folder.glob("thumbnail-*.jpg")], over)
    if oldest_frame is not None:
        parts = run.parts()
        ended = [part for (_, part), (following, _) in pairwise(parts) if following <= oldest_frame]
        over = _remove(ended, over)
    if over > 0:
        takes, may = (most + over) / 1e9, most / 1e9
        raise NoRoom(
            f"{run.id} takes {takes:.3g} GB and may take {may:.3g} GB, and nothing more can go: ",
            *("resume it with a larger ", Setting("keep")),
        )


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and in folders in it."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _remove(files: Iterable[Path], over: int) -> int:
    """Remove files until there is room enough; how much is still missing."""
    for file in files:
        if over <= 0:
            break
        with suppress(OSError):
            size = file.stat().st_size
            file.unlink()
            over -= size
    return over
