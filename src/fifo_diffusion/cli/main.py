"""The `fifo-diffusion` command: options and their help. What they do is in `app/`.

Nothing here imports PyTorch: `--help` and errors in the arguments come at once.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fifo_diffusion import __version__
from fifo_diffusion.cli import evaluate_options, runs, studio
from fifo_diffusion.cli.errors import FAILURE, USAGE, exit_code, told
from fifo_diffusion.cli.notes import notes_told
from fifo_diffusion.cli.options import AsJson, answer, given_of, with_options
from fifo_diffusion.cli.progress import heard, reason, say, silence
from fifo_diffusion.cli.typed import parser_message
from fifo_diffusion.errors import UserError, usage
from fifo_diffusion.execution.torchrun import tell_others, torchrun_rank
from fifo_diffusion.jobs.explained import Unexpected, explain
from fifo_diffusion.settings import Settings, names_of, spec
from fifo_diffusion.text import one_line

SAMPLING = names_of(Settings, stages=[spec.SAMPLING])

UsageError = typer.BadParameter.__mro__[1]  # the base of all errors that the parser of options raises

app = typer.Typer(
    name="fifo-diffusion",
    help="Endless video from text, one frame at a time, at constant memory.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fifo-diffusion {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command()
@with_options()
def generate(ctx: typer.Context, **_: Any) -> int:
    """Write a video from a prompt, frame by frame, as long as you like.

    [bold]Examples[/bold]

    fifo-diffusion generate "a red ball moving right on a navy background" -o ball.mp4 --num-frames 1000

    fifo-diffusion generate "a corgi surfing" --model cerspense/zeroscope_v2_576w --seconds 60

    fifo-diffusion generate --schedule day.txt -o day.mp4 --state day.state   (continues after Ctrl-C)

    fifo-diffusion generate "a red ball on a navy background" --forever --run runs/   (seen and changed from elsewhere)

    fifo-diffusion generate "mountains scrolling to the left at sunset" --forever -o - | mpv -
    """
    from fifo_diffusion.jobs.request import Request

    try:
        given = given_of(ctx.params)
        if given.get("run") is not None and not given.get("dry_run"):
            from fifo_diffusion.cli.one_run import run_here

            return run_here(given)
        request = Request.from_options(given)
    except Exception as error:
        tell_others(error)
        raise
    from fifo_diffusion.cli.generate import run

    return run(request)


@app.command()
@with_options("model", "preset", "num_partitions", *SAMPLING, "dtype", "device", "quiet", "debug")
def evaluate(
    ctx: typer.Context,
    output: evaluate_options.Report,
    videos: evaluate_options.Videos = None,
    table: evaluate_options.Tables = None,
    config: evaluate_options.ConfigFile = None,
    methods: evaluate_options.Methods = None,
    prompts: evaluate_options.EvaluatePrompts = None,
    num_frames: evaluate_options.EvaluateFrames = None,
    num_inference_steps: evaluate_options.BaselineSteps = None,
    seed: evaluate_options.EvaluateSeed = None,
    base_clips: evaluate_options.BaseClips = None,
    cost_frames: evaluate_options.CostFrames = None,
    mse_clips: evaluate_options.MseClips = None,
    clips: evaluate_options.Clips = None,
    features: evaluate_options.Features = None,
    clip_model: evaluate_options.ClipModel = None,
    classifier: evaluate_options.VideoClassifier = None,
    jobs: evaluate_options.Jobs = None,
    **_: Any,
) -> int:
    """Make the paper's tables and figures for a model: FIFO and its baselines on the same weights.

    Stopped, it goes on where it was when the same command is run again. REPORT/config.json makes every number again.

    [bold]Examples[/bold]

    fifo-diffusion evaluate --model toybox --table all -o report/

    fifo-diffusion evaluate --table relative-mse --model cerspense/zeroscope_v2_576w --clips videos/ -o report/

    fifo-diffusion evaluate --config report/config.json --methods fifo -o again/

    fifo-diffusion evaluate a.mp4 b.mp4 -o drift/   (how existing videos drift)
    """
    from fifo_diffusion.cli.evaluate import run

    values = {
        name: [getattr(v, "value", v) for v in x] or None if isinstance(x, list | tuple) else getattr(x, "value", x)
        for name, x in ctx.params.items()
    }
    return run(values)


@app.command()
def models(json: AsJson = False) -> None:
    """List the base models: what is supported, their defaults, how each was verified."""
    from fifo_diffusion.cli.models_table import as_record, table

    if json:
        answer(as_record())
        return
    print(table())


@app.command()
@with_options("dtype")
def convert(
    checkpoint: Annotated[
        str, typer.Argument(help="An original VideoCrafter model.ckpt: a file, or a Hugging Face id that has one.")
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    **options: Any,
) -> int:
    """Write an original checkpoint as a diffusers folder, which loads at once and needs no download.

    [bold]Example[/bold]

    fifo-diffusion convert model.ckpt videocrafter2/ --dtype float16
    """
    from fifo_diffusion.cli.convert import convert

    return convert(checkpoint, folder, given_of(options).get("dtype"))


@app.command()
def info(
    file: Annotated[str, typer.Argument(help="A video, GIF or folder made by this program.")], json: AsJson = False
) -> None:
    """Print how a video was made, and the command that makes it again."""
    from fifo_diffusion.video import count_frames, read_metadata

    facts = read_metadata(file)
    if json and facts:
        answer({"file": file, "frames": count_frames(file), "made": facts})
        return
    if not json:
        print(f"{'frames':<20} {count_frames(file)}")
    for name, value in facts.items():
        print(f"{one_line(name):<20} {one_line(value)}")
    if not facts:
        raise UserError(f"{file} does not say how it was made")


@app.command()
def doctor(json: AsJson = False) -> int:
    """Look at this machine: what is installed, which devices, what to fix and how."""
    from fifo_diffusion.cli.doctor import report

    findings, well = report()
    if json:
        answer({"well": well, "findings": [asdict(finding) for finding in findings]})
        return 0 if well else 1
    for finding in findings:
        print(finding)
    return 0 if well else 1


@app.command()
def work(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="A folder of runs.")],
    once: Annotated[bool, typer.Option("--once", help="Leave when no run waits.")] = False,
    unload_after: Annotated[
        float | None,
        typer.Option("--unload-after", metavar="SECONDS", min=0, help="Leave after so long without a run."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="So many processes, each with one of the GPUs.")
    ] = 1,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")] = None,
    executor: Annotated[
        str, typer.Option("--executor", metavar="HOW", help="here, or ray: each run as a task of a Ray cluster.")
    ] = "here",
    with_parent: Annotated[bool, typer.Option("--with-parent", help="Leave when standard input ends.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Warnings of libraries.")] = False,
) -> int:
    """Make the runs of a folder, one after the other, with the model kept loaded between them.

    Any number of workers may share a folder, on any number of machines. Under torchrun its processes make each video
    together.

    [bold]Examples[/bold]

    fifo-diffusion work runs/

    CUDA_VISIBLE_DEVICES=1 fifo-diffusion work /shared/runs --unload-after 600

    torchrun --nproc-per-node 4 --no-python fifo-diffusion work runs/

    RAY_ADDRESS=auto fifo-diffusion work /shared/runs --executor ray
    """
    from fifo_diffusion.cli.work import by_ray, many, work

    if executor not in ("here", "ray"):
        raise usage("--executor: give here or ray, not ", executor)
    if executor == "ray":
        if workers > 1 or unload_after is not None or with_parent:
            raise usage("--executor ray: the cluster has workers; leave --workers, --unload-after, --with-parent out")
        return by_ray(folder, once=once, device=device)
    if workers == 1:
        options = {"device": device, "with_parent": with_parent, "debug": debug}
        return work(folder, once=once, unload_after=unload_after, **options)
    given = ["--once"] * once + ["--debug"] * debug + (["--device", device] if device is not None else [])
    given += ["--unload-after", str(unload_after)] if unload_after is not None else []
    return many(folder, workers, given)


@app.command()
@with_options("model", "device", "num_partitions", *SAMPLING)
def bench(
    repeats: Annotated[int, typer.Option(min=1, help="Turns; the median counts.")] = 7,
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile too; takes minutes.")] = False,
    **options: Any,
) -> None:
    """Measure what batches, half precision and compiling buy on this machine, against a plain path."""
    from fifo_diffusion.cli.bench import run

    print(run(**given_of(options), repeats=repeats, compiled=compiled))


app.command("studio")(studio.command(page=True))
app.command("serve")(studio.command(page=False))
app.add_typer(runs.app, name="runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0, 1 failed, 2 usage error, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    _open_standard_streams()
    code = _run(typed)
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        code = code or _complain(f"cannot write to standard output: {reason(error)}", FAILURE)
    with heard():
        sys.stderr.flush()
    return code


def _run(typed: list[str]) -> int:
    try:
        with warnings.catch_warnings(), notes_told(quiet=bool({"-q", "--quiet"} & set(typed)), also=_note_event(typed)):
            return app(typed, prog_name="fifo-diffusion", standalone_mode=False) or 0
    except UsageError as error:
        message = parser_message(error, typed, _options(error))
        _tell_failure(typed, usage(message), USAGE, message)
        return _complain(message, USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader of our standard output is gone
        silence(sys.stdout)
        return 1
    except Exception as error:
        if "--debug" in typed:
            with heard():
                traceback.print_exc()
        explained = explain(error)
        debug = isinstance(explained, Unexpected) and typed[0] in ("generate", "evaluate")
        _tell_failure(typed, error, exit_code(explained), told(explained))
        return _complain(told(explained) + " (add --debug to see where)" * debug, exit_code(explained))


def _wants_json(typed: list[str]) -> bool:
    """Whether this is a command, and the rank, that tells programs what happens."""
    options = typed[: typed.index("--")] if "--" in typed else typed
    if "--json" not in options:
        return False
    try:
        return not torchrun_rank()
    except UserError:
        return True


def _note_event(typed: list[str]) -> Callable[[str], object] | None:
    """What takes the notes of a command that tells events; a dry run has them in its answer."""
    if typed[:1] != ["generate"] or "--dry-run" in typed or not _wants_json(typed):
        return None
    from fifo_diffusion.cli.json_lines import put_event

    return lambda text: put_event("note", text=text)


def _tell_failure(typed: list[str], error: Exception, code: int, message: str) -> None:
    """The last event, where a program listens."""
    if _wants_json(typed):
        from fifo_diffusion.cli.json_lines import put_failure

        put_failure(error, code, message)


def _open_standard_streams() -> None:
    """Where one was closed (`>&-`), the next file to be opened would take its number, and messages of libraries would
    end up in the video."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _complain(message: str, code: int) -> int:
    try:
        rank = torchrun_rank()
    except UserError:  # that is what the message is about
        rank = None
    say(f"fifo-diffusion{'' if rank is None else f' (rank {rank})'}: {message}")
    return code


def _options(error: Any) -> list[str]:
    """The long options of the command."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    return [name for p in getattr(command, "params", ()) for name in (*p.opts, *p.secondary_opts) if name[:2] == "--"]
