"""Files of frames: every format there and back, and every way in which the request or the file can be wrong."""

import errno
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.video import (
    VideoFileError,
    as_frames,
    check_output,
    count_frames,
    iter_frames,
    open_writer,
    read_fps,
    read_frames,
    read_metadata,
    write_video,
)
from video_clips import FORMATS, METADATA, clip, error_of


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FORMATS)
def test_whether_an_output_can_be_opened_is_found_out_without_a_change(here, name):
    check_output(name, fps=8)
    assert not list(here.iterdir())
    write_video(name, clip(10, 48, 64), fps=8)
    for options in ({"continue_from": 4}, {"overwrite": True}):
        check_output(name, fps=8, **options)
        assert count_frames(name) == 10
    assert len(list(here.iterdir())) == 1
    with pytest.raises(VideoFileError, match="holds 10 frames"):
        check_output(name, fps=8, continue_from=11)
    open_writer(name, fps=8, continue_from=4).close()
    assert count_frames(name) == 4


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back(here, name, size):
    frames = clip(13, *size)
    assert write_video(name, iter(frames), fps=12.5, metadata=METADATA) == 13
    assert error_of(read_frames(name), frames) <= (0 if name == "clip/" else 4)
    assert count_frames(name) == 13
    assert read_metadata(name) == METADATA
    assert read_fps(name) == (None if name == "clip/" else pytest.approx(12.5, rel=1e-3))
    assert [path.name for path in here.iterdir()] == [name.strip("/")]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (30, 144, 200)])
def test_colours(here, name, colour):
    frames = np.full((3, 64, 64, 3), colour, np.uint8)
    write_video(name, frames)
    assert error_of(read_frames(name), frames) <= 2
    with av.open(name) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_pictures_stay_as_they_were(here, name):
    """FFmpeg's usual conversion would make them darker by one level, and shift their colours by half a pixel."""
    small = np.random.default_rng(0).integers(20, 235, (6, 8, 3), dtype=np.uint8)
    frames = np.asarray(Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC))[None].repeat(3, 0)
    write_video(name, frames, crf=4)
    got = read_frames(name)
    assert np.abs((got.astype(int) - frames).mean((0, 1, 2))).max() < 0.5
    assert error_of(got, frames) < 2


@pytest.mark.parametrize("name", FORMATS)
def test_scale(here, name):
    frames = clip(3, 15, 20)
    write_video(name, frames, scale=3)
    got = read_frames(name)
    assert error_of(got, frames.repeat(3, 1).repeat(3, 2)) <= (0 if name == "clip/" else 4)


def test_closed_mp4_is_an_ordinary_one_that_any_player_can_seek(here):
    write_video("clip.mp4", clip(30), fps=10)
    with av.open("clip.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, container.duration) == (30, 3_000_000)
    assert Path("clip.mp4").read_bytes().rfind(b"moov") > 1000


def test_gif_loops_for_ever_at_its_pace(here):
    write_video("clip.gif", clip(16), fps=8)
    with Image.open("clip.gif") as image:
        assert image.info["loop"] == 0
        delays = []
        for number in range(16):
            image.seek(number)
            delays.append(image.info["duration"])
    assert sum(delays) == 2000


def test_fps_of_the_frames_and_default(here):
    class Stream(list):
        fps = 5

    write_video("a.mp4", Stream(clip(3)))
    write_video("b.mp4", clip(3))
    write_video("c.mp4", Stream(clip(3)), fps=24)
    assert [read_fps(name) for name in ("a.mp4", "b.mp4", "c.mp4")] == [5, 8, 24]


def test_floats_and_pil_images_can_be_written(here):
    frames = clip(4)
    write_video("a/", frames / 255.0)
    write_video("b/", [Image.fromarray(frame) for frame in frames])
    assert error_of(read_frames("a/"), frames) == error_of(read_frames("b/"), frames) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_an_existing_output_is_kept(here, name):
    write_video(name, clip(5))
    with pytest.raises(VideoFileError, match="exists already: add overwrite=True or choose another name"):
        open_writer(name, fps=8)
    open_writer(name, fps=8, overwrite=True).close()  # nothing was written
    assert error_of(read_frames(name), clip(5)) <= 4
    write_video(name, clip(2))
    assert count_frames(name) == 2


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_written_leaves_nothing(here, name):
    open_writer(name, fps=8).close()
    with pytest.raises(ValueError, match="no frame to write"):
        write_video(name, [])
    with pytest.raises(ValueError, match="a frame must"):
        write_video(name, [np.zeros((4, 4))[0]])
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", ["clip.avi", "run.v2", "clip.mp5"])
def test_unknown_suffix(here, name):
    with pytest.raises(ValueError, match=rf'"{name}": its name must end in .mp4, .webm or .gif; .* type "{name}/"'):
        open_writer(name, fps=8)


@pytest.mark.parametrize("name", FORMATS)
def test_no_such_folder(here, name):
    with pytest.raises(VideoFileError, match="no folder nowhere; make it with: mkdir -p nowhere"):
        open_writer(f"nowhere/{name}", fps=8)


@pytest.mark.parametrize("name", FORMATS)
def test_unwritable(here, name, monkeypatch):
    def refuse(*_args, **_more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(VideoFileError, match=r"cannot write .*: Permission denied"):
        open_writer(name, fps=8)


def test_a_file_where_a_folder_is_wanted_and_the_reverse(here):
    Path("file").touch()
    Path("folder.mp4").mkdir()
    with pytest.raises(VideoFileError, match="is a file"):
        open_writer("file", fps=8)
    with pytest.raises(VideoFileError, match=r'is a folder.*type "folder.mp4/"'):
        open_writer("folder.mp4", fps=8)


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "libx264"), ("clip.webm", "libvpx-vp9")])
def test_missing_codec(here, name, codec, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(VideoFileError, match=f"no encoder {codec} here.*pip install --force-reinstall av.*gif"):
        open_writer(name, fps=8)
    assert not list(here.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "fast", None])
