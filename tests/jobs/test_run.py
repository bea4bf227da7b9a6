"""The runner itself, without a face: events, stops, failures, and going on."""

import errno
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import rank_workers
from fifo_diffusion import RunState
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.events import (
    Closing,
    Ended,
    Failed,
    FrameDone,
    Note,
    Started,
    StateSaved,
)
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.run import run
from fifo_diffusion.jobs.start_file import Sound
from fifo_diffusion.jobs.stop import Stop, Stopped
from fifo_diffusion.video import VideoFileError, count_frames, read_fps, read_frames, read_metadata

SMALL = {"seed": 3, "window": 4, "num_partitions": 1, "lookahead": False, "height": 16, "width": 16}
FORMATS = ["video/", "video.mp4", "video.gif"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job(fifo, output="video/", num_frames=9, **changes):
    return Job(fifo, output, "a red ball", num_frames=num_frames, arguments=SMALL, **{"background": False} | changes)


def kinds(events):
    """Names of the events, of a run of equal ones the first."""
    names = [type(event).__name__ for event in events]
    return [name for k, name in enumerate(names) if not k or name != names[k - 1]]


class StopAt(Stop):
    """Stops when this number of frames is there; keeps whether the blocks were interruptible."""

    def __init__(self, frames):
        self.frames, self.blocks = frames, []

    def __call__(self, event):
        if isinstance(event, FrameDone) and event.frames == self.frames:
            self.ask("a test")

    @contextmanager
    def at_once(self, yes=True):
        self.blocks.append(yes)
        with super().at_once(yes):
            yield


# ---------------------------------------------------------------------- events


@pytest.mark.parametrize("output", FORMATS)
def test_events_in_order_and_what_they_count(fifo, output):
    events = []
    made = job(fifo, output, state_file=Path("run.state"), state_every=4, remarks=("a remark",))
    result = run(made, on_event=events.append)
    between = ["FrameDone", "StateSaved", "FrameDone", "StateSaved"]
    last = [] if output == "video.mp4" else ["FrameDone"]  # there a frame is safe when the next one is written
    assert kinds(events) == ["Started", "StateSaved", "Opened", *between, *last, "Closing", "StateSaved", "Ended"]
    assert events[0] == Started(output, 9, notes=("a remark",))
    assert events[-1] == Ended(result)
    assert (result.output, result.frames, result.made, result.stopped) == (output, 9, 9, "")
    assert [event for event in events if isinstance(event, Closing)] == [Closing(9)]

    done = [event for event in events if isinstance(event, FrameDone)]
    assert [event.frames for event in done] == list(range(1, 10))
    whole = np.stack(list(fifo.stream("a red ball", num_frames=9, **SMALL)))
    assert np.array_equal(np.stack([event.frame for event in done]), whole)
    if output == "video/":
        assert np.array_equal(read_frames(output), whole)
    assert count_frames(output) == 9
    assert read_metadata(output)["prompt"] == "a red ball"
    if output != "video/":
        assert read_fps(output) == pytest.approx(fifo.model.defaults["fps"], rel=0.05)

    saved = [event.frames for event in events if isinstance(event, StateSaved)]
    assert (saved[0], saved[-1]) == (0, 9)
    assert saved == sorted(saved)
    assert RunState.load("run.state").frame_index == 9


def test_a_state_is_never_ahead_of_its_frames(fifo):
    """At each StateSaved the output holds what the state counts, also while a thread writes behind."""

    def check(event):
        if isinstance(event, StateSaved):
            there = count_frames("video.mp4") if event.frames else 0
            assert there >= event.frames == RunState.load("run.state").frame_index

    run(job(fifo, "video.mp4", 24, state_file=Path("run.state"), state_every=3, background=True), on_event=check)


def test_a_baseline_by_the_same_runner(fifo):
    from fifo_diffusion.baselines.stream import baseline_stream

    arguments = {"seed": 3, "num_inference_steps": 2, "window": 4, "height": 16, "width": 16}
    events = []
    made = Job(fifo, "video/", "a red ball", num_frames=6, method="genl", arguments=arguments)
    assert run(made, on_event=events.append).frames == 6
    assert kinds(events) == ["Started", "Opened", "FrameDone", "Closing", "Ended"]
    expected = list(baseline_stream(fifo.model, "genl", "a red ball", num_frames=6, **arguments))
    assert np.array_equal(read_frames("video"), np.stack(expected))
    with pytest.raises(ValueError, match="method='genl': it has no states"):
        Job(fifo, "video/", "a cat", method="genl", state_file=Path("run.state"))


def test_arguments_that_do_not_fit_are_refused_before_the_output_is_touched(fifo):
    events = []
    with pytest.raises(ValueError, match="eta") as caught:
        run(Job(fifo, "video.mp4", "a cat", num_frames=3, arguments=SMALL | {"eta": 7}), on_event=events.append)
    assert kinds(events) == ["Started", "Failed"]
    assert events[-1] == Failed(caught.value, "video.mp4", 0, refused=True)
    assert not list(Path().iterdir())


# ---------------------------------------------------------------------- stops


@pytest.mark.parametrize("with_state", [False, True])
def test_stopped_before_the_first_frame(fifo, with_state):
    stop, events = Stop(), []
    stop.ask("a test")
    stop.ask("another")
    made = job(fifo, state_file=Path("run.state") if with_state else None)
    result = run(made, on_event=events.append, stop=stop)
    assert (result.frames, result.made, result.stopped) == (0, 0, "a test")
    assert kinds(events) == ["Started", "Ended"]
    assert not list(Path().iterdir())


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize("with_state", [False, True])
def test_stopped_after_some_frames(fifo, output, with_state):
    """The output plays and holds them; a frame in the making may be broken off only where no state keeps it."""
    stop, events = StopAt(5), []
    made = job(fifo, output, state_file=Path("run.state") if with_state else None)
    result = run(made, on_event=lambda event: (events.append(event), stop(event)), stop=stop)
    assert (result.frames, result.made, result.stopped) == (5, 5, "a test")
    assert count_frames(output) == 5
    assert kinds(events)[-1] == "Ended"
    # Before the first frame is there, it may always be broken off.
    assert stop.blocks == [True, True, *[not with_state] * 4]
    if with_state:
        assert RunState.load("run.state").frame_index == 5


def test_stopped_in_the_middle_of_a_frame(fifo):
    """As a signal does it: the block is left by `Stopped`."""

    class Now(Stop):
        blocks = 0

        @contextmanager
        def at_once(self, yes=True):
            self.blocks += 1
            yield
            if self.blocks == 4:  # of the third frame
                raise Stopped("a test")

    events = []
    result = run(job(fifo), on_event=events.append, stop=Now())
    assert (result.frames, result.stopped) == (2, "a test")
    assert kinds(events) == ["Started", "Opened", "FrameDone", "Ended"]
    assert count_frames("video") == 2


def test_a_stop_says_why():
    stop = Stop()
    with stop.at_once():
        pass
    with pytest.raises(ValueError, match="why is empty"):
        stop.ask("")
    stop.ask("the user")
    with stop.at_once(False):
        pass
    with pytest.raises(Stopped, match="stopped by the user"), stop.at_once():
        pytest.fail("entered")
    assert Stop().why == ""  # not shared


# ---------------------------------------------------------------------- going on


@pytest.mark.parametrize("output", ["part/", "part.mp4"])
def test_resumed_is_uninterrupted(fifo, output):
    """The same frames from another run on the state of the first one; for PNGs the same bytes."""
    stop, saved = StopAt(5), Path("run.state")
    run(job(fifo, output, 12, state_file=saved), on_event=stop, stop=stop)
    events = []
    rest = job(fifo, output, 12, state_file=saved, state=RunState.load(saved))
    result = run(rest, on_event=events.append)
    assert (result.frames, result.made) == (12, 7)
    assert events[0] == Started(output, 12, done=5)
    assert [event.frames for event in events if isinstance(event, FrameDone)] == list(range(6, 13))
    whole = output.replace("part", "whole")
    run(job(fifo, whole, 12))
    if output == "part.mp4":
        assert np.abs(read_frames(output).astype(int) - read_frames(whole)).mean() < 4
        return
    names = sorted(path.name for path in Path(whole).glob("*.png"))
    assert names == sorted(path.name for path in Path(output).glob("*.png"))
    assert all(Path(whole, name).read_bytes() == Path(output, name).read_bytes() for name in names)


def test_a_run_that_is_whole_goes_on_with_nothing(fifo):
    saved = Path("run.state")
    run(job(fifo, num_frames=5, state_file=saved))
    again = job(fifo, num_frames=5, state_file=saved, state=RunState.load(saved))
    assert run(again).made == 0
    assert count_frames("video") == 5


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("background", [False, True])
def test_a_failing_writer_keeps_what_plays(fifo, monkeypatch, background):
    from fifo_diffusion.video.png_folder import PngFolderSink

    write, count = PngFolderSink.write, iter(range(1, 100))

    def full(sink, frame):
        if next(count) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(sink, frame)

    monkeypatch.setattr(PngFolderSink, "write", full)
    events = []
    with pytest.raises(VideoFileError, match="disk full while writing video/: its first 4 frames are safe"):
        run(job(fifo, num_frames=30, background=background), on_event=events.append)
    assert isinstance(events[-1], Failed)
    assert (events[-1].frames, events[-1].kept) == (4, "")  # the error itself says it
    assert count_frames("video") == 4


@pytest.mark.parametrize("place", ["frame", "state", "event"])
def test_whatever_fails_keeps_the_frames_so_far(fifo, monkeypatch, place):
    """A model, a state file that cannot be written, a face: the error goes on as it is, and the frames are counted."""
    events = []

    def bad(*_, **__):
        raise RuntimeError("a bad day")

    def told(event):
        events.append(event)
        if isinstance(event, FrameDone) and event.frames == 3:
            if place == "event":
                bad()
            owner, name = (fifo.model, "predict") if place == "frame" else (RunState, "save")
            monkeypatch.setattr(owner, name, bad)

    made = job(fifo, num_frames=30, state_file=Path("run.state"), state_every=4)
    with pytest.raises(RuntimeError, match="a bad day") as caught:
        run(made, on_event=told)
    failed = events[-1]
    assert failed.error is caught.value
    assert not failed.refused
    assert failed.frames == count_frames("video") >= 3
    assert failed.kept == f"the {failed.frames} frames so far are in video/"


def test_a_state_that_cannot_be_written(fifo, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunState, "save", full)
    with pytest.raises(UserError, match=r"cannot write the state file run\.state: No space left on device"):
        run(job(fifo, state_file=Path("run.state")))
    assert not list(Path().iterdir())


def test_sound_that_cannot_be_added_is_a_note(fifo):
    """The video stays, without it."""
    Path("song.mp4").write_bytes(b"no song")
    events = []
    made = job(fifo, "video.mp4", 5, sound=Sound("song.mp4", 0.0, 1.0))
    assert run(made, on_event=events.append).frames == 5
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.text.startswith("the sound of song.mp4 is not in video.mp4: ")
    assert count_frames("video.mp4") == 5


# ---------------------------------------------------------------------- ranks, and a script


def test_one_rank_writes_and_the_others_compute_along(fifo, tmp_path):
    whole = np.stack(list(fifo.stream("a red ball", num_frames=7, **SMALL)))
    first, other = rank_workers.on_ranks(rank_workers.runner, 2, tmp_path / "ranks", SMALL, str(tmp_path / "two/"))
    assert np.array_equal(read_frames("two"), whole)
    assert first == (7, ["Started", "Opened", *["FrameDone"] * 7, "Closing", "Ended"])
    assert other == (7, [*["FrameDone"] * 7, "Ended"])


def test_the_example_runs_and_goes_on(monkeypatch, capsys):
    """examples/run.py as it stands, on a model that is small enough."""
    from fifo_diffusion import FIFO
    from fifo_diffusion.testing import tiny

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    monkeypatch.setattr(FIFO, "from_pretrained", lambda name: FIFO(tiny.pipeline(**tiny.LIGHT)))
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run as example

    example.main("ball/", 3)
    said = capsys.readouterr()
    assert said.out == "\n3 frames in ball/, 3 of them made now\n"
    assert said.err.split("\r")[1:] == ["1 of 3", "2 of 3", "3 of 3"]
    example.main("ball/", 5)
    assert capsys.readouterr().out == "\n5 frames in ball/, 2 of them made now\n"
