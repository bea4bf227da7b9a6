"""The sound of a part of one file, put into another once that is complete.

While a video is written it has no sound: each of its frames must play after a kill, and a muxer that waits for sound
would hold frames back. So the finished file is copied packet by packet, with the sound beside, and then replaced.
"""

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fifo_diffusion.files import written_whole
from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.files import unreadable
from fifo_diffusion.video.moving import main_video, opened_container, whole_packets

CODECS = {".mp4": ("mp4", "aac"), ".webm": ("webm", "libopus")}
"""Of the outputs that can hold sound: the muxer and the encoder."""
RATE = 48_000  # samples per second: what both encoders take
_LAYOUT, _CHUNK = "stereo", 1024


def has_sound(path: str | os.PathLike) -> bool:
    """Whether a file is a video with sound."""
    try:
        with opened_container(Path(path)) as container:
            return bool(container.streams.audio)
    except VideoFileError:
        return False


def add_sound(video: str | os.PathLike, source: str | os.PathLike, *, first: float, seconds: float) -> None:
    """Put sound into a finished mp4 or webm. Its frames and metadata stay as they are; a crash leaves the old file or
    the new one.

    Args:
        video: the finished file.
        source: the file that has the sound.
        first: where the sound begins in it, in seconds.
        seconds: how long it is to be.

    Raises:
        VideoFileError: one of the two cannot be read, or the new file cannot be written. `video` is as it was.
        ValueError: a `video` of another kind; a time that is none.
    """
    if not (math.isfinite(first) and 0 < seconds < math.inf):
        raise ValueError(f"sound from {first} s on for {seconds} s is none: give a time, and how long it is to be")
    video, source = Path(os.path.realpath(video)), Path(source)
    if video.suffix.lower() not in CODECS:
        raise ValueError(f"{video} cannot hold sound: only {' and '.join(CODECS)} can")
    muxer, codec = CODECS[video.suffix.lower()]
    try:
        with (
            written_whole(video) as partial,
            opened_container(video) as old,
            av.open(f"file:{partial}", "w", format=muxer) as new,
        ):
            stream = main_video(old)
            copy = new.add_stream_from_template(stream)
            new.metadata.update(old.metadata)
            sound = new.add_stream(codec, rate=RATE, layout=_LAYOUT)
            packets = _encoded(sound, _samples(source, first, seconds))
            waiting = next(packets, None)
            for packet in whole_packets(old):
                if not packet.size:
                    continue
                while waiting is not None and _time(waiting) <= _time(packet):
                    new.mux(waiting)
                    waiting = next(packets, None)
                packet.stream = copy
                new.mux(packet)
            if waiting is not None:
                new.mux([waiting, *packets])
    except (OSError, ValueError, av.FFmpegError) as error:
        raise unreadable(source, error) from error


def _time(packet: av.Packet) -> Fraction:
    return (packet.dts if packet.dts is not None else packet.pts or 0) * packet.time_base


def _samples(source: Path, first: float, seconds: float) -> Iterator[np.ndarray]:
    """Pieces (2, N) of float samples, silent where the source has none; `seconds` in all."""
    left, position = round(seconds * RATE), round(first * RATE)
    resampler = av.AudioResampler(format="fltp", layout=_LAYOUT, rate=RATE)
    with opened_container(source) as container:
        if not container.streams.audio:
            raise VideoFileError(f"{source} has no sound")
        audio = container.streams.audio[0]
        for frame in container.decode(audio):
            for part in resampler.resample(frame):
                samples = part.to_ndarray()
                begin = position if part.pts is None else round(part.pts * part.time_base * RATE)
                if begin > position:
                    gap = min(begin - position, left)
                    yield np.zeros((2, gap), np.float32)
                    position, left = position + gap, left - gap
                samples = samples[:, max(0, position - begin) :][:, :left]
                yield samples
                position, left = position + samples.shape[1], left - samples.shape[1]
            if left <= 0:
                return
    yield np.zeros((2, left), np.float32)


def _encoded(stream: av.AudioStream, pieces: Iterator[np.ndarray]) -> Iterator[av.Packet]:
    position = 0
    for piece in pieces:
        for start in range(0, piece.shape[1], _CHUNK):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(piece[:, start : start + _CHUNK]), format="fltp", layout=_LAYOUT
            )
            frame.rate, frame.pts, frame.time_base = RATE, position, Fraction(1, RATE)
            position += frame.samples
            yield from stream.encode(frame)
    yield from stream.encode()
