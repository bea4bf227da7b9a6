"""Videos and GIFs: which pictures decoding shows, and when."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.sidedata.sidedata import Type as SideData

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.files import MOST_PIXELS, check_file, check_size, foreign_format, no_whole_frame, unreadable
from fifo_diffusion.video.gif_blocks import frame_ends

logger = logging.getLogger(__name__)

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,ogg,asf,mxf,nut,ivf,obu,h264,"
    "hevc,vvc,dv,rm,yuv4mpegpipe,swf,wtv,gxf,rawvideo"
)
"""All kinds of file that FFmpeg is allowed to read: no playlists, which name further files, no devices, no programs."""
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave transparency out


@dataclass(frozen=True)
class Shown:
    """A decoded picture.

    Attributes:
        picture: as it is stored.
        time: when it is shown, in seconds; None where the file does not say.
        seconds: how long, where the file says it.
        aspect: width of a pixel to its height.
    """

    picture: av.VideoFrame
    time: Fraction | None
    seconds: float | None
    aspect: Fraction

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as it is seen."""
        width, height = square_pixels(self.picture.width, self.picture.height, self.aspect)
        turned = turn_of(self.picture)[0]
        return (width, height) if turned else (height, width)


@contextmanager
def opened_container(path: Path) -> Iterator[av.container.InputContainer]:
    """A PyAV container that has a video stream, its errors as `VideoFileError`."""
    check_file(path)
    try:
        # "file:" keeps FFmpeg from taking a colon in the name for a protocol.
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (OSError, ValueError, av.FFmpegError) as error:
        kind = foreign_format(path)
        if kind:
            raise VideoFileError(f"{path} is {kind}, which is not read here: give a video, a GIF or an image") from None
        raise unreadable(path, error) from error
    with container:
        if not container.streams.video:
            raise VideoFileError(f"{path} holds no video: give a video, a GIF, an image or a folder of images")
        context = container.streams.video[0].codec_context
        if context is None:
            raise VideoFileError(f"{path} holds video that FFmpeg cannot decode here: convert it to mp4 first")
        check_size(path, context.width, context.height)
        yield container


def whole_packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets before the first that was cut off, then the empty one that flushes a decoder."""
    held: list[av.Packet] = []
    for packet in container.demux(main_video(container)):
        if packet.is_corrupt:  # at the end, of a file that was cut off; a broadcast has some in the middle
            held.append(packet)
            continue
        if packet.size:
            yield from held
            held.clear()
        yield packet


def main_video(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that players show: no cover picture, where there is another."""
    streams = container.streams.video
    return next((s for s in streams if not int(s.disposition) & int(av.stream.Disposition.attached_pic)), streams[0])


def pictures(path: Path) -> Iterator[Shown]:
    """The pictures that decoding shows, in order: no packets outside an edit list, no hidden ones, no torn one.

    Raises:
        VideoFileError: it cannot be read or shows none.
    """
    most = _gif_length(path)
    with opened_container(path) as container:
        stream = main_video(container)
        decoder, empty, damage = _decoder(stream), True, None
        decoder.options = {"max_pixels": str(MOST_PIXELS)}
        packets = whole_packets(container)
        while most is None or most > 0:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                decoded = decoder.decode(packet if packet.size else None)
            except av.EOFError:
                break
            except (OSError, ValueError, av.FFmpegError) as error:
                damage = error  # players go on with what follows
                if not isinstance(error, av.InvalidDataError):
                    break
                continue
            for picture in decoded[:most]:
                check_size(path, picture.width, picture.height)
                if empty and most is not None:
                    check_size(path, picture.width, picture.height, most)
                empty = False
                tick = picture.time_base or stream.time_base
                time = None if picture.pts is None else picture.pts * tick
                seconds = float(picture.duration * tick) or None
                yield Shown(picture, time, seconds, Fraction(stream.sample_aspect_ratio or 1))
            most = None if most is None else most - len(decoded)
        if empty:
            raise no_whole_frame(path) if damage is None else unreadable(path, damage) from damage
        if damage is not None:
            logger.warning("%s is damaged: parts of it cannot be decoded, and are left out", path)


def turn_of(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How a stored picture is brought upright: (exchange rows and columns, then mirror left-right, then upside down).

    All eight orientations, by the signs of the display matrix.
    """
    matrix = picture.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d, *_ = memoryview(bytes(matrix)).cast("i")
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def square_pixels(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) of a picture whose pixels are `aspect` times as wide as high, enlarged until they are square."""
    if not Fraction(1, 8) < aspect < 8:
        return width, height
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """The stream's, or one that decodes transparency too."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
        return av.CodecContext.create(name, "r")  # type: ignore[return-value]
    stream.thread_type = "AUTO"
    return stream.codec_context


def _gif_length(path: Path) -> int | None:
    """How many whole frames a GIF has, None for other files: FFmpeg also shows the torn frame at the end of a GIF."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GIF8":
                return None
            return sum(1 for _ in frame_ends(file, path))
    except OSError as error:
        raise unreadable(path, error) from error