def test_fps_that_makes_no_sense(here, fps):
    with pytest.raises(ValueError, match=r"^fps=.*: give a positive number"):
        open_writer("clip.mp4", fps=fps)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clip.mp4", {"scale": 0}, "^scale=.*: give a whole number"),
        ("clip.mp4", {"scale": 1.5}, "^scale=.*: give a whole number"),
        ("clip.mp4", {"crf": 52}, "crf is 52 but must lie in 0 .* 51"),
        ("clip.webm", {"crf": -1}, "^crf=.*: give a whole number of at least 0"),
        ("clip.mp4", {"continue_from": -1}, "^continue_from=.*: give a whole number of at least 0"),
        ("clip.mp4", {"continue_from": 2.5}, "^continue_from=.*: give a whole number"),
        ("clip.mp4", {"scale": "2"}, "^scale=.*: give a whole number of at least 1"),
        ("clip.mp4", {"crf": float("nan")}, "^crf=.*: give a whole number of at least 0"),
        ("clip.webm", {"crf": 64}, "crf is 64 but must lie in 0 .* 63"),
        ("clip.gif", {"crf": 3}, "crf goes with .mp4 and .webm"),
        ("clip.mp4/", {"crf": 3}, "crf goes with .mp4 and .webm"),
        ("clip.mp4", {"fps": 1001}, "^fps=1001: give at most 1000"),
        ("clip.mp4", {"metadata": ["a"]}, "metadata must be a dict of strings, not list"),
        ("clip.gif", {"fps": 60}, "at most 50 frames/s"),
        ("-", {"continue_from": 3}, "is a pipe"),
    ],
)
def test_options_that_make_no_sense(here, name, options, message):
    with pytest.raises(ValueError, match=message):
        open_writer(name, **{"fps": 8, **options})
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((6, 8, 3), np.uint8), "a single picture: give a list"),  # its rows are no narrow grey frames
        (np.zeros((6, 8), np.uint8), "a single picture"),
        (Image.new("RGB", (8, 6)), "a single picture"),
        ("clip.webm", "not a file's name .clip.webm."),
        (3, "one after another, not int"),
        (np.zeros((1, 2, 8, 6, 3), np.uint8), "a frame must have the shape"),
    ],
)
def test_what_is_no_row_of_frames(here, given, message):
    with pytest.raises(ValueError, match=message):
        write_video("clip.mp4", given)
    assert not list(here.iterdir())


def test_names_that_no_system_takes(here):
    for read in (read_frames, read_fps, read_metadata, count_frames):
        with pytest.raises(VideoFileError, match=r"cannot read x+ \(File name too long"):
            read("x" * 300)


def test_path_and_frames_in_the_wrong_order(here):
    with pytest.raises(ValueError, match=r"not a file.s name .clip.mp4."):
        write_video([np.zeros((6, 8, 3), np.uint8)], "clip.mp4")


