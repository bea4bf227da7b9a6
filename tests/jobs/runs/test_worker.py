"""Workers: who takes which run, and when they leave."""

import os
import time

import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.locks import FileLock
from fifo_diffusion.jobs.runs import worker as workers
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.runs.timeline import prompts_of
from fifo_diffusion.jobs.runs.worker import WarmModel, Worker, claim
from fifo_diffusion.jobs.stop import Stop
from fifo_diffusion.testing import tiny
from run_helpers import parts


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


def _stand_in(run, model, **_):
    """Makes a run in no time, and says who it was."""
    run.append_event("started", pid=os.getpid(), frame=0)
    time.sleep(0.002)
    run.write_status(Status("completed", frames=1))
    return run.status


def test_four_workers_make_each_of_sixty_runs_once(runs, monkeypatch):
    monkeypatch.setattr(workers, "make", _stand_in)
    made = [runs.create({"prompt": f"ball {k}"}) for k in range(60)]
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            code = 1
            try:
                Worker(Runs(runs.root)).work(once=True)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    started = [[e["pid"] for e in run.events()[0] if e["event"] == "started"] for run in made]
    assert [len(pids) for pids in started] == [1] * 60
    assert all(run.status.state == "completed" for run in made)
    assert runs.workers() == 0


def test_runs_are_taken_in_the_order_of_the_queue_and_paused_ones_are_not(runs, monkeypatch):
    monkeypatch.setattr(workers, "make", _stand_in)
    one, two, three, four = (runs.create({"prompt": f"ball {k}"}) for k in range(4))
    runs.move(three, before=one)
    two.command("pause")
    four.command("stop")
    taken, seen = [], []
    worker = Worker(runs, on_run=lambda run: (taken.append(run), seen.append(runs.workers())))
    assert worker.work(once=True) == 2
    assert taken == [three, one]
    assert seen == [1, 1]
    with two.lock() as lock:
        two.command("resume")
        assert lock.take()
        assert claim(runs) == (None, None)
    assert claim(runs)[0] == two


def test_a_worker_leaves_when_it_is_idle_or_told_to(runs, monkeypatch):
    monkeypatch.setattr(workers, "make", _stand_in)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.01)
    began = time.monotonic()
    assert Worker(runs, unload_after=0.1).work() == 0
    assert 0.1 <= time.monotonic() - began < 5
    stop = Stop()
    runs.create({"prompt": "x"})
    runs.create({"prompt": "y"})
    assert Worker(runs, stop=stop, on_end=lambda *_: stop.ask("a test")).work() == 1


def test_without_locks_no_worker_takes_anything(runs, monkeypatch):
    runs.create({"prompt": "x"})
    run_lock = FileLock.take

    def none(lock):
        if lock.path.name == "lock":
            raise OSError(37, "No locks available")
        return run_lock(lock)

    monkeypatch.setattr(FileLock, "take", none)
    with pytest.raises(UserError, match=r"No locks available; workers need a file system with locks \(flock\)"):
        Worker(runs).work(once=True)


def test_the_model_stays_loaded_for_the_next_run(bench, monkeypatch):
    class Counted:
        closed = False

        def __init__(self, fifo):
            self.fifo, self.ranks, self.model = fifo, None, fifo.model

        def __getattr__(self, name):
            return getattr(self.fifo, name)

        def close(self):
            Counted.closed = True

    loads = []
    monkeypatch.setattr(workers, "load", lambda plan, ranks: loads.append(plan.model_name) or Counted(bench.loaded))
    for seed in (1, 2):
        bench.create(num_frames=3, seed=seed)
    assert Worker(bench.runs).work(once=True) == 2
    assert len(loads) == 1
    assert Counted.closed
    WarmModel().close()
    assert {run.status.state for run in bench.runs.list()} == {"completed"}


@pytest.mark.slow
def test_on_two_ranks_prompts_and_stops_come_before_the_same_frame(bench, tmp_path):
    """And the frames are those of one process."""
    import rank_workers

    run = bench.create(num_frames=20)
    alone = bench.twin(run)
    found = rank_workers.on_ranks(rank_workers.run_folder, 2, tmp_path / "ranks", str(bench.runs.root))
    assert found[0] == ("completed", 9, "completed")
    with FIFO(tiny.pipeline(**tiny.LIGHT)) as bench.loaded:
        at = {5: lambda: alone.command("prompt", text="a blue cube", change="queue"), 9: lambda: alone.command("stop")}
        bench.make(alone, at)
        alone.extend(3)
        bench.make(alone)
    assert (run.status.state, run.status.frames, run.status.num_frames) == ("completed", 12, 12)
    assert parts(run) == parts(alone)
    assert prompts_of(run) == prompts_of(alone) == {0: "a red ball", 5: {"prompt": "a blue cube", "change": "queue"}}
