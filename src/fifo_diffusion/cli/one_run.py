"""`fifo-diffusion generate --run`: a run in the foreground, by the same runner as a worker's."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.cli.errors import FAILURE
from fifo_diffusion.cli.generate import Shown
from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.json_lines import EventLines
from fifo_diffusion.cli.progress import say, tell
from fifo_diffusion.errors import Setting, UserError, usage
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.jobs.events import Event, Result
from fifo_diffusion.jobs.plan import Plan
from fifo_diffusion.jobs.prompt_files import read_schedule
from fifo_diffusion.jobs.runs.folder import ID
from fifo_diffusion.jobs.runs.requests import names
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import COMPLETED
from fifo_diffusion.jobs.together import together
from fifo_diffusion.settings import STARTS
from fifo_diffusion.text import shell_words

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.pipeline import FIFO

OF_THE_COMMAND = ("run", "quiet", "json", "debug", "method")


def run_here(given: Mapping[str, Any]) -> int:
    """Make a new run in the folder of runs that `run` names, or go on with the run whose folder it is; the exit code.

    Args:
        given: the settings that were given.
    """
    _check(given)
    with together() as ranks:
        leads = ranks is None or not ranks.rank
        run = _opened(given) if leads else None
        if ranks is not None:
            folder = ranks.broadcast_object(None if run is None else str(run.folder))
            run = Run(Path(folder))
        assert run is not None
        with run.held or nullcontext():
            return _make(run, given, ranks)


def _check(given: Mapping[str, Any]) -> None:
    known = {*names(), *OF_THE_COMMAND}
    for name in given:
        if name not in known:
            raise usage(Setting(name), " does not go with ", Setting("run"), ": a run keeps its own files")
    if given.get("method", "fifo") != "fifo":
        raise usage(
            Setting("method", given["method"]), " has no states, and so no runs: leave ", Setting("run"), " out"
        )


def _opened(given: Mapping[str, Any]) -> Run:
    """The run, with its lock."""
    path = Path(given["run"])
    asked = {name: value for name, value in given.items() if name not in OF_THE_COMMAND}
    if ID.fullmatch(path.name) and Run(path).exists:
        return _continued(Run(path), asked)
    if "schedule" in asked:
        asked["schedule"] = {str(key): text for key, text in read_schedule(Path(asked["schedule"])).items()}
    start = asked.get("start", STARTS[0])
    file = None if start in STARTS else start
    if file is not None:
        del asked["start"]
        if not Path(file).exists():
            raise usage(Setting("start", file), ": there is no such file; give clip, noise, an image or a video")
    return Runs(path).create(asked, start_file=file, lock=True)


def _continued(run: Run, asked: Mapping[str, Any]) -> Run:
    more = [name for name in asked if name not in ("device", "keep")]
    if more:
        raise usage(f"{run.folder} is a run, and goes on as it was begun: leave ", Setting(more[0]), " out")
    status, command = run.status, ["fifo-diffusion", "runs", "extend", run.folder, "--seconds", "10"]
    if status.state == COMPLETED and not status.stopped:
        raise UserError(f"{run.id} has its {status.frames} frames: for more type {shell_words(command)}")
    lock = run.lock()
    if not lock.take():
        raise UserError(f"{run.id} is being made by another process: watch it with fifo-diffusion runs watch {run.id}")
    if status.paused or status.over or "keep" in asked:
        run.command("resume", keep=asked.get("keep"))
    run.held = lock
    return run


def _make(run: Run, given: Mapping[str, Any], ranks: "Ranks | None") -> int:
    from fifo_diffusion.jobs.load import load
    from fifo_diffusion.jobs.runs.making import make

    quiet, loaded = bool(given.get("quiet")), []
    shown, lines = _ShownRun(run, quiet), EventLines(bool(given.get("json")) and not torchrun_rank())
    listed = lines.of_run(run)

    def told(event: Event) -> None:
        shown(event)
        listed(event)

    def models(plan: Plan) -> "FIFO":
        say(f"loading {plan.model_name} ({plan.dtype} on {plan.device})", quiet=quiet or bool(torchrun_rank()))
        lines.loading(plan)
        loaded.append(load(plan, ranks))
        lines.loaded(plan)
        return loaded[0]

    if not given.get("debug"):
        from fifo_diffusion.jobs.libraries import quiet_libraries

        quiet_libraries()
    with Interrupts() as interrupts:
        try:
            make(
                run,
                models,
                stop=interrupts,
                on_event=told,
                on_plan=shown.planned,
                pauses=True,
                raises=True,
                device=given.get("device"),
                ranks=ranks,
            )
        finally:
            for fifo in loaded:
                fifo.close()
            listed.news()
    if interrupts.exit_code or torchrun_rank():
        return interrupts.exit_code
    told_all = not lines.lost if lines.on else tell(str(run.folder))
    return 0 if told_all else FAILURE


class _ShownRun:
    """What is said of a run in the foreground."""

    def __init__(self, run: Run, quiet: bool) -> None:
        self._run, self._quiet = run, quiet
        self._shown: Shown | None = None

    def planned(self, plan: Plan) -> None:
        """It is known what is to be made."""
        self._shown = Shown(plan, plan.videos[0], quiet=self._quiet, advice=self._say_how_to_go_on)

    def __call__(self, event: Event) -> None:
        """See `jobs.events`."""
        if self._shown is not None:
            self._shown(event)

    def _say_how_to_go_on(self, result: Result) -> None:
        again = shell_words(["fifo-diffusion", "generate", "--run", self._run.folder])
        kept = f"{result.frames} frames are safe in {self._run.folder}" if result.frames else "before the first frame"
        if result.stopped != "its length":
            say(f"\nstopped by {result.stopped}: {kept}; go on with: {again}")
