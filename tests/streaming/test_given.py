"""Frames that a video starts from: which are taken from a file, the size that they ask for, files that change."""

import logging
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion.models.shared.pipeline_calls import latent_size
from fifo_diffusion.streaming.given import Given, size_for, take_given
from fifo_diffusion.streaming.state import RunState
from fifo_diffusion.testing import frames
from fifo_diffusion.video import VideoFileError, count_frames, iter_frames, read_frames
from fifo_diffusion.video.readers import fit, read_timeline
from fifo_diffusion.video.timeline import Timeline, timeline
from odd_patterns import number_of, pattern
from odd_pictures import animation
from odd_videos import edit_list, video
from streams import SMALL

TEN = SimpleNamespace(defaults={"fps": 10, "height": 64, "width": 64}, other_shapes=False, told_picture=False)


def taken(path, **how):
    """Which frames of a file a model of 10 frames/s is given, and what is said."""
    given = take_given(TEN, path, **how)
    numbers = [number_of(frame) for frame in given.frames_from(0, given.shape)]
    assert len(numbers) == given.count == count_frames(path, fps=given.fps)
    assert [number_of(f) for f in read_frames(path, last=2, fps=given.fps)] == numbers[-2:]
    return numbers


@pytest.mark.parametrize(
    ("tick", "times", "numbers", "said"),
    [
        (30, None, [0, 3, 6, 9], "has 30 frames/s, the model 10: every third frame is taken"),
        (10, None, list(range(12)), None),
        (Fraction(10_000, 1001), None, list(range(12)), None),  # as 23.976 is to 24
        (15, None, [0, 1, 3, 4, 6, 7, 9, 10], "frames are left out"),
        (5, None, sorted([*range(12)] * 2), "frames are shown several times"),
        (30, [0, 1, 2, 3, 9, 15], [0, 3, 3, 4, 4, 5], "unevenly"),
        (10, [0, 1, 5, 6], [0, 1, 1, 1, 1, 2, 3], "unevenly"),
    ],
)
def test_a_file_keeps_its_speed(tmp_path, caplog, tick, times, numbers, said):
    video(tmp_path / "a.mkv", len(times or range(12)), tick=1 / Fraction(tick), times=times)
    assert taken(tmp_path / "a.mkv")[: len(numbers)] == numbers
    assert said in caplog.text if said else not caplog.text
    assert taken(tmp_path / "a.mkv", start_every_frame=True) == list(range(len(times or range(12))))


def test_what_an_edit_list_hides_is_not_taken(tmp_path):
    edit_list(tmp_path / "cut.mp4")
    assert taken(tmp_path / "cut.mp4") == list(range(5, 40, 3))


def test_animations_have_times_and_pictures_have_none(tmp_path):
    animation(6, duration=50)(tmp_path / "a.png")
    assert taken(tmp_path / "a.png") == [0, 2, 4]
    animation(6)(tmp_path / "a.tiff")
    assert taken(tmp_path / "a.tiff") == list(range(6))
    (tmp_path / "frames").mkdir()
    for k in range(3):
        Image.fromarray(pattern(number=k)).save(tmp_path / f"frames/{k}.png")
    assert taken(tmp_path / "frames") == [0, 1, 2]


def test_an_avi_with_b_frames_keeps_its_speed(tmp_path):
    """Its times come in the order of decoding: 1, 2, 3, 5, 4, 7, 6, ..."""
    video(tmp_path / "a.avi", 20, tick=Fraction(1, 20), codec="libx264", options={"bf": "2", "b-adapt": "0"})
    times = timeline((1, 1), [0.1, 0.2, 0.3, 0.5, 0.4, 0.7, 0.6, 0.8], 0.1)
    assert (times.even, times.first, times.rate) == (True, 0.1, pytest.approx(10))
    assert read_timeline(tmp_path / "a.avi").rate == pytest.approx(20)
    assert taken(tmp_path / "a.avi") == list(range(0, 20, 2))


def test_times_that_make_no_sense_end():
    """Missing, going back, or so far apart that frames would be repeated without end."""
    assert not timeline((1, 1), [0.0, None, 2.0], None).timed
    assert timeline((1, 1), [5.0, 5.1, 4.0, 4.1], 0.1).starts == pytest.approx((0, 0.1, 0.2, 0.3))
    assert list(timeline((1, 1), [0.0, 0.0, 0.0], None).taken(10)) == [0, 1, 2]
    with pytest.raises(VideoFileError, match="more than 1,000,000 frames"):
        Timeline((1, 1), (0.0, 1e12), 1e12, True).taken(10)


