"""One run per output and per state."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.video import write_video

HOLD = """
import sys
from fifo_diffusion.jobs.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def holder():
    processes = []

    def hold(name: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["new.mp4", "frames/", "my run.state"])
def test_a_second_process_is_refused_until_the_first_is_gone(holder, name):
    process = holder(name)
    Path("link").symlink_to(name)
    for other in (name, f"./{name}", "link"):
        with pytest.raises(UserError, match=f"pid {process.pid}") as told, locked(other):
            pass
        assert str(told.value).count("\n") == 0
    with locked("another.mp4"):
        pass
    process.kill()
    process.wait()
    with locked(name):  # whatever a killed process leaves
        assert len(list(Path().glob(".*.lock"))) == 1
    assert sorted(map(str, Path().iterdir())) == ["link"]
    with locked(name):  # it was given back
        pass
    with locked("-"), locked("-"):
        pass


def test_a_process_that_comes_as_another_goes_has_a_lock_that_counts(monkeypatch):
    """Between its opening of the file and its taking of the lock the other removes that file."""
    from fifo_diffusion.jobs import locks

    take, times = locks._take, []

    def late(descriptor):
        times.append(descriptor)
        if len(times) == 1:
            Path(".x.mp4.lock").unlink()
        return take(descriptor)

    monkeypatch.setattr(locks, "_take", late)
    with locked("x.mp4"):
        assert len(times) == 2
        assert Path(".x.mp4.lock").read_text() == f"{os.getpid()}\n"


def test_where_no_lock_can_be_made_runs_go_on():
    with locked("missing/x.mp4"):
        pass


@pytest.mark.parametrize("held", ["x.mp4", "run.state"])
def test_generate_waits_for_nobody(holder, held, capsys):
    write_video("x.mp4", [np.zeros((16, 16, 3), np.uint8)])
    process = holder(held)
    before = Path("x.mp4").read_bytes()
    assert main(["generate", "x", "-o", "x.mp4", "--state", "run.state", "--overwrite"]) == 1
    error = capsys.readouterr().err
    assert f"another process (pid {process.pid}) is at work on {held}" in error
    assert error.count("\n") == 1
    assert Path("x.mp4").read_bytes() == before


def test_a_state_has_a_file_of_its_own(capsys):
    Path("day.txt").write_text("0: a red ball\n")
    for other in (["x", "-o", "./s.mp4"], ["--schedule", "day.txt"], ["x", "--start", "day.txt"]):
        state = "s.mp4" if "-o" in other else "day.txt"
        Path(state).touch()
        assert main(["generate", *other, "--state", state]) == 2
        assert "give the state a file of its own" in capsys.readouterr().err
    assert main(["generate", "x", "--state", "s\udcff"]) == 2
    assert "s\\xff': its name is not UTF-8" in capsys.readouterr().err
