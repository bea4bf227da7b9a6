"""Evaluations that are stopped, repeated and done several tasks at a time: what is there is not made again."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from evaluations import FIFO_ROW, SMALL
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs import locks
from fifo_diffusion.jobs.checkpointer import Checkpointer
from fifo_diffusion.study import run as evaluate
from fifo_diffusion.study import worker as evaluate_worker
from fifo_diffusion.study.config import Config
from fifo_diffusion.video import read_frames


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_it_goes_on_where_it_was(evaluated, monkeypatch, number):
    whole = evaluated(folder="whole")[1]["results"]["quality"]
    real, names = evaluate.run_task, []

    def stopping(task, result):
        names.append(result.stem)
        if len(names) == 3:
            os.kill(os.getpid(), number)
            time.sleep(1)  # as a process takes a while to end
            return {"error": "ended", "out_of_memory": False}
        return real(task, result)

    monkeypatch.setattr(evaluate, "run_task", stopping)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
    try:
        code, report, told = evaluated()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, report) == (128 + number, None)
    assert "goes on" in told
    _, report, _ = evaluated()
    assert names == ["videos-base", "videos-fifo", "videos-genl", "videos-genl"]
    assert report["results"]["quality"] == whole
    evaluated()
    assert len(names) == 4  # nothing is left to do


def test_a_stopped_fifo_video_goes_on_at_its_last_state(model, tmp_path, monkeypatch):
    """Not from its first frame; and the frames are those of one that was never stopped."""
    task = {"kind": "videos", "model": model, "device": "cpu", "dtype": None, "row": FIFO_ROW}
    video = {"prompt": "a cat", "num_frames": 12, "seed": 3}

    def made(name):
        videos = [video | {"folder": str(tmp_path / name)}]
        return evaluate_worker.work(task | {"videos": videos, "result": str(tmp_path / f"{name}.json")})

    assert made("whole") == 0
    monkeypatch.setattr(evaluate_worker, "STATE_EVERY", 3)
    after_frame = Checkpointer.after_frame

    def killed(keeper, stream, writer):
        after_frame(keeper, stream, writer)
        if stream.frame_index == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "after_frame", killed)
    with pytest.raises(KeyboardInterrupt):
        made("stopped")
    assert not (tmp_path / "stopped").exists()
    monkeypatch.setattr(Checkpointer, "after_frame", after_frame)
    assert made("stopped") == 0
    assert json.loads((tmp_path / "stopped.json").read_text())["made_now"] == 6
    assert (read_frames(tmp_path / "stopped") == read_frames(tmp_path / "whole")).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "stopped.json", "whole", "whole.json"]


def test_several_tasks_at_a_time(tmp_path, monkeypatch):
    """As many as were asked for; those that are timed alone, after the others; one that fails stops no other."""
    running, most, order, told = set(), {}, [], []

    def task(payload, result):
        kind = payload["kind"]
        running.add(result)
        time.sleep(0.05)
        most[kind] = max(most.get(kind, 0), len(running))
        running.remove(result)
        order.append(kind)
        return {"error": "a bad day", "out_of_memory": False} if len(order) == 1 else {}

    monkeypatch.setattr(evaluate, "run_task", task)
    config = Config.from_json({"model": "toybox", **SMALL, "tables": ["cost", "quality", "ablation"]}, "x")
    results = evaluate.Results(config, tmp_path)
    evaluate._do_all(results, 3, told.append)
    assert most == {"videos": 3, "cost": 1}
    assert order == sorted(order, reverse=True)
    assert len(results.errors) == 1
    assert len(results.found) == len(order) - 1
    assert sum(line.startswith("[") for line in told) == len(order)
    assert sum(line.startswith("  done in") for line in told) == len(order) - 1


def test_interrupted_nothing_goes_on_behind(tmp_path, monkeypatch):
    """Ctrl-C ends the processes of all tasks, and none of them counts as done."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands down an ignored one
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    stock = subprocess.Popen
    monkeypatch.setattr(evaluate_worker.subprocess, "Popen", lambda _command, **how: stock(sleeping, **how))
    config = Config.from_json({"model": "toybox", **SMALL}, "x")
    interrupt = threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    began = time.monotonic()
    (tmp_path / "parts").mkdir()
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate._do_all(evaluate.Results(config, tmp_path), 2, lambda _: None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list((tmp_path / "parts").iterdir())
    assert not evaluate_worker._RUNNING
    assert time.monotonic() < began + 60


def test_a_configuration_makes_a_row_again(evaluated, tmp_path, capsys):
    """The config.json of a report, and one of its rows, in another folder: the same frames and numbers."""
    _, report, _ = evaluated()
    again = tmp_path / "again"
    config = str(evaluated.folder / "config.json")
    main(["evaluate", "--config", config, "--methods", "genl", "-o", str(again)])
    repeated = json.loads((again / "report.json").read_text())
    assert repeated["results"]["quality"]["genl"] == report["results"]["quality"]["genl"]
    assert set(repeated["results"]["quality"]) == {"genl"}
    for k in range(2):
        place = f"videos/genl/{k:03d}"
        assert np.array_equal(read_frames(again / place), read_frames(evaluated.folder / place))


def test_half_written_parts_are_made_again(evaluated):
    """As after a power cut, or a kill by an earlier version: named, and nothing of the report is lost."""
    rows = {"fifo": FIFO_ROW}
    _, whole, _ = evaluated(rows=rows)
    parts = evaluated.folder / "parts"
    for path in parts.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, report, told = evaluated(rows=rows)
    assert f"{parts / 'videos-fifo.json'} is damaged: it is made again" in told
    assert "unexpected" not in told
    assert report["results"]["quality"] == whole["results"]["quality"]
    assert all(json.loads(path.read_text()) for path in parts.glob("*.json"))
    assert code == 1  # too few clips for a distance, as before


def test_a_second_evaluation_in_one_folder_is_refused(evaluated):
    with locks.locked(evaluated.folder):
        code, report, told = evaluated()
    assert (code, report) == (1, None)
    assert "is at work on" in told
    assert not evaluated.folder.exists()


def test_another_evaluation_in_the_folder_is_refused(evaluated):
    evaluated(tables=["cost"], rows={"fifo": FIFO_ROW})
    code, _, told = evaluated(tables=["cost"], rows={"fifo": FIFO_ROW}, seed=7)
    assert code == 2
    assert "with seed 0" in told
