"""An evaluation: the paper's tables and figures for a model, in one folder."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fifo_diffusion.errors import UserError, usage, usage_errors
from fifo_diffusion.evaluation.metrics import skipped
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.settings import Settings, names_of
from fifo_diffusion.settings.spec import SAMPLING
from fifo_diffusion.study.checks import TABLES
from fifo_diffusion.study.config import Config, default_prompts, default_rows
from fifo_diffusion.study.results import Results
from fifo_diffusion.study.tasks import Task, tasks
from fifo_diffusion.study.worker import run_task, stop_tasks
from fifo_diffusion.text import duration, one_line

Tell = Callable[[str], None]
DEFAULT_FRAMES = 192


def run(options: dict[str, Any], *, tell: Tell = lambda _: None) -> Results:
    """Compute what is asked for and is not there yet, and write the report.

    Args:
        options: as passed on the command line; None counts as left out.
        tell: called with a line of text at each step, from several threads.

    Returns:
        what was found; `errors` of what could not be done, the rest is in the report.

    Raises:
        UserError: options that do not fit; nothing has been computed then.
    """
    config = _config(options)
    _check_model(config)
    results = Results(config, Path(options["output"]))
    talk = {name: bool(options.get(name)) for name in ("debug", "quiet")}
    with locked(results.folder):
        _open_folder(results)
        if "quality" in results.config.tables:
            for line in skipped(asdict(results.config)):
                tell(line)
        _do_all(results, options.get("jobs") or 1, tell, talk)
        from fifo_diffusion.study.report import write_report

        tell("measuring and writing the report")
        write_report(results)
    return results


def _do_all(results: Results, jobs: int, tell: Tell, talk: Mapping[str, bool] = MappingProxyType({})) -> None:
    """All tasks, several at a time, but for those whose time and memory are measured.

    Args:
        talk: how much the tasks' processes say: `quiet`, `debug`.
    """
    todo = tasks(results.config, results.folder)
    titled = [(task, f"[{number}/{len(todo)}] {task.title}") for number, task in enumerate(todo, 1)]
    timed, untimed = (
        [pair for pair in titled if (pair[0].payload["kind"] == "cost") is alone] for alone in (True, False)
    )
    pool = ThreadPoolExecutor(jobs)
    others = [pool.submit(_do, results, *pair, tell, talk) for pair in untimed]
    try:
        for other in others:
            other.result()
        for task, title in timed:
            _do(results, task, title, tell, talk)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(other.done() for other in others):  # one may just have been about to start
            stop_tasks()
            time.sleep(0.05)
        raise
    pool.shutdown()


def _do(results: Results, task: Task, title: str, tell: Tell, talk: Mapping[str, bool]) -> None:
    from fifo_diffusion.evaluation.whole_files import load_object, write_text

    part = results.part(task.name)
    if (known := load_object(part)) is not None:
        results.found[task.name] = known
        return
    if part.exists():
        tell(f"{part} is damaged: it is made again")
    tell(title)
    began = time.monotonic()
    found = run_task(task.payload | talk, part)
    if "error" not in found:
        tell(f"  done in {duration(time.monotonic() - began)}")
        results.found[task.name] = found
    elif found["out_of_memory"]:
        tell(f"  {found['error']}")
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
    steps, partitions, preset = (given.get(name) for name in ("num_inference_steps", "num_partitions", "preset"))
    rows = default_rows(partitions, steps, _gpus(given.get("device")), preset)
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
        rows=rows,
        prompts=prompts,
        num_frames=given.get("num_frames", DEFAULT_FRAMES),
        base_steps=steps or Config.base_steps,
        partitions=tuple(n for n in (1, 2, 4) if n <= max(partitions or Settings.num_partitions, 2)),
        sampling={name: given[name] for name in names_of(Settings, stages=[SAMPLING]) if name in given},
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
        UserError: there is no such model, or none whose parts fit.
    """
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.models.loading.source import find_model
    from fifo_diffusion.models.registry import wrap

    quiet_libraries()
    with usage_errors():
        wrap(find_model(config.model).load_without_weights(**config.sampling)).close()


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
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    if config.versions and config.versions != versions():
        results.errors.append(
            f"the configuration is of {config.versions}: with {versions()} numbers may differ a little"
        )
    replace(config, versions=versions()).write(path)
