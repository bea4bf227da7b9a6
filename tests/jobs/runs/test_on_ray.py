"""Runs as tasks of a local Ray cluster."""

import os
import signal
import threading
import time

import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs import on_ray
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.jobs.runs.worker import Worker
from fifo_diffusion.jobs.stop import Stop
from fifo_diffusion.testing import tiny
from run_helpers import kinds, parts

SMALL = {"device": "cpu", "seed": 3, "window": 4, "num_partitions": 1, "lookahead": False, "height": 16, "width": 16}


@pytest.mark.slow
def test_a_task_that_is_killed_goes_on_and_the_video_is_the_same(tmp_path):
    """Two workers of a local cluster, one of which is killed on the way."""
    ray = pytest.importorskip("ray", reason="pip install ray")
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    asked = SMALL | {"model": str(tmp_path / "model"), "state_every": 8, "num_frames": 300}
    runs, alone = Runs(tmp_path / "runs"), Runs(tmp_path / "alone")
    first, second = (runs.create(asked | {"prompt": prompt}) for prompt in ("a red ball", "a blue cube"))
    expected = alone.create(asked | {"prompt": "a red ball"})
    killed = []

    def kill():
        until = time.monotonic() + 120
        while time.monotonic() < until and not killed:
            if first.died_at() > 20 and first.status.pid:
                os.kill(first.status.pid, signal.SIGKILL)
                killed.append(first.status.frames)
            time.sleep(0.005)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killer = threading.Thread(target=kill)
        killer.start()
        ended = []
        options = {"once": True, "device": "cpu", "on_end": lambda run, _: ended.append(run.id)}
        given = on_ray.work_on_ray(runs, stop=Stop(), **options)
        killer.join()
    finally:
        ray.shutdown()
    assert killed
    assert (given, sorted(ended)) == (2, sorted([first.id, second.id]))
    assert [run.status.state for run in (first, second)] == ["completed"] * 2
    assert "died" in kinds(first)
    Worker(alone, device="cpu").work(once=True)
    assert parts(first) == parts(expected)


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match="pip install ray"):
        on_ray.work_on_ray(Runs(tmp_path), stop=Stop())
    assert main(["work", str(tmp_path), "--executor", "ray"]) == 1
    assert "Ray is not installed: pip install ray" in capsys.readouterr().err
    assert main(["work", str(tmp_path), "--executor", "rays"]) == 2
    assert "--executor: give here or ray, not rays" in capsys.readouterr().err
    assert main(["work", str(tmp_path), "--executor", "ray", "--workers", "2"]) == 2
    assert "the cluster has workers" in capsys.readouterr().err
