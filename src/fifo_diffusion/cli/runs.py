"""`fifo-diffusion runs`: look at runs, and tell them what to do."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fifo_diffusion.cli.errors import FAILURE
from fifo_diffusion.cli.options import AsJson, answer
from fifo_diffusion.cli.progress import Progress, say
from fifo_diffusion.cli.runs_shown import facts, record, records, table, timeline
from fifo_diffusion.errors import UserError, usage
from fifo_diffusion.jobs.prompt_files import in_frames, read_schedule
from fifo_diffusion.jobs.runs.requests import first_prompt_of
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.jobs.runs.status import COMPLETED, FAILED, IN_PROGRESS
from fifo_diffusion.jobs.runs.timeline import prompts_of
from fifo_diffusion.settings.kinds import Size
from fifo_diffusion.text import shell_word

app = typer.Typer(
    help="Runs: videos that are seen, stopped, changed, forked and extended while they are made and afterwards. RUN is "
    "an id, the beginning of one, the path of its folder, or last.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

WATCH_SECONDS = 0.5

Folder = Annotated[
    Path, typer.Option("--dir", "-d", envvar="FIFO_DIFFUSION_RUNS", metavar="DIR", help="The folder of runs.")
]


def _runs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What a shell offers: the runs of the folder that is meant."""
    folder = ctx.params.get("folder") or os.environ.get("FIFO_DIFFUSION_RUNS") or HERE
    found = [(run.id, first_prompt_of(run.request)) for run in Runs(Path(folder)).list()]
    return [(name, said) for name, said in [*found, ("last", "the newest")] if name.startswith(incomplete)]


Which = Annotated[str, typer.Argument(metavar="RUN", show_default=False, help="Which run.", autocompletion=_runs)]
HERE = Path("runs")