def test_a_stream_shows_and_continues_what_a_player_shows(fifo, tmp_path):
    """And a saved run goes on in the same way."""
    rate = fifo.model.defaults["fps"]
    video(tmp_path / "fast.mkv", 36, tick=Fraction(1, 3 * rate))
    path = tmp_path / "fast.mkv"
    call = {"seed": 0, "start": path, "include_start": True, "start_fit": "pad", **SMALL}
    wanted = [fit(frame, (16, 16), "pad") for frame in islice(iter_frames(path), 0, None, 3)]
    whole = frames(fifo.stream("a cat", num_frames=16, **call))
    assert np.array_equal(whole[:12], wanted)
    plain = {"seed": 0, "start": wanted, "include_start": True, **SMALL}
    assert np.array_equal(whole, frames(fifo.stream("a cat", num_frames=16, **plain)))
    stream = fifo.stream("a cat", **call)
    first = list(islice(stream, 7))
    stream.state().save(tmp_path / "run")
    rest = fifo.stream(start=RunState.load(tmp_path / "run"), num_frames=16)
    assert np.array_equal(np.stack(first + list(rest)), whole)
    every = fifo.stream("a cat", num_frames=36, start_every_frame=True, **call)
    assert np.array_equal(frames(every), [fit(frame, (16, 16), "pad") for frame in iter_frames(path)])


def test_given_frames_that_run_out_are_an_error_each_time(fifo, tmp_path):
    for k in range(8):
        Image.fromarray(pattern(number=k)).save(tmp_path / f"{k}.png")
    stream = fifo.stream("a cat", seed=0, start=tmp_path, include_start=True, num_frames=12, **SMALL)
    for k in range(4, 8):
        (tmp_path / f"{k}.png").unlink()
    shown = []
    for _ in range(2):
        with pytest.raises(VideoFileError, match="ends after 4 frames, and had 8"):
            shown += stream
    assert stream.frame_index == 4


@pytest.mark.parametrize(
    ("shape", "asked", "size"),
    [
        ((1920, 1080), {}, (832, 480)),
        ((1080, 1920), {}, (480, 832)),
        ((1000, 1000), {}, (624, 624)),
        ((3000, 4000), {}, (544, 736)),
        ((100, 4000), {}, (400, 976)),
        ((1920, 1080), {"height": 480, "width": 832}, (480, 832)),
        ((1920, 1080), {"width": 320}, (576, 320)),
        ((1000, 1000), {"height": 320}, (320, 320)),
    ],
)
def test_the_video_takes_the_shape_of_the_picture(shape, asked, size):
    wan = {"defaults": {"height": 480, "width": 832, "fps": 16}, "latent_shape": lambda h, w: latent_size(h, w, 16, 8)}
    given = Given([], 1, shape)
    assert size_for(SimpleNamespace(**wan, other_shapes=True), given, **asked) == size
    usual = (asked.get("height", 480), asked.get("width", 832))
    assert size_for(SimpleNamespace(**wan, other_shapes=False), given, **asked) == usual


def test_families_say_which_shapes_they_make(fifo):
    from fifo_diffusion.models.animatediff.model import AnimateDiffModel
    from fifo_diffusion.models.wan.model import SkyReelsForcingModel, WanModel

    assert all(model.other_shapes for model in (AnimateDiffModel, WanModel, SkyReelsForcingModel))
    assert not fifo.model.other_shapes


def test_cropping_is_said_and_padding_keeps_all(fifo, caplog):
    tall = np.full((64, 32, 3), 200, np.uint8)
    tall[:16] = tall[-16:] = 90
    first = next(fifo.stream("a cat", seed=0, start=[tall] * 4, include_start=True, **SMALL))
    assert first.min() > 150
    assert "cropped around the centre" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        padded = next(fifo.stream("a cat", seed=0, start=[tall] * 4, include_start=True, start_fit="pad", **SMALL))
    assert padded[:, :3].max() == padded[:, -3:].max() == 0
    assert abs(int(padded[1, 8, 0]) - 90) < 30
    assert not caplog.text
    with pytest.raises(ValueError, match="give 'crop' or 'pad'"):
        fifo.stream("a cat", start=tall, start_fit="stretch", **SMALL)
