"""The runs of a folder as tasks of a Ray cluster. All nodes must see the folder under the same path."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.runs.making import make
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.runs.worker import POLL_SECONDS, WarmModel
from fifo_diffusion.jobs.stop import Stop

RETRIES = 3
"""How often Ray starts the task of a run anew where its process or its node is gone; it goes on from the folder."""
PATIENCE = 30.0
"""Seconds that a task waits for the lock of a run whose last maker has just died."""


def work_on_ray(
    runs: Runs,
    *,
    stop: Stop,
    once: bool = False,
    device: str | None = None,
    on_run: Callable[[Run], None] = lambda _: None,
    on_end: Callable[[Run, Status], None] = lambda *_: None,
) -> int:
    """Give each run that waits to the cluster that this process is connected to (or that `RAY_ADDRESS` names, or a new
    one on this machine), as a task with one GPU where the cluster has any.

    Args:
        runs: the folder.
        stop: asks to leave: tasks are cancelled, their runs are queued and go on later.
        once: leave when no run waits and all tasks are done.
        device: as in `making.make`.
        on_run: called with each run that is given away.
        on_end: called with each run whose task has ended, and where it stands.

    Returns:
        how many runs were given away.

    Raises:
        UserError: Ray is not installed, or cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed: pip install ray") from error
    try:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(f"Ray cannot be reached: {error}") from error
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(make_in_task)
    given, tasks = 0, {}
    try:
        while True:
            for run in [] if stop.why else runs.queue():
                if run.id not in tasks.values():
                    tasks[task.remote(str(runs.root.resolve()), run.id, device)] = run.id
                    given += 1
                    on_run(run)
            if stop.why or (once and not tasks):
                return given
            done, _ = ray.wait(list(tasks), timeout=POLL_SECONDS) if tasks else ([], None)
            for reference in done:
                _ended(ray, reference, runs.get(tasks.pop(reference)), on_end)
            if not tasks:
                time.sleep(POLL_SECONDS)
    finally:
        for reference in tasks:
            ray.cancel(reference, force=True)


def make_in_task(root: str, id: str, device: str | None) -> None:
    """What a task does: one run, from where it stands to its end."""
    run = Runs(root).get(id)
    if run is None:
        return  # removed meanwhile
    with run.lock() as lock, closing(WarmModel()) as model:
        until = time.monotonic() + PATIENCE
        while not lock.take():
            if time.monotonic() > until:
                return  # another worker makes it
            time.sleep(POLL_SECONDS)
        make(run, model, device=device)


def _ended(ray: Any, reference: Any, run: Run | None, on_end: Callable[[Run, Status], None]) -> None:
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:  # its retries are used up
        if run is not None and not run.status.over:
            raise UserError(f"{run.id}: its task on Ray failed: {str(error).splitlines()[0]}") from error
    if run is not None:
        on_end(run, run.status)
