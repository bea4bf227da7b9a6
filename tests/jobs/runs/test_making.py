"""Runs as they are made: parts and states, crashes, stops, full disks."""

import errno
import os
import random
from contextlib import suppress

import pytest

from fifo_diffusion import RunState
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs import keeping
from fifo_diffusion.jobs.stop import Stop, Stopped
from fifo_diffusion.video import count_frames, read_frames, read_metadata
from fifo_diffusion.video.output_file import OutputFile
from run_helpers import kinds, parts


def test_parts_end_where_states_are_taken_and_all_frames_are_there(bench, tmp_path):
    run = bench.create()
    status = bench.make(run)
    assert (status.state, status.frames, status.num_frames, status.pid) == ("completed", 20, 20, None)
    assert (status.width, status.height, status.fps, status.slots, status.progress) == (16, 16, 8.0, 4, 100)
    assert [first for first, _ in run.parts()] == [0, 8, 16]
    assert [count_frames(path) for _, path in run.parts()] == [8, 8, 4]
    assert run.snapshots() == [0, 8, 16, 20]
    assert all(RunState.load(run.state_path(k)).frame_index == k for k in run.snapshots())
    assert kinds(run) == ["queued", "started", "completed"]
    expected = list(bench.loaded.stream("a red ball", num_frames=20, **_stream_settings(bench)))
    assert all((bench.frames[run.id][k] == frame).all() for k, frame in enumerate(expected))

    assert run.join(tmp_path / "whole.mp4") == count_frames(tmp_path / "whole.mp4") == 20
    told = read_metadata(tmp_path / "whole.mp4")
    assert (told["run"], told["prompt"], told["seed"]) == (run.id, "a red ball", "3")
    assert bench.runs.of_video(tmp_path / "whole.mp4") == run
    assert (run.frame(13) == read_frames(run.part_path(8))[5]).all()
    assert run.thumbnail().startswith(b"\xff\xd8")
    for frame in (20, -1):
        with pytest.raises(UserError, match=f"no frame {frame}"):
            run.frame(frame)


def _stream_settings(bench):
    names = ("seed", "window", "num_partitions", "lookahead", "height", "width")
    return {name: bench.small[name] for name in names}


# ---------------------------------------------------------------------- crashes


