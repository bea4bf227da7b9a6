"""What could cost a run its frames, its prompts or its place: states of other versions, commands that cross, deaths."""

import errno
import json
import os
from contextlib import suppress

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from fifo_diffusion import RunState
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs import keeping, lines, making
from fifo_diffusion.jobs.runs.timeline import prompts_of
from fifo_diffusion.video import write_video
from run_helpers import kinds

BLUE, GREEN = "a blue cube", "a green ring"


def firsts(run):
    return [first for first, _ in run.parts()]


def said(run):
    return [(e["event"], e["frame"], e["text"]) for e in run.events()[0] if e["event"] in ("planned", "prompt")]


# ---------------------------------------------------------------------- states that cannot be read


def _of_a_later_program(path):
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    meta = json.loads(metadata["meta"])
    meta["settings"]["a_later_setting"] = 1
    save_file(tensors, path, metadata=metadata | {"meta": json.dumps(meta)})


def test_states_of_a_later_version_fail_the_run_and_nothing_of_it_goes(bench):
    run = bench.create()
    bench.make(run)
    had = run.snapshots(), firsts(run)
    whole = {frame: run.state_path(frame).read_bytes() for frame in had[0]}
    for frame in had[0]:
        _of_a_later_program(run.state_path(frame))
    run.extend(5)
    status = bench.make(run)
    assert status.state == "failed"
    assert "a_later_setting" in status.error["message"]
    assert (run.snapshots(), firsts(run)) == had
    for frame, data in whole.items():  # the later version again
        run.state_path(frame).write_bytes(data)
    run.command("resume")
    assert bench.make(run).frames == 25


def test_a_state_that_cannot_be_read_for_now_is_kept(bench, monkeypatch):
    run = bench.create()
    bench.make(run)
    had = run.snapshots(), firsts(run)
    run.extend(5)
    with monkeypatch.context() as patched:
        patched.setattr(RunState, "load", _too_many_files)
        status = bench.make(run)
    assert (status.state, (run.snapshots(), firsts(run))) == ("failed", had)
    run.command("resume")
    assert bench.make(run).frames == 25


def _too_many_files(path):
    raise OSError(errno.EMFILE, "Too many open files", str(path))


def test_where_every_state_is_torn_the_frames_stay(bench, tmp_path):
    run = bench.create()
    bench.make(run)
    for frame in run.snapshots():
        run.state_path(frame).write_bytes(run.state_path(frame).read_bytes()[:100])
    run.extend(5)
    status = bench.make(run)
    assert status.state == "failed"
    assert "no state of" in status.error["message"]
    assert run.join(tmp_path / "whole.mp4") == 20


# ---------------------------------------------------------------------- failing before the first frame


def test_a_resumed_run_that_fails_again_is_failed_and_does_not_hold_up_others(bench):
    run, other = bench.create(width=17), bench.create()
    assert bench.make(run).state == "failed"
    run.command("resume")
    assert bench.runs.queue() == [run, other]
    assert bench.make(run).state == "failed"
    assert bench.runs.queue() == [other]
    assert kinds(run).count("failed") == 2


def test_an_extended_run_whose_model_fails_to_load_keeps_its_new_length(bench):
    run = bench.create()
    bench.make(run)
    run.extend(5)

    def gone(plan):
        raise RuntimeError("CUDA out of memory")

    with run.lock() as lock:
        lock.take()
        making.make(run, gone)
    assert (run.status.state, run.status.num_frames, bench.runs.queue()) == ("failed", 25, [])
    run.command("resume")
    status = bench.make(run)
    assert (status.state, status.frames) == ("completed", 25)


def test_a_run_that_ends_its_makers_while_the_model_loads_is_given_up(bench):
    run = bench.create()
    tries = 0
    while bench.runs.queue():
        child = os.fork()
        if not child:
            with suppress(BaseException), run.lock() as lock:
                lock.take()
                making.make(run, lambda plan: os._exit(9))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (1, 9)
        tries += 1
        assert tries < 6
    status = bench.make(run)
    assert (status.state, status.error["code"]) == ("failed", "died")
    run.command("resume")
    assert bench.make(run).state == "completed"


# ---------------------------------------------------------------------- commands that cross


