"""New runs from old ones: forks, other prompts from a frame on, the events as a schedule."""

import os
from fractions import Fraction

import pytest

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs import forks
from fifo_diffusion.jobs.runs.timeline import prompts_of
from fifo_diffusion.video.sound import has_sound
from odd_videos import video
from run_helpers import kinds, parts

A, B, C = "a red ball", "a blue cube", "a green ring"


@pytest.fixture
def parent(bench):
    run = bench.create(A)
    bench.make(run)
    return run


@pytest.mark.parametrize("at", [13, *(pytest.param(at, marks=pytest.mark.slow) for at in (8, 20))])
def test_a_fork_has_the_frames_before_it_and_goes_on_as_its_parent_would(bench, parent, at):
    fork = parent.fork(at, num_frames=26)
    assert fork.parent == {"id": parent.id, "frame": at}
    assert [path.stat().st_nlink for _, path in fork.parts()] == [2] * (1 if at < 16 else 3)
    assert (fork.status.state, fork.status.num_frames) == ("queued", 26)
    bench.make(fork)
    whole = bench.create(A, 26)
    bench.make(whole)
    made = sorted(bench.frames[fork.id])
    assert made == list(range(min(at, 8) if at < 16 else 20, 26))
    assert bench.same(fork, whole, made)
    shared = [first for first, _ in fork.parts() if first < made[0]]
    assert {first: parts(fork)[first] for first in shared} == {first: parts(parent)[first] for first in shared}
    parent.delete()
    assert fork.join(fork.folder / "whole.mp4") == 26


@pytest.mark.parametrize("at", [13, pytest.param(8, marks=pytest.mark.slow)])
def test_a_fork_under_another_prompt_is_the_run_whose_prompt_changed_there(bench, parent, at):
    fork = parent.fork(at, B)
    assert fork.parent["prompt"] == B
    bench.make(fork)
    live = bench.create(A)
    bench.make(live, {at: lambda: live.command("prompt", text=B)})
    assert bench.same(fork, live, bench.frames[fork.id])
    changed = [k for k in range(at, 20) if (bench.frames[live.id][k] != bench.frames[parent.id][k]).any()]
    assert changed[0] >= at
    assert prompts_of(fork) == prompts_of(live) == {0: A, at + 3: B}
    again = fork.fork(at + 1, C)
    bench.make(again)
    assert prompts_of(again) == {0: A, at + 3: B, at + 4: C}


def test_a_fork_needs_a_frame_that_is_there_and_more_frames_than_it_has(bench, parent, monkeypatch):
    with pytest.raises(UserError, match="has 20 frames: give a frame from 0 to 20, not 21"):
        parent.fork(21)
    with pytest.raises(ValueError, match=r"num_frames=20: it counts all frames, and 20 are there"):
        parent.fork(20)
    with pytest.raises(UserError, match="has no state at or before frame 0"):
        bench.create(A).fork(0)
    with pytest.raises(ValueError, match="change='sideways'"):
        parent.fork(8, B, change="sideways")
    assert len(bench.runs.list()) == 2
    monkeypatch.setattr(forks.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    copy = parent.fork(16)
    assert parts(copy) == {k: v for k, v in parts(parent).items() if k < 16}


def test_another_schedule_from_a_frame_on_is_the_run_that_had_it_from_the_start(bench, parent):
    new = parent.rerender(14, {14: B, 18: C}, num_frames=24)
    bench.make(new)
    assert [event["frame"] for event in new.events()[0] if event["event"] == "started"] == [0, 8]
    whole = bench.create({"0": A, "14": B, "18": C}, 24)
    bench.make(whole)
    assert bench.same(new, whole, bench.frames[new.id])
    different = [k for k in range(20) if (bench.frames[whole.id][k] != bench.frames[parent.id][k]).any()]
    assert different[0] >= 14 - 4 + 1
    assert prompts_of(new) == {0: A, 14: B, 18: C}
    # Of one whose prompt was changed by hand, what came before stays.
    second = new.rerender(20, {20: A})
    bench.make(second)
    assert prompts_of(second) == {0: A, 14: B, 18: C, 20: A}
    with pytest.raises(UserError, match=r"frame 2 of run_.* cannot be changed: its earliest state shapes frames from"):
        parent.rerender(2, {2: B})
    with pytest.raises(ValueError, match="it has one for frame 3"):
        parent.rerender(8, {3: B})


WAYS = [pytest.param(way, marks=pytest.mark.slow) for way in ("mixed, edited first", "tail", "queue", "blend")]


@pytest.mark.parametrize("changes", ["mixed", *WAYS])
def test_its_events_are_a_schedule_that_makes_it_again(bench, changes):
    """An edit may come while a blend is on its way, which goes on to its end."""
    mixed, late = changes.startswith("mixed"), (19, 17) if changes.endswith("first") else (17, 19)
    ways = ("tail", "queue", "blend") if mixed else (None,) * 3
    run = bench.create(A, 30, **({} if mixed else {"prompt_change": changes}))
    at = {
        5: lambda: run.command("prompt", text=B, change=ways[0]),
        12: lambda: run.command("prompt", text=C, change=ways[1]),
        late[0]: lambda: run.command("prompt", text=B, change=ways[2]),
        late[1]: lambda: run.command("schedule", keys={"26": A}),
    }
    bench.make(run, at)
    said = prompts_of(run)
    schedule = {str(key): text for key, text in said.items()}
    again = bench.create(schedule, 30, prompt_change=run.request.get("prompt_change"))
    bench.make(again)
    assert bench.same(run, again, range(30))
    still = bench.create(A, 30)
    bench.make(still)
    assert not bench.same(run, still, range(30))


def test_a_running_one_is_forked_too(bench):
    run, forked = bench.create(A), []
    bench.make(run, {18: lambda: forked.append(run.fork(10))})
    assert [first for first, _ in forked[0].parts()] == [0]
    assert kinds(forked[0])[:2] == ["queued", "forked"]
    bench.make(forked[0])
    assert parts(forked[0]) == parts(run)
    assert os.stat(run.part_path(0)).st_nlink == 2


def test_the_file_that_it_starts_from_goes_along(bench, tmp_path):
    """And its sound is in what is joined."""
    video(tmp_path / "given.mp4", 6, tick=Fraction(1, 8), sound=True)
    run = bench.runs.create(
        bench.small | {"prompt": A, "num_frames": 12, "include_start": True}, start_file=tmp_path / "given.mp4"
    )
    (tmp_path / "given.mp4").unlink()
    assert bench.make(run).state == "completed", run.status
    assert run.join(tmp_path / "whole.mp4") == 12
    assert has_sound(tmp_path / "whole.mp4")
    fork = run.fork(8)
    bench.make(fork)
    assert parts(fork) == parts(run)
    assert bench.make(run.remix(B)).state == "completed"
