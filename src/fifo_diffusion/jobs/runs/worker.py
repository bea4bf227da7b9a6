"""A worker: takes runs out of a folder one after the other, each with the model that is loaded already where it can."""

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.events import Event
from fifo_diffusion.jobs.load import load
from fifo_diffusion.jobs.locks import FileLock
from fifo_diffusion.jobs.plan import Plan, sampling
from fifo_diffusion.jobs.runs.making import make
from fifo_diffusion.jobs.runs.run import WORKERS, Run, Runs
from fifo_diffusion.jobs.runs.status import Status
from fifo_diffusion.jobs.stop import Stop

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.pipeline import FIFO

POLL_SECONDS = 0.5
"""Between two looks for a run that waits."""


class WarmModel:
    """The model that was loaded last, and is loaded anew only where a run wants another.

    Args:
        ranks: processes that make each video together, or None.
    """

    def __init__(self, ranks: "Ranks | None" = None) -> None:
        self._ranks, self._of = ranks, ""
        self._fifo: FIFO | None = None

    def __call__(self, plan: Plan) -> "FIFO":
        """The model of a plan.

        Raises:
            UserError: it cannot be loaded.
        """
        settings = plan.request.settings
        sampled = sorted(sampling(plan.request, plan.state).items())
        loaded = [plan.source.name, plan.device, plan.dtype, settings.compile]
        loaded += [settings.offload, settings.offload_text_encoder, settings.shard_weights]
        wanted = repr([*loaded, sampled, plan.kept["fps_condition"]])
        if self._fifo is None or wanted != self._of:
            self.close()
            self._fifo, self._of = load(plan, self._ranks), wanted
        return self._fifo

    def close(self) -> None:
        """Let it go, with its memory; of a GPU what PyTorch holds in reserve too."""
        if self._fifo is None:
            return
        import torch

        self._fifo.close()
        self._fifo, self._of = None, ""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Worker:
    """Makes the runs of a folder.

    Args:
        runs: the folder.
        stop: asks to stop: the run in the making is queued again, and goes on where it was.
        unload_after: seconds without a run, after which `work` returns; None: it waits for ever.
        device: as in `making.make`.
        on_run: called with each run that is taken.
        on_event: as in `making.make`.
        on_end: called with each run and where it stands then.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        stop: Stop | None = None,
        unload_after: float | None = None,
        device: str | None = None,
        on_run: Callable[[Run], None] = lambda _: None,
        on_event: Callable[[Event], None] = lambda _: None,
        on_end: Callable[[Run, Status], None] = lambda *_: None,
    ) -> None:
        self.runs, self.stop, self.unload_after = runs, Stop() if stop is None else stop, unload_after
        self._device, self._on_run, self._on_event, self._on_end = device, on_run, on_event, on_end

    def work(self, *, once: bool = False, ranks: "Ranks | None" = None) -> int:
        """Make runs until there is a reason to leave. Over several ranks all call this; rank 0 chooses the runs.

        Args:
            once: leave as soon as no run waits.
            ranks: processes that make each video together, or None.

        Returns:
            how many runs were taken.

        Raises:
            UserError: the folder of runs cannot be written, or its file system has no locks.
            RankError: another rank is gone.
        """
        leads, taken, idle_since = ranks is None or not ranks.rank, 0, time.monotonic()
        with signed_on(self.runs) if leads else nullcontext(), closing(WarmModel(ranks)) as model:
            while True:
                run, lock = claim(self.runs) if leads and not self.stop.why else (None, None)
                idle = time.monotonic() - idle_since
                late = self.unload_after is not None and idle >= self.unload_after
                found = run is not None, None if run is None else run.id, once or late or bool(self.stop.why)
                any_run, id, leaves = found if ranks is None else ranks.broadcast_object(found)
                try:
                    if any_run:
                        self._make(self.runs.get(id), model, ranks)
                        taken, idle_since = taken + 1, time.monotonic()
                        continue
                finally:
                    if lock is not None:
                        lock.release()
                if leaves:
                    return taken
                time.sleep(POLL_SECONDS)

    def _make(self, run: Run | None, model: WarmModel, ranks: "Ranks | None") -> None:
        if run is None:
            raise UserError(f"a run that was taken is gone from {self.runs.root}, or not seen from here")
        self._on_run(run)
        status = make(run, model, stop=self.stop, on_event=self._on_event, device=self._device, ranks=ranks)
        self._on_end(run, status)


def claim(runs: Runs) -> tuple[Run, FileLock] | tuple[None, None]:
    """The next run that waits, with its lock, which makes this process its maker; None twice where there is none.

    Raises:
        UserError: the folder of runs has no locks, or cannot be written.
    """
    for run in runs.queue():
        lock = run.lock()
        try:
            if not lock.take():
                continue
            written = run.written_status()
            if not written.after(run.commands(written.control)[0]).over:
                return run, lock
        except OSError as error:
            advice = "workers need a file system with locks (flock) that they may write to"
            raise UserError(f"cannot take {run.folder}: {error.strerror or error}; {advice}") from error
        except UserError:  # removed meanwhile
            pass
        lock.release()
    return None, None


@contextmanager
def signed_on(runs: Runs) -> Iterator[None]:
    """While in force, `Runs.workers` counts this process.

    Raises:
        UserError: the folder of runs cannot be written.
    """
    folder = runs.root / WORKERS
    file = folder / f"{socket.gethostname()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.take()
    except OSError as error:
        raise UserError(f"cannot write to {runs.root}: {error.strerror or error}") from error
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink()