@app.command("list")
def list_runs(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """All runs, the newest first."""
    found = Runs(folder).list()
    if as_json:
        answer({"runs": list(records(found))})
        return
    if not found:
        make = f'fifo-diffusion generate "a red ball" --run {shell_word(folder)}'
        raise UserError(f"there is no run in {folder}: make one with {make}")
    for line in table(found):
        print(line)


@app.command()
def show(
    run: Which,
    folder: Folder = HERE,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Only its prompts, as JSON that generate --schedule takes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How a run was asked for, where it stands, what happened."""
    if schedule and as_json:
        raise usage("--schedule prints JSON already: leave --json out")
    found = Runs(folder).find(run)
    if as_json:
        answer(record(found))
        return
    if schedule:
        print(json.dumps({str(frame): said for frame, said in prompts_of(found).items()}, ensure_ascii=False, indent=1))
        return
    for line in (*facts(found), "", *timeline(found)):
        print(line)


@app.command()
def watch(run: Which, folder: Folder = HERE) -> int:
    """Progress until it ends; Ctrl-C ends the watching, not the run."""
    found = Runs(folder).find(run)
    status, bar = found.status, None
    while not status.over:
        if status.state == IN_PROGRESS and bar is None and status.fps is not None:
            bar = Progress(status.num_frames, status.frames, fps=status.fps)
        while bar is not None and bar.done < status.frames:
            bar.advance()
        time.sleep(WATCH_SECONDS)
        status = found.status
    if bar is not None:
        bar.close()
    if status.state == FAILED:
        assert status.error is not None
        say(f"{found.id} failed: {status.error['message']}")
        return FAILURE
    say(f"{found.id} has {status.frames} frames{', stopped' if status.stopped else ''}")
    return 0


@app.command()
def resume(
    run: Which,
    folder: Folder = HERE,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="SIZE", help="Room that it may take from now on: 40GB.")
    ] = None,
) -> None:
    """Let a run go on that was paused or stopped, or has failed."""
    runs = Runs(folder)
    found = runs.find(run)
    if keep is not None and (wanted := Size().wanted(keep)):
        raise usage(f"--keep {shell_word(keep)}: give {wanted}")
    status = found.status
    if status.state == COMPLETED and not status.stopped:
        raise UserError(
            f"{found.id} is complete: to make it longer, fifo-diffusion runs extend {found.id} --seconds 10"
        )
    found.command("resume", keep=keep)
    _say_who_makes(runs, found)


@app.command()
def fork(
    run: Which,
    at: Annotated[
        int, typer.Option("--at", metavar="K", min=0, show_default=False, help="First frame that may differ.")
    ],
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="From there on.")] = None,
    num_frames: Annotated[
        int | None, typer.Option("-n", "--num-frames", metavar="N", min=1, help="Frames in all.")
    ] = None,
    change: Annotated[str | None, typer.Option("--prompt-change", metavar="HOW", help="tail, queue or blend.")] = None,
    folder: Folder = HERE,
) -> None:
    """A new run with the frames before K, which goes on by itself. Prints its id."""
    runs = Runs(folder)
    _print_new(runs, runs.find(run).fork(at, prompt, num_frames=num_frames, change=change))


@app.command()
def rerender(
    run: Which,
    schedule: Annotated[Path, typer.Argument(metavar="FILE", help="Prompts by frame, as generate --schedule takes.")],
    since: Annotated[
        int, typer.Option("--from", metavar="K", min=0, show_default=False, help="First frame to change.")
    ],
    folder: Folder = HERE,
) -> None:
    """A new run as if its prompts had been those of FILE from frame K on. Prints its id."""
    runs = Runs(folder)
    found = runs.find(run)
    _print_new(runs, found.rerender(since, {k: v for k, v in _schedule(found, schedule).items() if k >= since}))


@app.command()
def remix(
    run: Which, prompt: Annotated[str, typer.Argument(metavar="TEXT", help="Another prompt.")], folder: Folder = HERE
) -> None:
    """A new run with the same settings and seed under another prompt. Prints its id."""
    runs = Runs(folder)
    _print_new(runs, runs.find(run).remix(prompt))


@app.command()
def extend(
    run: Which,
    seconds: Annotated[float | None, typer.Option("--seconds", metavar="X", help="Seconds more.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", metavar="N", min=1, help="Frames more.")] = None,
    folder: Folder = HERE,
) -> None:
    """Make a run longer, also one that is complete."""
    runs = Runs(folder)
    found = runs.find(run)
    if (seconds is None) == (frames is None):
        raise usage("give either --seconds X or --frames N: how much longer")
    if frames is None:
        assert seconds is not None
        fps = found.status.fps
        if not seconds > 0:
            raise usage(f"--seconds {seconds:g}: give a number above 0")
        if fps is None:
            raise UserError(f"{found.id} has not begun, and its frames per second are not known yet: give --frames N")
        frames = max(1, round(seconds * fps))
    found.extend(frames)
    _say_who_makes(runs, found)


@app.command()
def prompt(
    run: Which,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What should be seen from now on.")],
    at: Annotated[int | None, typer.Option("--at", metavar="K", min=0, help="Once there are so many frames.")] = None,
    change: Annotated[str | None, typer.Option("--prompt-change", metavar="HOW", help="tail, queue or blend.")] = None,
    folder: Folder = HERE,
) -> None:
    """Change the prompt of a run that is made."""
    if not text.strip():
        raise usage("the prompt is empty: say what should be seen")
    found = _unfinished(Runs(folder).find(run), "fork")
    found.command("prompt", text=text, frame=at, change=change)


@app.command()
def schedule(
    run: Which,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Prompts by frame, as generate --schedule takes.")],
    folder: Folder = HERE,
) -> None:
    """Put other prompts in place of those that are still to come."""
    found = _unfinished(Runs(folder).find(run), "rerender")
    found.command("schedule", keys=_schedule(found, file))


@app.command()
def stop(run: Which, folder: Folder = HERE) -> None:
    """End a run, with the frames that there are."""
    _ask(Runs(folder).find(run), "stop")


@app.command()
def pause(run: Which, folder: Folder = HERE) -> None:
    """Let a run rest until it is resumed; its worker takes another."""
    _ask(Runs(folder).find(run), "pause")


@app.command()
def pin(
    run: Which,
    frame: Annotated[int, typer.Argument(metavar="K", help="A frame with a state; show lists them.")],
    off: Annotated[bool, typer.Option("--off", help="Let it go again.")] = False,
    folder: Folder = HERE,
) -> None:
    """Never let the state of a frame go, so that forks from there begin at once."""
    found = Runs(folder).find(run)
    if frame not in found.snapshots():
        there = ", ".join(map(str, found.snapshots())) or "none"
        raise UserError(f"{found.id} has no state at frame {frame} (there are {there})")
    found.command("unpin" if off else "pin", frame=frame)


@app.command()
def join(
    run: Which,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="An mp4. [dim]Default: RUN.mp4.[/dim]")
    ] = None,
    folder: Folder = HERE,
) -> None:
    """Its video so far as one ordinary file."""
    found = Runs(folder).find(run)
    path = Path(f"{found.id}.mp4") if output is None else output
    if path.suffix.lower() != ".mp4":
        raise usage(f"{path}: parts are joined as they are, into an mp4: give a name that ends in .mp4")
    count = found.join(path)
    say(f"{path}: {count} frames")
    print(path)


@app.command()
def rm(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", show_default=False, help="Which runs.")],
    folder: Folder = HERE,
) -> None:
    """Remove runs with all their files. Forks of them keep theirs."""
    for found in [Runs(folder).find(name) for name in run]:
        found.delete()


def _ask(run: Run, what: str) -> None:
    if run.status.over:
        raise UserError(f"{run.id} is over already ({run.status.state})")
    run.command(what)


def _unfinished(run: Run, instead: str) -> Run:
    status = run.status
    if status.over:
        raise UserError(
            f"{run.id} is over ({status.state}, {status.frames} frames): go on from one of its frames with "
            f"fifo-diffusion runs {instead} {run.id}, or let it go on with runs resume or extend"
        )
    return run


def _schedule(run: Run, file: Path) -> dict[int, Any]:
    read = read_schedule(file)
    fps = run.status.fps
    if fps is None:
        if not all(isinstance(key, int) for key in read):
            raise UserError(
                f"{run.id} has not begun, and its frames per second are not known yet: give frames, not times"
            )
        fps = 1.0
    return in_frames(read, fps)


def _print_new(runs: Runs, run: Run) -> None:
    print(run.id)
    _say_who_makes(runs, run)


def _say_who_makes(runs: Runs, run: Run) -> None:
    if not runs.workers() and not run.is_owned():
        root, own = shell_word(runs.root), shell_word(run.folder)
        say(
            f"no worker looks after {root}: start one with fifo-diffusion work {root}, or make it here with "
            f"fifo-diffusion generate --run {own}"
        )
