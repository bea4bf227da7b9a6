"""What a run's folder says and takes, without a model."""

import json
import os
import subprocess
import sys

import pytest

from fifo_diffusion.errors import ArgumentError, UsageError, UserError
from fifo_diffusion.jobs.runs.lines import append, read, with_ends
from fifo_diffusion.jobs.runs.requests import checked, schema
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import Status

HOLD = """
import sys
from pathlib import Path
from fifo_diffusion.jobs.runs.folder import RunFolder
lock = RunFolder(Path(sys.argv[1])).lock()
print(lock.take(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def held():
    processes = []

    def hold(run):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(run.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_no_part_of_it_that_a_server_uses_imports_pytorch(tmp_path):
    code = (
        "import sys; from fifo_diffusion.jobs.runs.run import Runs; r = Runs(sys.argv[1]);"
        "a = r.create({'prompt': 'x'});"
        "a.command('stop'); a.status, a.events(), r.list(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


# ---------------------------------------------------------------------- making and finding


def test_a_run_is_there_once_its_request_is(runs):
    run = runs.create({"prompt": "a red ball", "num_frames": 20, "seed": 3, "guidance_scale": 2})
    assert run.request == {
        "prompt": "a red ball",
        "num_frames": 20,
        "seed": 3,
        "guidance_scale": 2,
        "model": "toybox",
    }
    assert (run.status.state, run.status.num_frames, run.status.seed) == ("queued", 20, 3)
    assert [event["event"] for event in run.events()[0]] == ["queued"]
    assert runs.get(run.id) == run == Runs(runs.root).list()[0]
    (run.folder / "run.json").rename(run.folder / "gone")
    assert runs.get(run.id) is None
    assert runs.list() == []
    with pytest.raises(UserError, match=f"there is no run {run.id}"):
        run.command("stop")


def test_runs_are_listed_newest_first_and_found_by_what_people_type(runs):
    made = [runs.create({"prompt": f"ball {k}"}) for k in range(3)]
    assert runs.list() == made[::-1]
    assert runs.find("last") == made[2]
    assert runs.find(made[0].id) == runs.find(made[0].id[4:12]) == runs.find(str(made[0].folder)) == made[0]
    with pytest.raises(UserError, match=r"may be any of run_"):
        runs.find("run_")
    with pytest.raises(UserError, match=rf"there is no run nothing .*newest is {made[2].id}"):
        runs.find("nothing")
    for name in ("../runs", f"{made[0].id}/../{made[1].id}", "", ".", f"{made[0].id}\n"):
        assert runs.get(name) is None
    (made[1].folder / "run.json").write_text("{")
    assert runs.list() == [made[2], made[0]] or Runs(runs.root).list() == [made[2], made[0]]


def test_without_a_seed_one_is_drawn_and_without_a_length_it_is_the_commands(runs):
    one, other = (runs.create({"prompt": "a ball"}).request for _ in range(2))
    assert one["seed"] != other["seed"]
    assert one["num_frames"] == 160
    forever = runs.create({"prompt": "a ball", "forever": True})
    assert "num_frames" not in forever.request
    assert forever.status.num_frames is None


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({}, "prompt is missing"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "x", "schedule": {"0": "y"}}, "prompt and schedule exclude each other"),
        ({"prompt": "x", "num_frames": 0}, r"num_frames=0: give a whole number of at least 1"),
        ({"prompt": "x", "num_frames": 4, "forever": True}, "num_frames and forever exclude each other"),
        ({"prompt": "x", "width": "wide"}, r"width='wide': give a whole number"),
        ({"prompt": "x", "output": "a.mp4"}, "output: a run keeps its own files"),
        ({"prompt": "x", "wobble": 1}, "wobble: a run has no such setting"),
        ({"prompt": "x", "start": "/etc/passwd"}, r"start='/etc/passwd': give clip or noise"),
        ({"prompt": "x", "include_start": True}, "include_start goes with a file as start"),
        ({"schedule": {"8": "x"}}, "the schedule has no prompt for frame 0"),
        ({"schedule": {"0": "x", "soon": "y"}}, "is not of the form"),
        ({"schedule": "0: x"}, "give {frame: prompt}"),
        ({"prompt": 3}, "prompt=3: give a text"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_leaves_nothing(runs, request_, told):
    with pytest.raises((ArgumentError, UsageError), match=told):
        runs.create(request_)
    assert not runs.root.exists()


def test_schedules_and_what_the_schema_says_of_them():
    found = checked({"schedule": {0: "a ball", "1:30": "a cube", "0200": "a ring"}, "seed": 1})
    assert found["schedule"] == {"0": "a ball", "90s": "a cube", "200": "a ring"}
    assert checked(found) == found
    properties = schema()["properties"]
    assert properties["schedule"]["type"] == "object"
    assert {"prompt", "seed", "window", "model"} <= properties.keys()
    assert not {"output", "state", "overwrite", "dry_run"} & properties.keys()


def test_a_file_to_start_from_is_copied(runs, tmp_path):
    picture = tmp_path / "My picture.PNG"
    picture.write_bytes(b"png")
    run = runs.create({"prompt": "x"}, start_file=picture)
    assert run.request["start"] == "start/start.png"
    picture.unlink()
    assert (run.folder / "start/start.png").read_bytes() == b"png"
    again = run.remix("y", num_frames=3)
    assert (again.folder / again.request["start"]).read_bytes() == b"png"
    assert (again.request["prompt"], again.request["num_frames"]) == ("y", 3)
    assert again.request["seed"] == run.request["seed"]
    assert again.parent == {"id": run.id, "frame": 0}
    with pytest.raises(ArgumentError, match="no such file"):
        runs.create({"prompt": "x"}, start_file=picture)


# ---------------------------------------------------------------------- status, commands, the lock


def test_who_holds_the_lock_makes_it_until_the_process_ends(runs, held):
    run = runs.create({"prompt": "x"})
    assert not run.is_owned()
    maker = held(run)
    run.write_status(Status("in_progress", frames=7, num_frames=160, pid=maker.pid))
    assert run.is_owned()
    assert (run.status.state, run.status.pid, run.status.progress) == ("in_progress", maker.pid, 4)
    with run.lock() as lock:
        assert not lock.take()
    with pytest.raises(UserError, match="is being made: stop it first"):
        run.delete()
    maker.kill()
    maker.wait()
    assert (run.status.state, run.status.frames, run.status.pid) == ("queued", 7, None)
    run.delete()
    assert runs.list() == []
    assert os.listdir(runs.root) == []


def test_commands_that_nobody_has_read_show_in_the_status(runs):
    run = runs.create({"prompt": "x", "num_frames": 20})
    run.command("pause")
    assert (run.status.state, run.status.paused) == ("queued", True)
    run.command("resume")
    assert not run.status.paused
    run.command("stop")
    assert (run.status.state, run.status.stopped) == ("completed", True)
    run.command("resume")
    assert (run.status.state, run.status.stopped) == ("queued", False)
    run.write_status(Status("completed", frames=20, num_frames=20, control=run.commands()[1]))
    run.command("stop")  # of what is over
    assert (run.status.state, run.status.stopped) == ("completed", False)
    run.extend(5)
    assert (run.status.state, run.status.num_frames, run.status.frames) == ("queued", 25, 20)
    run.write_status(Status("failed", error={"code": "x", "message": "y"}, control=run.commands()[1]))
    run.command("resume")
    assert (run.status.state, run.status.error) == ("queued", None)


def test_a_command_is_read_once_and_what_is_no_command_never(runs):
    run = runs.create({"prompt": "x"})
    run.command("prompt", text="y", change=None)
    found, end = run.commands()
    assert [{k: v for k, v in each.items() if k != "at"} for each in found] == [{"do": "prompt", "text": "y"}]
    with open(run.folder / "control.jsonl", "a") as file:
        file.write('{"do": "prompt"}\n{"do": "dance"}\nnonsense\n[1]\n{"do": "pin", "frame": "3"}\n{"do": "sto')
    assert run.commands(end)[0] == []
    run.command("stop")
    assert [each["do"] for each in run.commands(end)[0]] == ["stop"]
    for kind, fields in (("dance", {}), ("prompt", {}), ("pin", {"frame": "3"}), ("stop", {"frame": 3})):
        with pytest.raises(ValueError, match=kind):
            run.command(kind, **fields)


def test_a_status_that_a_power_cut_has_damaged_is_told_by_the_events(runs):
    run = runs.create({"prompt": "x", "num_frames": 20})
    run.append_event("started", frame=0)
    run.append_event("stopped", frame=9, why="a test", control=7)
    for damage in ("", "{", "[]", '{"state": "done"}'):
        (run.folder / "status.json").write_text(damage)
        status = run.status
        assert (status.state, status.stopped, status.frames, status.control) == ("completed", True, 9, 7)
    run.append_event("started", frame=9)
    assert Run(run.folder).status.state == "queued"


def test_a_watched_run_knows_it_for_some_seconds(runs):
    run = runs.create({"prompt": "x"})
    assert not run.is_watched
    assert run.tick() == 0
    run.watch()
    assert run.is_watched
    os.utime(run.live_folder / "watched", (0, 0))
    assert not run.is_watched
    (run.live_folder / "tick").write_text(json.dumps({"frames": 3, "at": 0}))
    assert run.tick() == 3


def test_lines_are_whole_or_not_there(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read(path) == ([], 0)
    append(path, {"a": 1})
    end = append(path, {"b": "ü"})
    assert read(path) == ([{"a": 1}, {"b": "ü"}], end)
    with open(path, "ab") as file:
        file.write(b'{"c":')  # killed while it wrote
    assert read(path, end) == ([], end)
    append(path, {"d": 2})
    assert read(path, end)[0] == [{"d": 2}]
    every = with_ends(path)
    assert [record for record, _ in every] == read(path)[0]
    assert [with_ends(path, end) for _, end in every] == [every[k:] for k in range(1, len(every) + 1)]


def test_the_queue_is_by_age_until_a_run_is_moved(runs):
    one, two, three = (runs.create({"prompt": text}) for text in ("a", "b", "c"))
    paused = runs.create({"prompt": "d"})
    paused.command("pause")
    assert runs.queue() == [one, two, three]
    runs.move(three, two)
    assert runs.queue() == [one, three, two]
    runs.move(one, None)
    assert Runs(runs.root).queue() == [three, two, one]
    runs.move(one, three)
    assert runs.queue() == [one, three, two]
    three.command("stop")
    assert runs.queue() == [one, two]
