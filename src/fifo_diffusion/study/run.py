"""`fifo-diffusion evaluate`: the paper's tables and figures for a model, in one folder."""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.cli.interrupts import Interrupts, Stopped
from fifo_diffusion.cli.progress import duration, say
from fifo_diffusion.errors import CliError, checking, one_line, usage
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.study.config import TABLES, Config, default_prompts, default_rows
from fifo_diffusion.study.tasks import Task, tasks, video_folders
from fifo_diffusion.study.worker import run_task, stop_tasks

if TYPE_CHECKING:
    from fifo_diffusion.evaluation.report import Section

DEFAULT_FRAMES, DEFAULT_PARTITIONS = 192, 4


@dataclass
class Results:
    """What has been computed so far.

    Attributes:
        config: what is asked for.
        folder: where everything is.
        found: results of tasks by name; those that ran out of memory have an "error".
        errors: one line each, of what could not be done.
    """

    config: Config
    folder: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def part(self, name: str) -> Path:
        """The file of a task's result."""
        return self.folder / "parts" / f"{name}.json"

    def by_length(self, rows: Iterable[str]) -> dict[str, list[str]]:
        """Rows whose videos are equally long, and what their pictures' names end with: videos of 10,000 frames and of
        200 do not go in one plot."""
        groups: dict[str, list[str]] = {}
        for row in rows:
            length = self.config.rows[row].get("num_frames", self.config.num_frames)
            groups.setdefault("" if length == self.config.num_frames else f"-{length}", []).append(row)
        return groups

    def videos(self, row: str) -> list[tuple[str, Path]]:
        """Prompts and folders of a row's videos that have been made."""
        places = video_folders(self.config, self.folder, row)
        return [(prompt, folder) for prompt, folder in places if folder.exists()]


def run(options: dict[str, Any]) -> int:
    """Do what was asked; the exit code: 1 where something could not be done (the rest is in the report)."""
    folder = Path(options["output"])
    config = _config(options)
    quiet = bool(options.get("quiet"))
    _check_model(config)
    results = Results(config, folder)
    with locked(folder):
        return _run_in(folder, results, options, quiet)


def _run_in(folder: Path, results: Results, options: dict[str, Any], quiet: bool) -> int:
    _open_folder(results)
    with Interrupts() as interrupts:
        try:
            with interrupts.at_once():
                _do_all(results, options.get("jobs") or 1, quiet, bool(options.get("debug")))
        except Stopped:
            say(f"\nstopped by {interrupts.name}; the same command goes on where it was")
            return interrupts.exit_code
    from fifo_diffusion.study.report import write

    say("measuring and writing the report", quiet=quiet)
    write(results)
    for error in results.errors:
        say(f"fifo-diffusion: {error}")
    print(folder / "report.html")
    return 1 if results.errors else 0


def _do_all(results: Results, jobs: int, quiet: bool, debug: bool) -> None:
    """All tasks; so many at a time, but for those whose time and memory are measured."""
    todo = tasks(results.config, results.folder)
    titled = [(task, f"[{number}/{len(todo)}] {task.title}") for number, task in enumerate(todo, 1)]
    timed, untimed = (
        [pair for pair in titled if (pair[0].payload["kind"] == "cost") is alone] for alone in (True, False)
    )
    pool = ThreadPoolExecutor(jobs)
    others = [pool.submit(_do, results, *pair, quiet, debug) for pair in untimed]
    try:
        for other in others:
            other.result()
        for task, title in timed:
            _do(results, task, title, quiet, debug)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(other.done() for other in others):  # one may just have been about to start
            stop_tasks()
            time.sleep(0.05)
        raise
    pool.shutdown()


def _do(results: Results, task: Task, title: str, quiet: bool, debug: bool) -> None:
    from fifo_diffusion.evaluation.whole_files import load_object, write_text

    part = results.part(task.name)
    if (known := load_object(part)) is not None:
        results.found[task.name] = known
        return
    if part.exists():
        say(f"{part} is damaged: it is made again", quiet=quiet)
    say(title, quiet=quiet)
    began = time.monotonic()
    found = run_task(task.payload | {"debug": debug}, part)
    if "error" not in found:
        say(f"  done in {duration(time.monotonic() - began)}", quiet=quiet)
        results.found[task.name] = found
    elif found["out_of_memory"]:
        say(f"  {found['error']}", quiet=quiet)
        results.found[task.name] = found
        write_text(part, json.dumps(found) + "\n")
    else:
        results.errors.append(one_line(f"{task.title}: {found['error']}"))


