"""`fifo-diffusion evaluate`: an evaluation, and what it says on standard error."""

from functools import partial
from typing import Any

from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.progress import say
from fifo_diffusion.jobs.stop import Stopped
from fifo_diffusion.study import run as study


def run(options: dict[str, Any]) -> int:
    """Do what was asked; the exit code: 1 where something could not be done (the rest is in the report)."""
    with Interrupts() as interrupts:
        try:
            with interrupts.at_once():
                results = study.run(options, tell=partial(say, quiet=bool(options.get("quiet"))))
        except Stopped:
            say(f"\nstopped by {interrupts.why}; the same command goes on where it was")
            return interrupts.exit_code
    for error in results.errors:
        say(f"fifo-diffusion: {error}")
    print(results.folder / "report.html")
    return 1 if results.errors else 0