@pytest.mark.parametrize("commands", [["pause", "resume"], ["stop", "resume"], ["pause", "stop", "resume"]])
@pytest.mark.parametrize("at", [None, 5])
def test_what_was_taken_back_before_it_was_read_never_happens(bench, commands, at):
    run = bench.create()

    def command():
        for each in commands:
            run.command(each)

    if at is None:
        command()
    status = bench.make(run, {} if at is None else {at: command})
    assert (status.state, status.stopped, status.paused, status.frames) == ("completed", False, False, 20)


def test_a_longer_length_takes_a_stop_back_and_a_stop_counts_more_than_a_pause(bench):
    run = bench.create()
    run.command("stop")
    run.command("extend", num_frames=25)
    status = bench.make(run)
    assert (status.state, status.stopped, status.frames) == ("completed", False, 25)

    other = bench.create()
    status = bench.make(other, {5: lambda: (other.command("pause"), other.command("stop"))})
    assert (status.state, status.stopped, status.paused, status.frames) == ("completed", True, False, 5)


def test_a_prompt_that_came_before_a_pause_is_not_forgotten(bench):
    run = bench.create()
    run.command("prompt", text=BLUE)
    run.command("pause")
    assert bench.make(run).paused
    run.command("resume")
    bench.make(run)
    assert said(run) == [("prompt", 0, BLUE)]


# ---------------------------------------------------------------------- prompts, after a resume and in forks


def test_a_prompt_that_was_given_back_is_in_force_after_a_crash_too(bench):
    run = bench.create(num_frames=24)

    def there_and_back():
        for text in (BLUE, GREEN, BLUE):
            run.command("prompt", text=text)

    bench.make(run, {10: there_and_back, 11: lambda: run.command("pause")})
    twin = bench.twin(run)
    run.command("resume")
    bench.make(run)
    expected = {k: bench.frames[run.id][k] for k in range(12, 24)}
    twin.state_path(11).unlink()  # so that it goes on from the state before the prompts
    twin.command("resume")
    bench.make(twin)
    assert all((bench.frames[twin.id][k] == frame).all() for k, frame in expected.items())


def test_a_fork_has_the_prompts_that_were_planned_by_then(bench):
    run = bench.create(num_frames=40)
    later = {5: lambda: run.command("prompt", text=BLUE, frame=30), 20: lambda: run.command("prompt", text=GREEN)}
    bench.make(run, later)
    assert said(run) == [("planned", 30, BLUE), ("prompt", 20, GREEN), ("prompt", 30, BLUE)]
    fork = run.fork(10)
    assert said(fork) == [("planned", 30, BLUE)]
    alike = bench.create(num_frames=40)
    bench.make(alike, {5: lambda: alike.command("prompt", text=BLUE, frame=30)})
    bench.make(fork)
    assert bench.same(fork, alike, range(10, 40))

    assert said(run.fork(3)) == []  # nobody had planned anything then
    under_green = run.fork(10, GREEN)
    assert said(under_green) == said(under_green.fork()) == [("planned", 10, GREEN)]


def test_times_of_a_run_that_has_not_begun_are_counted_at_its_own_rate(bench):
    run = bench.create({"0": "a", "10s": "b", "10.4s": "c"}, model="toybox")
    assert list(prompts_of(run)) == [0, 100, 104]
    run = bench.create({"0": "a", "10s": "b"}, fps=25)
    assert list(prompts_of(run)) == [0, 250]


def test_a_fork_of_given_frames_needs_nothing_of_its_parent(bench, tmp_path):
    write_video(tmp_path / "in.mp4", [np.full((16, 16, 3), k * 5, np.uint8) for k in range(40)], fps=8)
    asked = bench.small | {"prompt": "x", "num_frames": 50, "include_start": True}
    run = bench.runs.create(asked, start_file=str(tmp_path / "in.mp4"))
    bench.make(run, {20: lambda: run.command("pause")})
    fork = run.fork(16)
    run.command("resume")
    bench.make(run)
    expected = {k: bench.frames[run.id][k] for k in range(16, 50)}
    run.delete()
    status = bench.make(fork)
    assert (status.state, status.error) == ("completed", None)
    assert all((bench.frames[fork.id][k] == frame).all() for k, frame in expected.items())


# ---------------------------------------------------------------------- files that may not be read


def _forbid(monkeypatch, forbidden):
    """A file that may not be opened, as another user's."""
    real = open

    def strict(path, *arguments, **options):
        if str(path) == str(forbidden):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(lines, "open", strict, raising=False)


