"""Tasks in processes of their own: they end with the evaluation, and dying is a result."""

import json
import subprocess
import sys
import time

import pytest

from evaluations import FIFO_ROW
from fifo_diffusion.study import worker as evaluate_worker


def test_the_time_of_several_ranks(model, tmp_path, capfd):
    """They make the video together: each computes its share of the windows."""
    task = {"kind": "cost", "model": model, "device": "cpu", "dtype": None, "prompt": "a cat"}
    task |= {"row": FIFO_ROW | {"ranks": 2}, "num_frames": 6, "seed": 0}
    found = evaluate_worker.run_task(task, tmp_path / "a.json")
    assert found["num_frames"] == 6
    assert found["ranks"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.slow
def test_what_several_ranks_cannot_do_is_said(tmp_path):
    task = {"kind": "cost", "model": str(tmp_path), "device": "cpu", "dtype": None, "prompt": "a cat"}
    task |= {"row": FIFO_ROW | {"ranks": 2}, "num_frames": 6, "seed": 0}
    broken = evaluate_worker.run_task(task, tmp_path / "b.json")
    assert "out_of_memory" in broken
    assert not broken["out_of_memory"]


def test_a_task_in_a_process_of_its_own(model, tmp_path):
    row = {"method": "plain", "num_inference_steps": 1}
    task = {"kind": "cost", "model": model, "device": "cpu", "dtype": None, "row": row, "prompt": "a cat"}
    found = evaluate_worker.run_task(task | {"num_frames": 3, "seed": 0}, tmp_path / "a.json")
    assert found["num_frames"] == 3
    assert found["host_mb_peak"] > found["host_mb_loaded"] > 100


def test_a_worker_ends_with_the_process_that_waits_for_it(model, tmp_path):
    """Killed by a signal that nobody can catch, it leaves nobody behind who goes on computing."""
    row = {"method": "fifo", "num_partitions": 1, "window": 4}
    video = {"folder": str(tmp_path / "video"), "prompt": "a cat", "num_frames": 100_000, "seed": 0}
    task = {"kind": "videos", "model": model, "device": "cpu", "dtype": None, "row": row, "videos": [video]}
    code = (
        "import pathlib, sys; from fifo_diffusion.study import worker as w; "
        f"w.run_task({task!r}, pathlib.Path({str(tmp_path / 'a.json')!r}))"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    partial = tmp_path / "video.partial"

    def frames():
        return len(list(partial.glob("*.png")))

    try:
        deadline = time.monotonic() + 100
        while frames() < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert frames() >= 3
    finally:
        waiting.kill()
        waiting.wait()
    time.sleep(1)
    before = frames()
    time.sleep(1)
    assert frames() == before


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ("killed by the system", True)),
        ("import os; os._exit(7)", ("code 7", False)),
    ],
)
def test_a_process_that_dies_is_a_result(tmp_path, monkeypatch, body, expected):
    real = subprocess.Popen
    monkeypatch.setattr(
        evaluate_worker.subprocess, "Popen", lambda command, **more: real([sys.executable, "-c", body], **more)
    )
    found = evaluate_worker.run_task({}, tmp_path / "a.json")
    assert expected[0] in found["error"]
    assert found["out_of_memory"] is expected[1]


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (ValueError("no such row"), False),
    ],
)
def test_running_out_of_memory_is_recognised(tmp_path, monkeypatch, error, memory):
    def fail(_):
        raise error

    monkeypatch.setattr(evaluate_worker, "_cost", fail)
    result = tmp_path / "a.json"
    assert evaluate_worker.work({"kind": "cost", "result": str(result)}) == 1
    assert json.loads(result.with_suffix(".error").read_text())["out_of_memory"] is memory
