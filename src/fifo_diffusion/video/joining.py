"""Videos one after another as one, without encoding anything anew."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from fifo_diffusion.files import make_last
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.metadata import to_comment
from fifo_diffusion.video.moving import main_video, opened_container, whole_packets


def join_videos(
    sources: Iterable[Path], path: str | os.PathLike, *, metadata: dict[str, str], most_frames: int | None = None
) -> int:
    """One ordinary mp4, its index in front, of mp4 files that `open_writer` wrote with the same settings.

    The last source may be growing: its whole frames are taken. A file at `path` is replaced when all is done; several
    processes may join to the same path at a time.

    Args:
        sources: the files in order.
        path: where it goes, .mp4.
        metadata: texts to keep in it.
        most_frames: no more than these are taken; None: all.

    Returns:
        the number of frames in it.

    Raises:
        VideoFileError: there is no frame, a source cannot be read, or the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".joined-{secrets.token_hex(6)}.mp4")
    try:
        frames = _copy(sources, partial, metadata, most_frames)
        if not frames:
            raise VideoFileError(f"there is no frame yet to put into {path}")
        make_last(partial)
        os.replace(partial, path)
    except (OSError, av.FFmpegError) as error:
        reason = "disk full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.strerror
        raise VideoFileError(f"cannot write {path}: {reason}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return frames


def _copy(sources: Iterable[Path], path: Path, metadata: dict[str, str], most_frames: int | None) -> int:
    frames = 0
    # FFmpeg cannot move the index to the front of what it writes by way of Python, so it opens the file itself.
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "faststart"}) as joined:
        if metadata:
            joined.metadata["comment"] = to_comment(metadata)
        stream = None
        for source in sources:
            with opened_container(source) as container:
                video = main_video(container)
                rate = video.average_rate or Fraction(1)
                if stream is None:
                    stream = joined.add_stream_from_template(video)
                    stream.time_base = 1 / rate
                for packet in islice(_packets(container), None if most_frames is None else most_frames - frames):
                    packet.stream, packet.time_base = stream, 1 / rate
                    packet.pts = packet.dts = frames
                    packet.duration = 1
                    joined.mux(packet)
                    frames += 1
            if most_frames is not None and frames >= most_frames:
                break
    return frames


def _packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    return (packet for packet in whole_packets(container) if packet.size)
