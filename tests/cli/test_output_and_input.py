"""An output never destroys what the video is made from, nor a file that is there before a new one plays."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.errors import UsageError, UserError
from fifo_diffusion.jobs.plan import check_outputs
from fifo_diffusion.jobs.request import Request
from fifo_diffusion.video import VideoFileError, count_frames, iter_frames, open_writer, read_frames, write_video
from streams import SMALL
from video_clips import FORMATS, clip, error_of


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(name: str) -> dict[str, bytes]:
    """All that is in a file or a folder."""
    path = Path(name)
    return {str(file): file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])}


def write_all(writer, frames) -> None:
    for frame in frames:
        writer.write(frame)


def links_to(name: str) -> list[str]:
    """The same file or folder under other names."""
    if name.endswith("/"):
        Path("link").symlink_to(name.strip("/"))
        return [name, "link/", f"./{name}", "clip"]
    Path(f"soft{Path(name).suffix}").symlink_to(name)
    os.link(name, f"hard{Path(name).suffix}")
    return [name, f"soft{Path(name).suffix}", f"hard{Path(name).suffix}", os.path.abspath(name)]


@pytest.mark.parametrize("include_start", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_start_is_no_output(fifo, name, include_start):
    """By any of its names, with a writer that is opened before the stream too; until the stream is closed."""
    write_video(name, clip(9, 16, 16))
    before, others = content(name), links_to(name)
    options = {"start": name, "include_start": include_start, "seed": 0, "num_frames": 12}
    for other in others if include_start else others[:2]:
        with pytest.raises(VideoFileError, match=r"is what the video is made from .*choose another name"):
            write_video(other, fifo.stream("a cat", **options | SMALL))
        gc.collect()  # the stream lives on in the error's traceback
        early = open_writer(other, fps=8, overwrite=True)
        with fifo.stream("a cat", **options | SMALL) as stream:
            with pytest.raises(VideoFileError, match="is what the video is made from"):
                open_writer(other, fps=8, overwrite=True)
            with pytest.raises(VideoFileError, match="is what the video is made from"):
                write_all(early, clip(2, 16, 16))
            assert stream.frame_index == 0
    assert content(name) == before
    gc.collect()
    assert write_video(name, clip(2)) == 2  # nobody reads it any more


def test_a_picture_in_the_output_folder(fifo):
    write_video("clip/", clip(3, 16, 16))
    before = content("clip/")
    for start in ("clip/frame_000001.png", [Image.open("clip/frame_000002.png")], ["clip/frame_000000.png"]):
        with pytest.raises(VideoFileError, match="is what the video is made from"):
            write_video("clip/", fifo.stream("a cat", start=start, num_frames=5, **SMALL))
    assert content("clip/") == before


def test_a_saved_stream_that_shows_a_file(fifo):
    write_video("clip.mp4", clip(9, 16, 16))
    stream = fifo.stream("a cat", start="clip.mp4", include_start=True, seed=0, **SMALL)
    next(stream)
    stream.state().save("run.safetensors")
    stream.close()
    with pytest.raises(VideoFileError, match="is what the video is made from"):
        write_video("clip.mp4", fifo.stream(start="run.safetensors", num_frames=12))
    assert count_frames("clip.mp4") == 9


@pytest.mark.parametrize("name", FORMATS)
def test_frames_of_a_file_onto_itself(name):
    write_video(name, clip(9))
    before = content(name)
    with pytest.raises(VideoFileError, match="is what the video is made from"):
        write_video(name, iter_frames(name))
    writer = open_writer(name, fps=8, overwrite=True)
    with pytest.raises(VideoFileError, match="is what the video is made from"):
        write_all(writer, iter_frames(name))
    gc.collect()
    assert content(name) == before
    write_video(name, [255 - frame for frame in iter_frames(name)])
    assert error_of(read_frames(name), 255 - clip(9)) <= 5


def test_going_on_with_what_the_video_begins_with(fifo):
    """Nothing is lost there: old frames stay."""
    write_video("clip.mp4", clip(9, 16, 16))
    before = read_frames("clip.mp4")
    with (
        fifo.stream("a cat", start="clip.mp4", num_frames=2, **SMALL) as stream,
        open_writer("clip.mp4", fps=8, continue_from=9) as writer,
    ):
        for frame in stream:
            writer.write(frame)
    assert np.array_equal(read_frames("clip.mp4", first=9), before)
    assert count_frames("clip.mp4") == 11


@pytest.mark.parametrize("option", ["start", "schedule", "prompts", "model"])
def test_an_input_of_the_command_is_no_output(option):
    """Whatever it is, whatever it is called, before anything is loaded."""
    source = "given.mp4"
    text = {"schedule": "0: a cat\n", "prompts": "a cat\n"}.get(option, "not empty")
    Path(source).write_text(text)
    os.link(source, "hard.mp4")
    Path("soft.mp4").symlink_to(source)
    for output in ("given.mp4", "hard.mp4", "soft.mp4"):
        options = {option: source, "output": output, "overwrite": True, "prompt": "a cat"}
        if option in ("schedule", "prompts"):
            del options["prompt"]
        request = Request.from_options(options)
        if option == "prompts":
            request.videos = [request.videos[0].__class__("a cat", output, 0)]
        with pytest.raises(UserError, match=f"is what {option} names, and writing there would destroy it") as caught:
            check_outputs(request)
        assert isinstance(caught.value, UsageError)
    assert Path(source).read_text() == text


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_the_old_output_is_whole_until_a_new_frame_is_safe(name, background):
    write_video(name, clip(9))
    before = content(name)
    os.chmod(name, 0o750 if name.endswith("/") else 0o640)

    def fails_at_once():
        raise RuntimeError
        yield

    def fails_later():
        yield from clip(5)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(name, fails_at_once(), background=background)
    assert content(name) == before
    with pytest.raises(RuntimeError):
        write_video(name, fails_later(), background=background)
    assert count_frames(name) == 5
    assert os.stat(name).st_mode & 0o777 == (0o750 if name.endswith("/") else 0o640)
    assert [path.name for path in Path().iterdir()] == [name.strip("/")]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_a_new_file_is_not_there_before_it_plays(name):
    """However early the process is killed, there is a file that plays or none."""
    with open_writer(name, fps=8) as writer:
        assert not Path(name).exists()
        for frame in clip(4):
            writer.write(frame)
            assert count_frames(name) == writer.frames_safe if writer.frames_safe else not Path(name).exists()
    assert count_frames(name) == 4


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_links_and_long_names(name):
    """An output that is a link is written where it points; the name beside may not become too long."""
    Path("disk").mkdir()
    Path(name).symlink_to(f"disk/{name}")
    write_video(name, clip(3))
    write_video(name, clip(4))
    assert Path(name).is_symlink()
    assert count_frames(f"disk/{name}") == 4
    long = "n" * (255 - len(name)) + name
    assert write_video(long, clip(3)) == count_frames(long) == 3
    assert {path.name for path in Path().rglob("*")} == {"disk", name, long}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_a_file_without_a_byte_is_nobodys(name):
    """It may be left where a program is killed."""
    Path(name).touch()
    with open_writer(name, fps=8) as writer:
        for frame in clip(3):
            writer.write(frame)
    assert count_frames(name) == 3
