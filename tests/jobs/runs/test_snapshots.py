"""Which states of a run are kept."""

import numpy as np
import pytest

from fifo_diffusion.jobs.events import FrameDone
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.run import run as make
from fifo_diffusion.jobs.runs.folder import RunFolder
from fifo_diffusion.jobs.runs.keeping import RunKeeping
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.jobs.runs.snapshots import NoRoom, keep_within, size_of, to_drop
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.stop import OwnStop, Stop


@pytest.mark.parametrize(("taken", "kept"), [(1, 1), (4, 4), (50, 19), (200, 27), (900, 36), (5000, 45)])
def test_old_states_are_few_and_none_is_missed_later(taken, kept):
    every, there, most = 8, [], 0
    for number in range(taken):
        there.append(number * every)
        gone = to_drop(there, every)
        there = [frame for frame in there if frame not in gone]
        most = max(most, len(there))
    assert (len(there), most) == (kept, kept)
    assert there[0] == 0
    assert there[-4:] == [k * every for k in range(max(0, taken - 4), taken)]


def test_what_must_stay_stays_and_what_came_in_between_goes():
    frames = [0, 3, 8, 16, 19, 24, 32, 40, 48, 56, 64, 72]
    assert to_drop(frames, 8) == [3, 8, 19]
    assert to_drop(frames, 8, stay=[3, 24]) == [8, 19]
    assert to_drop([5], 8) == to_drop([0, 3, 5, 7], 8) == []


def test_a_run_keeps_within_its_size(tmp_path):
    run = Runs(tmp_path).create({"prompt": "x"})
    for frame in range(0, 80, 8):
        run.state_path(frame).write_bytes(b"s" * 1000)
        run.part_path(frame).write_bytes(b"p" * 1000)
    run.command("pin", frame=16)
    rest = size_of(run.folder) - 20_000

    def kept(most, **more):
        keep_within(run, most + rest, {24}, **more)
        return run.snapshots()

    assert len(kept(20_000)) == 10
    assert kept(18_000) == [0, 16, 24, *range(40, 80, 8)]
    assert kept(15_000) == [0, 16, 24, 64, 72]
    assert kept(13_000) == [16, 64, 72]
    with pytest.raises(NoRoom, match="and nothing more can go: resume it with a larger keep"):
        kept(12_000)
    kept(11_000, oldest_frame=30)
    assert run.parts()[0][0] == 16


class _State:
    """In place of a state of a stream, which takes its room."""

    notes = None

    def __init__(self, frame):
        self.frame_index = frame

    def save(self, path):
        path.write_bytes(b"s" * 2000)


class _Stream:
    """Frames that cost nothing."""

    fps, seed, slots, prompt = 8.0, 3, 4, "x"

    class settings:
        width = height = 16

        @staticmethod
        def to_json():
            return {}

    def __init__(self, count):
        self.count, self.frame_index = count, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __next__(self):
        if self.frame_index == self.count:
            raise StopIteration
        self.frame_index += 1
        return np.full((16, 16, 3), self.frame_index % 251, np.uint8)

    @property
    def change_frame(self):
        return self.frame_index + 3

    def state(self):
        return _State(self.frame_index)


class _Fifo:
    ranks = None

    def stream(self, prompt, *, num_frames, **_):
        return _Stream(num_frames)


def _long_run(root, frames, keep):
    run = Runs(root).create({"prompt": "x", "num_frames": frames, "keep": keep})
    facts, stop = {"fps": 8.0, "device": "cpu"}, OwnStop(Stop())
    keeping = RunKeeping(run, Status(num_frames=frames), stop, every=32, facts=facts, notes={}, keep=keep)
    counts = []

    def told(event):
        keeping.saw(event)
        if isinstance(event, FrameDone) and event.frames % 500 == 0:
            counts.append(len(run.snapshots()))

    lock = run.lock()
    assert lock.take()
    with lock:
        make(Job(_Fifo(), str(run.folder), "x", frames, keeping=keeping), on_event=told, stop=stop)
    return RunFolder(run.folder), counts


def test_a_long_run_has_few_states(tmp_path):
    run, counts = _long_run(tmp_path, 1500, "500MB")
    assert max(counts) <= 19
    assert len(run.parts()) == 47
    assert run.snapshots()[-1] == 1500


@pytest.mark.slow
def test_fifty_thousand_frames_have_sixty_states_at_most(tmp_path):
    run, counts = _long_run(tmp_path, 50_000, "500MB")
    assert max(counts) <= 60
    assert size_of(run.folder) <= 500e6
    assert len(run.parts()) == 1563
