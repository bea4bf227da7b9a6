"""`generate --run`, `runs` and `work` as they are typed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.testing import tiny
from fifo_diffusion.video import count_frames
from run_helpers import kinds, parts

SMALL = ["--seed", "3", "--window", "4", "--num-partitions", "1", "--no-lookahead", "--height", "16", "--width", "16"]
SMALL += ["--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FIFO_DIFFUSION_RUNS", raising=False)


def test_a_run_is_made_changed_forked_extended_and_joined(model, capsys):
    assert main(["generate", "a red ball", "-m", model, *SMALL, "-n", "6", "--state-every", "4", "--run", "runs"]) == 0
    (run,) = Runs("runs").list()
    assert capsys.readouterr().out == f"{run.folder}\n"
    assert main(["runs", "fork", "last", "--at", "5", "--prompt", "a blue cube", "-n", "8"]) == 0
    said = capsys.readouterr()
    fork = Runs("runs").find(said.out.strip())
    assert "no worker looks after runs: start one with fifo-diffusion work runs, or make it here with" in said.err
    assert main(["runs", "extend", run.id, "--seconds", "0.25"]) == 0
    assert main(["work", "runs", "--once", "--device", "cpu"]) == 0
    assert [each.status.frames for each in (run, fork)] == [8, 8]
    capsys.readouterr()
    for typed in (["list"], ["show", fork.id], ["watch", fork.id], ["join", fork.id, "-o", "x.mp4"]):
        assert main(["runs", *typed]) == 0, typed
    told = capsys.readouterr()
    assert f"{run.id}  completed             8 of 8" in told.out
    assert "a blue cube" in told.out
    assert f"fork of              {run.id} at frame 5" in told.out
    assert count_frames("x.mp4") == 8
    assert main(["runs", "show", fork.id, "--schedule"]) == 0
    assert json.loads(capsys.readouterr().out) == {"0": "a red ball", "8": "a blue cube"}
    assert main(["runs", "pin", run.id, "4"]) == 0
    assert run.pins() == [4]
    assert main(["runs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [each["id"] for each in listed] == [each.id for each in Runs("runs").list()]
    assert main(["runs", "show", fork.id, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown in listed
    known = {"status": "completed", "frames": 8, "num_frames": 8, "fps": fork.status.fps, "prompt": "a red ball"}
    assert known.items() <= shown.items()
    assert shown["parent"] == {"id": run.id, "frame": 5} | shown["parent"]
    assert Path(shown["folder"]) == fork.folder
    assert (listed[-1]["id"], listed[-1]["pins"], listed[-1]["snapshots"]) == (run.id, [4], run.snapshots())
    assert shown["bytes"] > 1000
    assert main(["runs", "rm", run.id, fork.id]) == 0
    assert Runs("runs").list() == []


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        ("runs list", 1, 'make one with fifo-diffusion generate "a red ball" --run runs'),
        ("runs show last --schedule --json", 2, "--schedule prints JSON already: leave --json out"),
        ("runs show last", 1, "there is no run last in runs (there is none yet)"),
        ("generate x --run runs -o a.mp4", 2, "-o does not go with --run: a run keeps its own files"),
        ("generate x --run runs --method genl -n 8", 2, "--method genl has no states, and so no runs: leave --run out"),
        ("generate --run runs", 2, "the prompt is missing"),
        ("generate x --run runs --keep 3", 2, "--keep 3: give a size such as 20GB or 500MB"),
        ("generate x --keep 3GB", 2, "--keep goes with --run DIR"),
        ("generate x --run runs --start nothing.png", 2, "--start nothing.png: there is no such file"),
    ],
)
def test_what_does_not_go_says_what_does(capsys, typed, code, told):
    assert main(typed.split()) == code
    assert told in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_a_run_cannot_do_says_what_can_be_done(capsys):
    run = Runs("runs").create({"prompt": "x", "num_frames": 5})
    for typed, told in (
        (["extend", run.id], "give either --seconds X or --frames N"),
        (["extend", run.id, "--seconds", "1"], "has not begun, and its frames per second are not known yet"),
        (["prompt", run.id, " "], "the prompt is empty"),
        (["fork", run.id, "--at", "3"], "has 0 frames: give a frame from 0 to 0, not 3"),
        (["pin", run.id, "3"], "has no state at frame 3 (there are none)"),
        (["join", run.id, "-o", "x.gif"], "give a name that ends in .mp4"),
        (["join", run.id], "has no frame yet"),
    ):
        assert main(["runs", *typed]) in (1, 2)
        assert told in capsys.readouterr().err
    assert main(["runs", "stop", run.id]) == 0
    for typed, told in (
        (["stop", run.id], "is over already (completed)"),
        (["prompt", run.id, "y"], "go on from one of its frames with fifo-diffusion runs fork"),
    ):
        assert main(["runs", *typed]) == 1
        assert told in capsys.readouterr().err
    assert main(["generate", "--run", str(run.folder), "-n", "7"]) == 2
    assert "goes on as it was begun: leave --num-frames out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_killed_five_times_leaves_the_parts_of_an_undisturbed_run(model, tmp_path):
    """And a run in the foreground is stopped by Ctrl-C, and goes on."""
    asked = {"prompt": "a red ball", "model": model, "device": "cpu", "seed": 3, "window": 4, "num_partitions": 1}
    asked |= {"lookahead": False, "height": 16, "width": 16, "state_every": 8, "num_frames": 60}
    run = Runs("runs").create(asked)
    whole = Path("whole")
    subprocess.run(["cp", "-r", "runs", whole], check=True)

    def command(*typed):
        return subprocess.Popen([sys.executable, "-m", "fifo_diffusion", *typed], stderr=subprocess.DEVNULL)

    for at in (3, 14, 22, 37, 55):
        worker = command("work", "runs", "--once", "--device", "cpu")
        while run.died_at() < at and worker.poll() is None:
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert command("work", "runs", "--once", "--device", "cpu").wait() == 0
    assert command("work", "whole", "--once", "--device", "cpu").wait() == 0
    (other,) = Runs(whole).list()
    assert run.status.state == other.status.state == "completed"
    assert parts(run) == parts(other)

    here = command("generate", "a red ball", "-m", model, *SMALL, "-n", "500", "--run", "here")
    while not (found := Runs("here").list()) or found[0].died_at() < 5:
        time.sleep(0.02)
    os.kill(here.pid, signal.SIGINT)
    assert here.wait() == 130
    assert (found[0].status.paused, kinds(found[0])[-1]) == (True, "interrupted")


def test_watching_a_run_that_is_being_made(monkeypatch, capsys):
    run = Runs("runs").create({"prompt": "a red ball", "num_frames": 8})
    here = {"state": "in_progress", "num_frames": 8, "fps": 10.0, "pid": 1, "host": "here"}
    looks = iter([{"frames": 2}, {"frames": 5}, {"frames": 8, "state": "completed"}])

    def go_on(_):
        run.write_status(Status(**here | next(looks)))

    monkeypatch.setattr("fifo_diffusion.cli.runs.time.sleep", go_on)
    with run.lock() as lock:
        assert lock.take()
        go_on(0)
        assert main(["runs", "watch", run.id]) == 0
    assert f"{run.id} has 8 frames" in capsys.readouterr().err


def test_a_worker_that_watches_its_parent_ends_in_order_while_that_lives():
    watch = "import threading, time; from fifo_diffusion.cli.work import _watch_parent as watch; "
    watch += "threading.Thread(target=watch, args=(None,), daemon=True).start(); time.sleep(0.2)"
    with subprocess.Popen([sys.executable, "-c", watch], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.wait(60) == 0, worker.stderr.read().decode()
