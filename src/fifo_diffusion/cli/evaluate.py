"""`fifo-diffusion evaluate`: an evaluation, and what it says on standard error."""

from functools import partial
from pathlib import Path
from typing import Any

from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.progress import say
from fifo_diffusion.jobs.stop import Stopped
from fifo_diffusion.study import run as study
from fifo_diffusion.study.files import measure_files


def run(options: dict[str, Any]) -> int:
    """Do what was asked; the exit code: 1 where something could not be done (the rest is in the report)."""
    tell = partial(say, quiet=bool(options.get("quiet")))
    with Interrupts() as interrupts:
        try:
            if options.get("videos"):
                with interrupts.at_once():
                    report, errors = measure_files(options, tell)
                return _said(report, errors)
            options = {name: value for name, value in options.items() if name != "videos"}
            with interrupts.at_once():
                results = study.run(options, tell=tell)
        except Stopped:
            say(f"\nstopped by {interrupts.why}; the same command goes on where it was")
            return interrupts.exit_code
    return _said(results.folder / "report.html", results.errors)


def _said(report: Path, errors: list[str]) -> int:
    for error in errors:
        say(f"fifo-diffusion: {error}")
    print(report)
    return 1 if errors else 0
