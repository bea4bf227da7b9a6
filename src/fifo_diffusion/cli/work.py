"""`fifo-diffusion work`: makes the runs of a folder, one after the other."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.progress import say
from fifo_diffusion.cli.runs_shown import state_of
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.jobs.runs.requests import first_prompt_of
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.together import together
from fifo_diffusion.text import shortened


def work(
    folder: Path, *, once: bool, unload_after: float | None, device: str | None, with_parent: bool, debug: bool
) -> int:
    """A worker in this process; the exit code.

    Args:
        folder: of runs.
        once: leave when no run waits.
        unload_after: leave after so many seconds without one; None: never.
        device: to make them on, where a run does not say.
        with_parent: leave when standard input ends.
        debug: warnings of libraries.
    """
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.jobs.runs.worker import Worker

    if not debug:
        quiet_libraries()
    quiet = bool(torchrun_rank())
    with Interrupts() as interrupts:
        if with_parent:
            threading.Thread(target=_watch_parent, args=(interrupts,), daemon=True).start()
        worker = Worker(
            Runs(folder),
            stop=interrupts,
            unload_after=unload_after,
            device=device,
            on_run=lambda run: say(f"{run.id}: {_prompt(run)}", quiet=quiet),
            on_end=lambda run, status: say(_ended(run, status), quiet=quiet),
        )
        say(f"looking after {folder}", quiet=quiet)
        with together() as ranks:
            worker.work(once=once, ranks=ranks)
    return interrupts.exit_code


def by_ray(folder: Path, *, once: bool, device: str | None) -> int:
    """Runs as tasks of a Ray cluster; the exit code. Arguments as of `work`."""
    from fifo_diffusion.jobs.runs.on_ray import work_on_ray

    with Interrupts() as interrupts:
        say(f"looking after {folder} with Ray", quiet=False)
        work_on_ray(
            Runs(folder),
            stop=interrupts,
            once=once,
            device=device,
            on_run=lambda run: say(f"{run.id}: {_prompt(run)}", quiet=False),
            on_end=lambda run, status: say(_ended(run, status), quiet=False),
        )
    return interrupts.exit_code


def many(folder: Path, count: int, arguments: list[str]) -> int:
    """Workers in processes of their own, each with one of the visible GPUs; the exit code: that of the first that
    failed.

    Args:
        folder: of runs.
        count: how many.
        arguments: further ones of each.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(count)]
    command = [sys.executable, "-m", "fifo_diffusion", "work", str(folder), *arguments]
    workers = [
        subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": gpus[k % len(gpus)]}) for k in range(count)
    ]
    with Interrupts() as interrupts:
        codes: list[int] = []
        for worker in workers:
            while worker.poll() is None:
                if interrupts.stop:
                    for each in workers:
                        with suppress(OSError):
                            each.send_signal(signal.SIGTERM)
                    worker.wait()
                with suppress(subprocess.TimeoutExpired):
                    worker.wait(0.5)
            codes.append(worker.returncode)
    return interrupts.exit_code or next((code for code in codes if code), 0)


def _watch_parent(interrupts: Interrupts) -> None:
    while os.read(sys.stdin.fileno(), 1 << 16):  # not by its buffer, whose lock would abort the usual end
        pass
    interrupts.ask("the end of its parent")


def _prompt(run: Run) -> str:
    return shortened((run.parent or {}).get("prompt") or first_prompt_of(run.request), 60)


def _ended(run: Run, status: Status) -> str:
    error = f": {status.error['message']}" if status.error is not None else ""
    return f"{run.id}: {state_of(status)}, {status.frames} frames{error}"