def _killed(bench, run, frames):
    """Made in a process that ends without a word once there are so many frames, as by kill -9."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            bench.make(run, {frames: lambda: os._exit(9)})
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_killed_at_any_frame_the_parts_are_those_of_an_undisturbed_run(bench):
    run = bench.create(num_frames=30)
    whole = bench.twin(run)
    bench.make(whole)
    rng = random.Random(0)
    kills = sorted(rng.sample(range(1, 30), 5))
    for frames in kills:
        _killed(bench, run, max(frames, (run.snapshots() or [0])[-1] + 1))
        assert (run.status.state, run.is_owned()) == ("queued", False)
    assert bench.make(run).state == "completed"
    assert parts(run) == parts(whole)
    assert kinds(run).count("died") == 5
    assert run.snapshots() == whole.snapshots()


def test_after_a_power_cut_it_goes_on_from_the_newest_whole_state(bench):
    """The last part torn, the newest state damaged, the next one gone, the last event cut off, the status empty."""
    run = bench.create(num_frames=30)
    whole = bench.twin(run)
    bench.make(whole)
    _killed(bench, run, 27)
    path = run.part_path(24)  # on a slow machine it may not be there yet, which is as good as torn
    if path.exists():
        os.truncate(path, path.stat().st_size // 2)
    os.truncate(run.state_path(24), 100)
    run.state_path(16).unlink()
    events = run.folder / "events.jsonl"
    os.truncate(events, events.stat().st_size - 9)
    (run.folder / "status.json").write_bytes(b"")
    assert run.status.state == "queued"
    assert bench.make(run).state == "completed"
    assert parts(run) == parts(whole)
    assert [event["frame"] for event in run.events()[0] if event["event"] == "started"] == [0, 8]


def test_a_prompt_that_came_before_a_crash_comes_again_at_the_same_frame(bench):
    run = bench.create(num_frames=30)
    whole = bench.twin(run)
    change = {13: lambda: whole.command("prompt", text="a blue cube", change="queue")}
    bench.make(whole, change | {20: lambda: whole.command("schedule", keys={"26": "a green ring"})})

    def change_and_die():
        run.command("schedule", keys={"26": "a green ring"})

    child = os.fork()
    if not child:
        at = {13: lambda: run.command("prompt", text="a blue cube", change="queue"), 20: change_and_die}
        with suppress(BaseException):
            bench.make(run, at | {23: lambda: os._exit(9)})
        os._exit(1)
    os.waitpid(child, 0)
    for path in (run.state_path(20), run.state_path(16)):  # so that both changes are made once more
        path.unlink()
    run.state_path(13).unlink()
    assert bench.make(run).state == "completed"
    assert parts(run) == parts(whole)
    said = [(e["event"], e["frame"]) for e in run.events()[0] if e["event"] in ("prompt", "schedule")]
    assert said == [("prompt", 13), ("schedule", 20)]


def test_a_run_that_ends_its_maker_three_times_at_one_frame_is_given_up(bench):
    run = bench.create(num_frames=30)
    for _ in range(3):
        _killed(bench, run, 11)
    status = bench.make(run)
    assert (status.state, status.error["code"]) == ("failed", "died")
    assert "3 times at frame 10" in status.error["message"]
    run.command("resume")
    assert bench.make(run).state == "completed"


# ---------------------------------------------------------------------- stops


def test_stopped_by_a_command_and_longer_again(bench):
    run = bench.create(num_frames=30)
    status = bench.make(run, {11: lambda: run.command("stop")})
    assert (status.state, status.stopped, status.frames) == ("completed", True, 11)
    assert run.snapshots() == [0, 8, 11]
    assert kinds(run)[-1] == "stopped"
    assert run.extend(3).status.num_frames == 14
    status = bench.make(run)
    assert (status.state, status.stopped, status.frames, status.num_frames) == ("completed", False, 14, 14)
    run.extend(2)
    bench.make(run, {15: lambda: run.extend(4)})
    assert run.status.frames == 20
    whole = bench.create(num_frames=30)
    bench.make(whole)
    assert bench.same(run, whole, range(20))


def test_paused_it_rests_until_it_is_resumed(bench):
    run = bench.create()
    assert bench.make(run, {5: lambda: run.command("pause")}).paused
    assert bench.runs.queue() == []
    assert (bench.make(run).frames, run.status.state) == (5, "queued")
    run.command("resume")
    assert bench.runs.queue() == [run]
    assert bench.make(run).state == "completed"
    assert kinds(run)[-2:] == ["resumed", "completed"] or kinds(run)[-1] == "completed"


def test_ended_from_outside_it_is_queued_and_goes_on(bench):
    run = bench.create()
    assert (bench.stops(run, 5).state, run.status.frames) == ("queued", 5)
    assert kinds(run)[-1] == "interrupted"
    assert bench.make(run).state == "completed"
    other = bench.create()
    stop = Stop()
    stop.ask("a test")
    assert bench.make(other, stop=stop, pauses=True).paused
    assert other.parts() == []
    whole = bench.create()
    bench.make(whole)
    assert bench.same(run, whole, range(20))


def test_what_is_stopped_before_it_begins_loads_no_model(bench):
    run = bench.create()
    run.command("stop")
    bench.loaded, kept = None, bench.loaded
    assert bench.make(run).stopped
    bench.loaded = kept
    assert kinds(run) == ["queued", "stopped"]
    assert run.written_status().state == "completed"


def test_a_request_that_the_model_refuses_is_failed_in_its_words(bench):
    run = bench.create(width=17)
    status = bench.make(run)
    assert (status.state, status.error["code"]) == ("failed", "invalid_request")
    assert "width" in status.error["message"]
    with pytest.raises(UserError):
        bench.make(bench.create(width=17), raises=True)


def test_a_prompt_that_the_model_refuses_is_a_note(bench, monkeypatch):
    def refuses(text, call):
        if "cat" in text:
            raise ValueError("no cats")

    monkeypatch.setattr(bench.loaded.model, "check_prompt", refuses)
    run = bench.create(num_frames=6)
    assert bench.make(run, {3: lambda: run.command("prompt", text="a cat")}).state == "completed"
    (note,) = [event for event in run.events()[0] if event["event"] == "note"]
    assert note["text"] == "the prompt was not changed: no cats"
    for text in ("", "a \udcff ball"):
        with pytest.raises(UserError):
            run.command("prompt", text=text)
    with pytest.raises(ValueError, match="change='sideways'"):
        run.command("prompt", text="a cat", change="sideways")


def test_interrupted_while_the_model_is_loaded(bench):
    run = bench.create()

    def models(_):
        raise Stopped("a test")

    from fifo_diffusion.jobs.runs.making import make

    assert (make(run, models).state, kinds(run)[-1]) == ("queued", "interrupted")


# ---------------------------------------------------------------------- room


@pytest.mark.parametrize("place", ["state", *(pytest.param(x, marks=pytest.mark.slow) for x in ("part", "events"))])
def test_a_full_disk_ends_it_in_order_and_it_goes_on_after(bench, monkeypatch, place):
    run = bench.create(num_frames=30)
    whole = bench.twin(run)
    bench.make(whole)
    full = []

    def fails(function):
        def tried(*arguments, **keywords):
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*arguments, **keywords)

        return tried

    with monkeypatch.context() as patched:
        if place == "part":
            patched.setattr(OutputFile, "write", fails(OutputFile.write))
        elif place == "state":
            patched.setattr(RunState, "save", fails(RunState.save))
        else:
            from fifo_diffusion.jobs.runs import folder

            patched.setattr(folder, "append", fails(folder.append))
        status = bench.make(run, {11: lambda: full.append(True)})
    assert status.state == "failed" or place == "events"
    if place != "events":
        assert status.error["code"] == "disk_full"
        assert "MB are free in" in status.error["message"]
    run.command("resume")
    assert bench.make(run).state == "completed"
    assert parts(run) == parts(whole)


def test_pictures_for_watchers_are_written_while_somebody_watches(bench, monkeypatch):
    run = bench.create()
    bench.make(run)
    assert not list(run.live_folder.iterdir())
    monkeypatch.setattr("fifo_diffusion.jobs.runs.live.LEAST", 0.0)
    run = bench.create()
    run.watch()
    bench.make(run)
    assert {path.name for path in run.live_folder.iterdir()} == {"watched", "frame.jpg", "queue.jpg", "tick"}
    assert run.tick() == 20


def test_the_status_is_not_written_for_every_frame(bench, monkeypatch):
    run, written = bench.create(), []
    put = keeping.RunKeeping.put
    monkeypatch.setattr(keeping.RunKeeping, "put", lambda *a, **k: (written.append(1), put(*a, **k)))
    monkeypatch.setattr(keeping, "STATUS_SECONDS", 1e9)
    bench.make(run)
    assert len(written) <= 8
