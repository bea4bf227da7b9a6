"""mp4 and webm, written with PyAV so that a killed process leaves a file that plays.

Three things would otherwise hold frames back: the encoder (lookahead, B-frames), the muxer (fragments or clusters of
many frames) and the file buffer. The encoders below give each frame's packet at once, every frame is its own fragment
or cluster, and it is handed to the operating system. What is left is the muxer's habit of closing a fragment when the
next one begins: one frame. One packet per frame, in order, also lets a file be cut and continued without re-encoding.

The mp4 muxer must be that of FFmpeg 8.1 (PyAV 17.1) or later: earlier ones lose the file if the disk is full when they
write the index, and earlier PyAVs mix up the colours.

Memory: the mp4 muxer keeps about 120 bytes per frame for the index that makes a closed file an ordinary mp4.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import VideoReformatter

from fifo_diffusion.video.errors import VideoFileError
from fifo_diffusion.video.forks import never_freed_in_children
from fifo_diffusion.video.metadata import read_metadata, to_comment
from fifo_diffusion.video.moving import opened_container, whole_packets
from fifo_diffusion.video.output_file import OutputFile
from fifo_diffusion.video.readers import iter_frames
from fifo_diffusion.video.sink import too_short

BT709 = 1  # FFmpeg's number for that standard's colour matrix, primaries and transfer curve
LIMITED_RANGE = 1  # FFmpeg's number for luma in 16 ... 235, which players expect
SMALL = 256 * 256  # pixels; below this a few bytes more per frame are cheap and artefacts are easily seen


@dataclass(frozen=True)
class ContainerFormat:
    """How one kind of file is encoded and muxed."""

    name: str
    codec: str
    decoder: str
    muxer: dict[str, str]
    encoder: dict[str, str]
    crf: int
    crf_small: int
    crf_max: int
    most_side: int
    odd_sizes_halve: bool
    """Whether 4:2:0 chroma can have odd sizes. H.264 cannot: there odd sizes keep full chroma (4:4:4)."""

    def pixel_format(self, height: int, width: int) -> str:
        """4:2:0 wherever possible: it is what browsers, phones and hardware play."""
        return "yuv420p" if self.odd_sizes_halve or (height % 2 == 0 and width % 2 == 0) else "yuv444p"


MP4 = ContainerFormat(
    name="mp4",
    codec="libx264",
    decoder="h264",
    # Fragments while writing; on closing the muxer adds an index and the file is an ordinary mp4.
    muxer={"movflags": "frag_every_frame+hybrid_fragmented+empty_moov+default_base_moof", "flush_packets": "1"},
    # FFmpeg halves the chroma around the centre; untold, players of H.264 take it for left.
    encoder={"preset": "faster", "tune": "zerolatency", "chroma_sample_location": "center"},
    crf=18,
    crf_small=12,
    crf_max=51,
    most_side=16384,
    odd_sizes_halve=False,
)
WEBM = ContainerFormat(
    name="webm",
    codec="libvpx-vp9",
    decoder="vp9",
    muxer={"cluster_time_limit": "1", "flush_packets": "1"},
    encoder={"deadline": "good", "cpu-used": "4", "lag-in-frames": "0", "b": "0"},
    crf=24,
    crf_small=14,
    crf_max=63,
    most_side=65535,
    odd_sizes_halve=True,
)


class ContainerSink:
    """Frames into one mp4 or webm file, new or continued."""

    lag = 1

    def __init__(
        self,
        path: str,
        kind: ContainerFormat,
        *,
        rate: Fraction,
        crf: int | None,
        metadata: dict[str, str],
        overwrite: bool,
        continue_from: int,
    ) -> None:
        if crf is not None and not 0 <= crf <= kind.crf_max:
            raise ValueError(
                f"crf is {crf} but must lie in 0 (best) ... {kind.crf_max} (smallest file) for .{kind.name}"
            )
        if kind.codec not in av.codecs_available:
            raise VideoFileError(
                f"PyAV has no encoder {kind.codec} here, which .{kind.name} needs: type "
                '"pip install --force-reinstall av", or write .gif, a folder of PNGs ("frames/") or another format'
            )
        self.kind, self.rate, self.crf = kind, rate, crf
        self.path = Path(path)
        self.size: tuple[int, int] | None = None
        self._container = None
        self._index = 0  # frames that the muxer has
        self._reformatter = VideoReformatter()
        self._file = OutputFile(self.path, overwrite=overwrite, continues=continue_from > 0)
        self._continued, self._metadata = continue_from, metadata
        if continue_from:
            try:
                self._metadata = read_metadata(self.path)
                self._take_over(continue_from)
            except BaseException:
                self._drop()
                raise

    def write(self, frame: np.ndarray) -> None:
        if self._container is None:
            self._start(*frame.shape[:2])
        self._encode(frame)
        if self._index > self.lag:
            self._file.mark()
            self._file.place()  # of a continued file, all old frames are now on the disk

    def close(self) -> None:
        if self._container is None:
            self._file.close()
            return
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
        self._file.complete()

    def discard(self) -> None:
        self._drop()

    def abandon(self) -> int:
        kept = max(0, self._index - self.lag)
        try:
            if self._container is not None and not self._file.failed:
                self._container.close()  # what failed was something else: with its index the file is an ordinary one
                self._file.mark()
                kept = self._index
            if kept > self._continued:  # else a file that was to be continued is as it was
                self._file.place()
        except Exception:
            kept = max(0, self._index - self.lag)
        placed = self._file.placed
        self._drop()
        return kept if placed else self._continued

    def _drop(self) -> None:
        """Without an index: nothing of what FFmpeg would still write reaches the file."""
        self._file.freeze()
        with suppress(Exception):
            if self._container is not None:
                self._container.close()
        self._file.close()

    def _start(self, height: int, width: int) -> None:
        self._container = av.open(self._file, "w", format=self.kind.name, options=self.kind.muxer)
        if self._metadata:
            self._container.metadata["comment"] = to_comment(self._metadata)
        small = height * width <= SMALL
        crf = self.crf if self.crf is not None else self.kind.crf_small if small else self.kind.crf
        seekable = max(1, round(3 * self.rate))  # a key frame every three seconds
        options = {**self.kind.encoder, "crf": str(crf), "g": str(seekable)}
        self._stream = self._container.add_stream(self.kind.codec, rate=self.rate, options=options)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = self.kind.pixel_format(height, width)
        codec = self._stream.codec_context
        codec.thread_count = 1  # the model needs the other cores; also the same file on every machine
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        self.size = (height, width)
        never_freed_in_children(self, self._container, self._stream, self._reformatter)

    def _encode(self, frame: np.ndarray) -> None:
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format=self._stream.pix_fmt,
            dst_colorspace="itu709",
            dst_color_range="MPEG",
        )
        picture.pts, picture.time_base = self._index, 1 / self.rate
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        self._index += 1

    def _take_over(self, frames: int) -> None:
        """Begin a new file beside the old one with the old one's first `frames` frames."""
        try:
            with opened_container(self.path) as old:
                stream = old.streams.video[0]
                if stream.average_rate and abs(stream.average_rate / self.rate - 1) > 1e-3:
                    raise VideoFileError(
                        f"{self.path} plays at {float(stream.average_rate):g} frames/s and cannot be continued "
                        f"at {float(self.rate):g}: give the same fps, or start again"
                    )
                self._start(stream.height, stream.width)
                copied = self._copy_packets(stream, frames)
            if not copied:
                for frame in islice(iter_frames(self.path), frames):
                    self._encode(frame)
            if self._index < frames:
                raise too_short(self.path, self._index, frames)
        except (OSError, av.FFmpegError) as error:
            raise VideoFileError(f"cannot continue {self.path} ({error.strerror}): it is as it was") from error

    def _copy_packets(self, stream: av.VideoStream, frames: int) -> bool:
        """Copy frames as they are: encoding them anew would show after a few rounds. False where headers differ."""
        encoder = self._stream.codec_context
        encoder.open(strict=False)
        if (stream.codec_context.name, stream.pix_fmt) != (self.kind.decoder, encoder.pix_fmt):
            return False
        for packet in islice(_packets(stream), frames):
            if self._index == 0 and not all(unit in bytes(packet) for unit in _parameter_sets(encoder)):
                return False
            packet.stream = self._stream
            packet.time_base, packet.duration = 1 / self.rate, 1
            packet.pts = packet.dts = self._index
            self._container.mux(packet)
            self._index += 1
        return True


def _packets(stream: av.VideoStream) -> Iterator[av.Packet]:
    """The stream's whole packets, in the form that an encoder would give them."""
    packets = (packet for packet in whole_packets(stream.container) if packet.size)
    if stream.codec_context.name != "h264":
        yield from packets
        return
    to_encoder_form = BitStreamFilterContext("h264_mp4toannexb", stream)
    for packet in packets:
        yield from to_encoder_form.filter(packet)


def _parameter_sets(encoder: av.CodecContext) -> list[bytes]:
    """An H.264 encoder's sequence and picture parameters (NAL units 7 and 8), on which all frames of a file depend."""
    units = (encoder.extradata or b"").split(b"\x00\x00\x00\x01")
    return [unit for unit in units if unit and unit[0] & 31 in (7, 8)]