def test_numbers_of_numpy(here):
    assert write_video("clip.mp4", np.zeros((3, 8, 6, 3), np.uint8), np.float32(12.5), scale=np.int64(2)) == 3
    assert read_frames("clip.mp4", last=np.int64(2), size=(np.int64(4), 4), fps=np.float64(12.5)).shape == (2, 4, 4, 3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fps": 0}, "^fps=.*: give a positive number"),
        ({"fps": -1}, "^fps=.*: give a positive number"),  # frames without end
        ({"fps": float("nan")}, "^fps=.*: give a positive number"),
        ({"first": 1.5}, r"^first=1\.5: give a whole number"),
        ({"last": "2"}, "^last='2': give a whole number"),
        ({"size": (0, 4)}, "^height=0: give a whole number of at least 1"),
        ({"size": 4}, r"^size=4: give \(height, width\)"),
        ({"size": (4, 4), "how": "stretch"}, 'use "crop" or "pad"'),
    ],
)
def test_readings_that_make_no_sense(here, how, message):
    write_video("clip.mp4", np.zeros((3, 8, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=message):
        read_frames("clip.mp4", **how)


@pytest.mark.parametrize(("name", "side"), [("clip.mp4", 16384), ("clip.webm", 65535), ("clip.gif", 65535)])
def test_more_pixels_than_a_format_holds(here, name, side):
    with pytest.raises(ValueError, match=rf"would be {side // 2 * 2 + 2}x2, .* at most {side} pixels"):
        write_video(name, [np.zeros((1, side // 2 + 1, 3), np.uint8)], scale=2)
    assert not list(here.iterdir())


def test_y4m_is_not_for_terminals(monkeypatch):
    monkeypatch.setattr(sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(VideoFileError, match="a terminal cannot show"):
        open_writer("-", fps=8)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((48, 64, 3)), r"not float64 \(48, 64, 3\)"),
        (np.zeros((48, 64), np.uint8), r"not uint8 \(48, 64\)"),
        (np.zeros((3, 48, 64), np.uint8), r"not uint8 \(3, 48, 64\)"),
        ("frame", "not str"),
        (np.zeros((48, 32, 3), np.uint8), "this frame is 32x48 but those before, in clip.mp4, 64x48"),
    ],
)
def test_frames_that_are_none(here, frame, message):
    with open_writer("clip.mp4", fps=8) as writer:
        writer.write(clip(1)[0])
        with pytest.raises(ValueError, match=message):
            writer.write(frame)
        writer.write(clip(1)[0])
    assert writer.frames == count_frames("clip.mp4") == 2
    with pytest.raises(VideoFileError, match="is closed"):
        writer.write(clip(1)[0])


def test_every_error_is_one_line(here):
    write_video("clip.mp4", clip(2))
    Path("broken.mp4").write_bytes(b"nothing")
    Path("broken.png").write_bytes(b"nothing")
    Path("text.gif").write_bytes(b"nothing")
    Path("empty").mkdir()
    messages = []
    for path in ("missing.mp4", "missing.png", "missing.gif", "broken.mp4", "broken.png", "text.gif", "empty"):
        with pytest.raises(VideoFileError, match=path) as caught:
            read_frames(path)
        messages.append(str(caught.value))
    assert not any("\n" in message for message in messages)
    assert messages[0] == "there is no file missing.mp4"


def test_first_last_and_size(here):
    write_video("clip.mp4", clip(20))
    whole = read_frames("clip.mp4")
    assert error_of(read_frames("clip.mp4", last=3), whole[-3:]) == 0
    assert error_of(read_frames("clip.mp4", first=3), whole[:3]) == 0
    assert len(read_frames("clip.mp4", last=99)) == 20
    assert read_frames("clip.mp4", last=2, size=(24, 24)).shape == (2, 24, 24, 3)
    for wrong in ({"first": 1, "last": 1}, {"first": 0}, {"last": -1}):
        with pytest.raises(ValueError, match=r"first|last"):
            read_frames("clip.mp4", **wrong)


def test_size_crops_around_the_centre(here):
    frame = np.zeros((40, 80, 3), np.uint8)
    frame[:, 20:60] = 255  # the middle square
    (fitted,) = as_frames(frame, size=(20, 20))
    assert fitted[:, 1:-1].min() == 255


def test_folders_in_natural_order(here):
    Path("images").mkdir()
    for number in (1, 2, 10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(f"images/{number}.png")
    Path("images/notes.txt").touch()
    assert [frame[0, 0, 0] for frame in iter_frames("images")] == [1, 2, 10]
    Image.new("RGB", (9, 8)).save("images/11.png")
    with pytest.raises(VideoFileError, match=r"different sizes \(8x8, 9x8\)"):
        read_frames("images")
    assert read_frames("images", size=(4, 4)).shape == (4, 4, 4, 3)


def test_as_frames(here):
    frames = clip(3)
    Image.fromarray(frames[0]).save("image.png")
    assert error_of(as_frames("image.png"), frames[:1]) == 0
    assert error_of(as_frames(Path("image.png")), frames[:1]) == 0
    assert error_of(as_frames(Image.fromarray(frames[0])), frames[:1]) == 0
    assert error_of(as_frames(frames[0]), frames[:1]) == 0
    assert error_of(as_frames(frames), frames) == 0
    assert error_of(as_frames(frames / 255), frames) == 0
    assert error_of(as_frames(["image.png", frames[1], Image.fromarray(frames[2])]), frames) == 0
    assert as_frames(Image.new("RGBA", (8, 6))).shape == as_frames(np.zeros((6, 8))).shape == (1, 6, 8, 3)
    for wrong in (3, np.zeros((1, 6, 8, 3), int), np.full((6, 8, 3), 1.5), np.zeros((3, 6, 8))):
        with pytest.raises(ValueError, match="frame"):
            as_frames(wrong)