def _config(options: dict[str, Any]) -> Config:
    given = {name: value for name, value in options.items() if value is not None}
    if "config" in given:
        allowed = ("config", "output", "methods", "table", "jobs", "quiet", "debug")
        if others := [name for name in given if name not in allowed and given[name] is not False]:
            raise usage(f"--config says everything: leave --{others[0].replace('_', '-')} out")
        config = Config.read(Path(given["config"]))
        config = replace(config, tables=_tables(given["table"])) if given.get("table") else config
    else:
        config = _config_of(given)
    return config.only(_words(given["methods"])) if "methods" in given else config


def _config_of(given: dict[str, Any]) -> Config:
    model = given.get("model", "toybox")
    steps, partitions = given.get("num_inference_steps"), given.get("num_partitions", DEFAULT_PARTITIONS)
    if "prompts" in given:
        from fifo_diffusion.jobs.prompt_files import read_prompts

        prompts = tuple(read_prompts(Path(given["prompts"])))
    else:
        prompts = default_prompts(model)
    names = ("seed", "base_clips", "mse_clips", "clips", "features", "clip_model", "classifier", "device", "dtype")
    more: dict[str, Any] = {name: given[name] for name in names if name in given}
    for name in ("clips", "features", "clip_model", "classifier"):
        if name in more:
            more[name] = str(Path(more[name]).absolute())
    if "cost_frames" in given:
        more["cost_frames"] = _numbers("cost_frames", given["cost_frames"])
    if more.get("mse_clips", 2) < 2:
        raise usage("--mse-clips must be at least 2: errors are given with their spread over clips")
    return Config(
        model=str(Path(model).absolute()) if Path(model).exists() else model,
        tables=_tables(given.get("table") or ["all"]),
        rows=default_rows(partitions, steps, _gpus(given.get("device"))),
        prompts=prompts,
        num_frames=given.get("num_frames", DEFAULT_FRAMES),
        base_steps=steps or Config.base_steps,
        partitions=tuple(n for n in (1, 2, 4) if n <= max(partitions, 2)),
        **more,
    )


def _gpus(device: str | None) -> int:
    import torch

    return 0 if device not in (None, "cuda") else torch.cuda.device_count()


def _tables(names: list[str]) -> tuple[str, ...]:
    return TABLES if "all" in names else tuple(table for table in TABLES if table in names)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    words = _words(text)
    if not words or not all(word.isdigit() and int(word) for word in words):
        raise usage(f"--{name.replace('_', '-')} must be whole numbers with commas between, 128,256,512, not {text}")
    return tuple(map(int, words))


def _check_model(config: Config) -> None:
    """Find the model before there is a folder that would be of a model that is none.

    Raises:
        CliError: there is no such model, or none whose parts fit.
    """
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.registry import wrap

    quiet_libraries()
    with checking():
        wrap(find_model(config.model).load_without_weights()).close()


def _open_folder(results: Results) -> None:
    """Make the folder, or find in it an evaluation of the same kind, which goes on."""
    from fifo_diffusion.evaluation.hardware import versions

    folder, config = results.folder, results.config
    path = folder / "config.json"
    if path.exists():
        before = Config.read(path)
        if set(config.rows) < set(before.rows) and all(before.rows[name] == row for name, row in config.rows.items()):
            before = before.only(list(config.rows))
        if different := config.same_work(before):
            name = different[0]
            raise usage(
                f"{folder} holds another evaluation, with {name} {json.dumps(before.to_json()[name])[:60]}: choose "
                f"another -o, or go on with --config {path}"
            )
        now = {name: value for name, value in versions().items() if (before.versions or {}).get(name, value) != value}
        if now:
            raise usage(f"{folder} was begun with other versions than {now}: choose another -o, or use those")
        both = tuple(table for table in TABLES if table in (*before.tables, *config.tables))
        replace(Config.read(path), tables=both).write(path)
        results.config = replace(config, tables=both)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise usage(f"{folder} exists and holds no evaluation: choose another -o")
    try:
        (folder / "parts").mkdir(parents=True)
    except OSError as error:
        raise CliError(f"cannot write {folder}: {error.strerror or error}") from error
    if config.versions and config.versions != versions():
        results.errors.append(
            f"the configuration is of {config.versions}: with {versions()} numbers may differ a little"
        )
    replace(config, versions=versions()).write(path)


def picture(results: Results, section: "Section", make: Callable[[], Any], name: str) -> None:
    """Draw a figure into the section, as PNG and SVG; without matplotlib say so once."""
    try:
        from fifo_diffusion.evaluation import figures

        section.pictures.append(figures.save(make(), results.folder / "figures", name))
    except ImportError:
        line = "figures need matplotlib: pip install matplotlib, then the same command again"
        if line not in results.errors:
            results.errors.append(line)