def test_a_run_that_may_not_be_read_stands_in_nobodys_way(bench, monkeypatch):
    run, other = bench.create(), bench.create()
    run.command("pause")
    _forbid(monkeypatch, run.folder / "control.jsonl")
    assert bench.runs.queue() == [other]
    with pytest.raises(UserError, match=r"cannot read .*control\.jsonl: Permission denied"):
        _ = bench.runs.get(run.id).status


def test_a_run_whose_log_may_not_be_read_is_failed_and_not_taken_again(bench, monkeypatch):
    run, other = bench.create(), bench.create()
    _forbid(monkeypatch, run.folder / "events.jsonl")
    status = bench.make(run)
    assert status.state == "failed"
    assert "events.jsonl: Permission denied" in status.error["message"]
    assert bench.runs.queue() == [other]


def test_the_room_of_a_run_is_checked_when_it_is_given(bench):
    run = bench.create()
    with pytest.raises(ValueError, match="keep='lots': give a size such as 20GB"):
        run.command("resume", keep="lots")
    run.command("resume", keep="1GB")
    assert bench.make(run).state == "completed"


def _killed_at_a_border(bench, run, frame, commands):
    """Made in a process that ends without a word where the part is closed before the first command is carried out."""
    real = keeping.RunKeeping._border

    def border(self, stream, writer):
        real(self, stream, writer)
        if stream.frame_index == frame:
            os._exit(9)

    child = os.fork()
    if not child:
        with suppress(BaseException):
            keeping.RunKeeping._border = border
            bench.make(run, {frame: commands})
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_commands_that_cross_a_crash_are_carried_out_by_the_next_maker(bench):
    run = bench.create()

    def commands():
        run.command("prompt", text=BLUE)
        run.command("extend", num_frames=30)
        run.command("prompt", text=GREEN, frame=15)

    _killed_at_a_border(bench, run, 5, commands)
    status = bench.make(run)
    assert (status.state, status.frames) == ("completed", 30)
    assert said(run) == [("prompt", 5, BLUE), ("planned", 15, GREEN), ("prompt", 15, GREEN)]


def test_a_pause_that_came_after_the_end_does_not_pause_what_is_made_longer(bench):
    run = bench.create()
    bench.make(run)
    run.command("pause")
    run.command("extend", num_frames=25)
    assert not run.status.paused
    status = bench.make(run)
    assert (status.state, status.paused, status.frames) == ("completed", False, 25)


def test_a_schedule_takes_the_place_of_planned_prompts_also_after_a_crash(bench):
    run = bench.create(num_frames=24)

    def plan():
        run.command("prompt", text=BLUE, frame=16)

    def replace():
        run.command("schedule", keys={20: GREEN})

    bench.make(run, {3: plan, 6: replace, 10: lambda: run.command("pause")})
    twin = bench.twin(run)
    run.command("resume")
    bench.make(run)
    assert said(run) == [("planned", 16, BLUE)]
    assert set(prompts_of(run).values()) == {"a red ball", GREEN}
    for frame in (8, 10):
        twin.state_path(frame).unlink(missing_ok=True)
    twin.command("resume")
    bench.make(twin)
    assert said(twin) == [("planned", 16, BLUE)]
    assert prompts_of(twin) == prompts_of(run)


def test_a_first_state_that_is_torn_costs_nothing(bench):
    run = bench.create()
    run.state_path(0).parent.mkdir(exist_ok=True)
    run.state_path(0).write_bytes(b"torn")
    assert bench.make(run).frames == 20


def test_a_damaged_status_does_not_forget_the_rate(bench):
    run = bench.create({"0": "a", "1s": "b"}, fps=None)
    bench.make(run)
    assert list(prompts_of(run)) == [0, 8]
    (run.folder / "status.json").write_text("")
    run.append_event("started", frame=20, fps=24.0)
    assert run.status.fps == 24
    assert list(prompts_of(run)) == [0, 24]


def test_what_cannot_be_gone_on_with_is_an_error_for_who_waits(bench):
    run = bench.create()
    bench.make(run)
    for frame in run.snapshots():
        run.state_path(frame).write_bytes(b"torn")
    run.extend(5)
    with pytest.raises(UserError, match="no state of"):
        bench.make(run, raises=True)
