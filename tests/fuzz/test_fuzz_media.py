"""Videos and pictures that are cut off or garbled: the frames that are whole, or one line that names the file."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from fifo_diffusion.video import (
    VideoFileError,
    count_frames,
    iter_frames,
    read_frames,
    read_metadata,
    write_video,
)
from fifo_diffusion.video.readers import read_fps, read_timeline
from fifo_diffusion.video.sound import has_sound
from fuzzing import damaged, examples, holds, refused
from video_clips import METADATA, clip, error_of

FRAMES = clip(5, 32, 48)
PICTURES = {"png": {}, "apng": {}, "webp": {"lossless": True}, "gif": {}, "tiff": {}, "jpg": {}, "bmp": {}, "avif": {}}
PICTURES |= {"jp2": {}, "ppm": {}, "tga": {}}
if ".avif" not in Image.registered_extensions():  # before Pillow 11.3
    del PICTURES["avif"]
MOVING = ("apng", "webp", "gif", "tiff", "avif")
VIDEOS = ("mp4", "webm", "gif", "y4m")


def made(path):
    """A small file of this name's kind."""
    kind = path.suffix[1:]
    if kind in ("mp4", "webm"):
        write_video(path, FRAMES, fps=10, metadata=METADATA)
    elif kind == "y4m":
        head, frame = b"YUV4MPEG2 W48 H32 F10:1 Ip A1:1 C444\n", b"FRAME\n" + bytes(range(256)) * 18
        path.write_bytes(head + frame * 3)
    else:
        first, *others = [Image.fromarray(frame) for frame in FRAMES]
        more = {"save_all": True, "append_images": others, "duration": 100} if kind in MOVING else {}
        first.save(path, "PNG" if kind == "apng" else None, **more, **PICTURES[kind])
    return path.read_bytes()


def read_all(path):
    """Everything that is asked of a file that somebody gives."""
    found, _ = refused(lambda: [*islice(iter_frames(path), 40)], VideoFileError, names=path)
    if found is not None:
        assert found
        assert all(frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 for frame in found)
    times, _ = refused(lambda: read_timeline(path), VideoFileError, names=path)
    if times is not None:
        assert refused(lambda: count_frames(path, fps=7), VideoFileError)[0] != 0
    metadata, _ = refused(lambda: read_metadata(path), VideoFileError, names=path)
    assert metadata is None or all(isinstance(each, str) for pair in metadata.items() for each in pair)
    rate, _ = refused(lambda: read_fps(path), VideoFileError, names=path)
    assert rate is None or rate > 0
    refused(lambda: has_sound(path), ())
    refused(lambda: read_frames(path, last=2, size=(16, 16)), VideoFileError)


@examples(4, 300)
@pytest.mark.parametrize("kind", [*VIDEOS, *(kind for kind in PICTURES if kind not in VIDEOS)])
def test_damaged_files(count, kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    whole = made(path)

    @holds(count, damaged(whole) | st.floats(0, 1).map(lambda share: whole[: int(share * len(whole))]))
    def check(data):
        path.write_bytes(data)
        read_all(path)


HEADS = [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"YUV4MPEG2 ", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3"]
HEADS += [b"II*\0", b"MM\0*", b"BM", b"P6 ", b"\xff\xd8\xff", b"#EXTM3U\n", b"", b"FWS", b"FLV\1", b"OggS", b"0&\xb2u"]


@examples(10, 2000)
def test_made_up_files(count, tmp_path):
    @holds(
        count, st.sampled_from(HEADS), st.binary(max_size=200), st.sampled_from([".mp4", ".png", ".gif", ".tga", ""])
    )
    def check(head, rest, ending):
        path = tmp_path / f"a{ending}"
        path.write_bytes(head + rest)
        read_all(path)


@examples(2, 40)
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", "/"])
def test_what_is_written_is_read_back(count, ending, tmp_path):
    """Number, size, rate and settings of the frames; and the frames, as nearly as the format keeps them."""
    sides, rates = st.integers(8, 40).map(lambda half: 2 * half), st.sampled_from([5, 10, 12.5, 25, 30])
    facts = st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)

    @holds(count, st.integers(2, 6), sides, sides, rates, facts)
    def check(number, height, width, fps, facts):
        path, frames = str(tmp_path / "a") + ending, clip(number, height, width)
        write_video(path, frames, fps=fps, metadata=facts)
        found = read_frames(path)
        assert error_of(found, frames) < (0.1 if ending == "/" else 30)
        assert count_frames(path) == number
        said = {
            key.encode("utf-8", "backslashreplace").decode(): value.encode("utf-8", "backslashreplace").decode()
            for key, value in facts.items()
        }
        assert read_metadata(path) == said
        if ending != "/":
            hundredths = {"abs": 0.01} if ending == ".gif" else {"rel": 0.01}  # in which a gif counts
            assert 1 / read_fps(path) == pytest.approx(1 / fps, **hundredths)
