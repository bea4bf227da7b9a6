"""Frames at the rate at which they play."""

import numpy as np
import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.run import open_stream
from fifo_diffusion.streaming.pace import Pace
from fifo_diffusion.testing import frames
from streams import SMALL


class Clock:
    """Time that passes where somebody sleeps or works."""

    now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fifo_diffusion.streaming.pace.time", clock)
    return clock


def handed_out(clock, pace, work):
    """When each frame is, after so much work for each."""
    found = []
    for seconds in work:
        clock.now += seconds
        pace.wait()
        found.append(round(clock.now - 100, 9))
    return found


def test_no_frame_comes_before_it_is_due(clock):
    assert handed_out(clock, Pace(10), [3, 0.01, 0.01, 0.05]) == [3, 3.1, 3.2, 3.3]


def test_bursts_that_are_fast_enough_hold_the_rate(clock):
    found = handed_out(clock, Pace(10, burst=4), [0, 0, 0, 0] + [0.35, 0, 0, 0] * 20)
    assert found[-1] == pytest.approx(8.3)  # 84 frames
    assert np.diff(found).max() == pytest.approx(0.35)


def test_who_is_behind_does_not_catch_up(clock):
    found = handed_out(clock, Pace(10, burst=2), [0, 0, 5, 0, 0, 0])
    assert found == pytest.approx([0, 0.1, 5.1, 5.2, 5.3, 5.4])


def test_a_wait_that_is_broken_off_loses_no_frame_and_no_time(clock, fifo, monkeypatch):
    expected = frames(fifo.stream("a cat", seed=1, num_frames=6, **SMALL))
    stream, found, left = fifo.stream("a cat", seed=1, num_frames=6, pace=4, **SMALL), [], [2]
    sleep = clock.sleep

    def broken(seconds):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(clock, "sleep", broken)
    while len(found) < 6:
        try:
            found.append(next(stream))
        except KeyboardInterrupt:
            assert stream.frame_index == len(found) == 2
            stream.state()  # nobody is at work
    assert np.array_equal(found, expected)
    assert clock.now == pytest.approx(100 + 5 / 4)
    assert left[0] < 0


def test_a_stream_may_be_closed_while_it_waits(clock, fifo, monkeypatch):
    stream = fifo.stream("a cat", pace=True, **SMALL)
    next(stream)
    monkeypatch.setattr(clock, "sleep", lambda _: stream.close())
    assert next(stream, None) is None


def test_the_rate_is_that_at_which_the_video_plays(clock, fifo):
    fps = fifo.model.defaults["fps"]
    for given, rate in ((None, fps), (20.0, 20.0)):
        job = Job(fifo, "x.mp4", "a cat", 4, arguments={"seed": 1} | SMALL, fps=given, pace=True)
        began = clock.now
        assert len(frames(open_stream(job))) == 4
        assert clock.now - began == pytest.approx(3 / rate)
    frames(fifo.stream("a cat", num_frames=4, **SMALL))
    assert clock.now - began == pytest.approx(3 / 20)


def test_paces_that_make_no_sense(fifo, capsys):
    for pace in (0, -1, "fast", 1e9):
        with pytest.raises(ArgumentError, match=r"^pace=.*: give a number above 0, and at most 1000$"):
            fifo.stream("a cat", pace=pace, **SMALL)
    with pytest.raises(ArgumentError, match=r"^pace=True: a whole video is not watched as it comes"):
        fifo("a cat", num_frames=2, pace=True, **SMALL)
    assert main(["generate", "a ball", "--pace", "--method", "genl", "-n", "20"]) == 2
    assert "--pace belongs to FIFO-Diffusion" in capsys.readouterr().err
