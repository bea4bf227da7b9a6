"""The sound of a given video stays with its frames."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.video import VideoFileError, count_frames, open_writer, read_frames, read_metadata, write_video
from fifo_diffusion.video.sound import add_sound, has_sound
from odd_videos import video
from video_clips import clip, error_of

BALL = "a red ball moving right on a navy background"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def loudness(path) -> np.ndarray:
    """Of each tenth of a second."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=48000)
    with av.open(str(path)) as container:
        parts = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in resampler.resample(f)]
    samples = np.concatenate(parts)
    return np.array([np.abs(part).max() for part in np.array_split(samples, round(len(samples) / 4800))])


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_sound_is_put_into_a_finished_file(name):
    """Its frames and metadata stay, and it can be continued."""
    video("source.mp4", 20, tick=Fraction(1, 10), sound=True)
    write_video(name, clip(12), fps=10, metadata={"seed": "3"})
    before = read_frames(name)
    add_sound(name, "source.mp4", first=1.0, seconds=0.8)
    assert np.array_equal(read_frames(name), before)
    assert read_metadata(name) == {"seed": "3"}
    found, whole = loudness(name), loudness("source.mp4")
    assert 7 <= len(found) <= 10
    assert np.abs(found[1:7] - whole[11:17]).max() < 0.1
    assert sorted(os.listdir()) == sorted(["source.mp4", name])
    with open_writer(name, fps=10, continue_from=10) as writer:
        writer.write(clip(12)[10])
    assert error_of(read_frames(name), before[:11]) < 4


def generate(*arguments: str) -> int:
    small = ["--window", "4", "--num-partitions", "1", "--no-lookahead", "--height", "32", "--width", "32"]
    return main(["generate", BALL, *small, "--guidance-scale", "1", "--seed", "0", *arguments])


def test_the_command_keeps_the_sound_of_what_it_shows(capsys):
    """Three times as many frames per second as the model makes: taken at its rate, they last as long."""
    video("source.mp4", 36, tick=Fraction(1, 30), sound=True)
    given = ["--start", "source.mp4", "--include-start"]
    assert generate(*given, "--num-frames", "14", "-o", "out.mp4") == 0
    told = capsys.readouterr().err
    assert "note: --start: source.mp4 has 30 frames/s, the model 10: every third frame is taken" in told
    assert "note: the sound of source.mp4 is added when the video is closed" in told
    assert count_frames("out.mp4") == 14
    assert 11 <= len(loudness("out.mp4")) <= 13
    slow = "the given frames do not play at their own speed"
    for how, why in ((["-o", "out.gif"], ".gif holds none"), (["-o", "fast.mp4", "--fps", "20"], slow)):
        assert generate(*given, "--num-frames", "3", *how) == 0
        assert f"note: the sound of source.mp4 is left out: {why}" in capsys.readouterr().err
        assert not has_sound(how[1])


def test_starts_that_cannot_be_read_are_typed_wrongly(capsys):
    os.mkdir("empty")
    os.mkfifo("pipe.mp4")
    open("none.mp4", "w").close()
    for start, why in (
        ("empty", "holds no images"),
        ("pipe.mp4", "pipe"),
        ("none.mp4", "cannot read"),
        ("", "give clip, noise"),
    ):
        assert generate("--start", start, "-o", "out.mp4") == 2
        told = capsys.readouterr().err
        assert why in told
        assert len(told.splitlines()) == 1
    assert not os.path.exists("out.mp4")


@pytest.mark.parametrize(("first", "seconds"), [(float("nan"), 1), (0, float("inf")), (0, 0), (0, -1)])
def test_no_time_is_refused(tmp_path, first, seconds):
    video(tmp_path / "a.mp4", 3)
    with pytest.raises(ValueError, match="give a time, and how long"):
        add_sound(tmp_path / "a.mp4", tmp_path / "a.mp4", first=first, seconds=seconds)


def test_a_source_without_sound_leaves_the_video(tmp_path):
    video(tmp_path / "a.mp4", 3)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(VideoFileError, match=r"a.mp4 has no sound"):
        add_sound(tmp_path / "a.mp4", tmp_path / "a.mp4", first=0, seconds=1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before
