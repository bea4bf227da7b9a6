"""What has been computed, as report.html, report.json and figures."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from fifo_diffusion.evaluation.hardware import hardware
from fifo_diffusion.evaluation.report import Section, write_html
from fifo_diffusion.evaluation.whole_files import write_text
from fifo_diffusion.study.quality import quality
from fifo_diffusion.study.results import Results, picture
from fifo_diffusion.study.tasks import ablation_folders, cost_frames, cost_name, rows_with
from fifo_diffusion.text import one_line

MSE_NOTE = (
    "Protocol: known clips of n f + f // 2 frames, every frame noised with known noise, which is the true noise of "
    "Eq. 7. Diagonal: the windows of the setting, every frame at the level of its slot. Reference for each slot, the "
    "same for every setting: the partition of f frames that holds it, all of them at its level (1 means: as in "
    "ordinary sampling). No guidance; the model's default precision (float32 on a CPU); one draw of noise per clip. "
    "+-: standard error over clips."
)
COST_NOTE = (
    "One video in a process of its own, written to an mp4. Seconds per frame: whole time, without loading the model, "
    "over frames. Host memory: the highest resident memory of the process; 'beyond loading' is what came on top of the "
    "loaded model."
)


def write_report(results: Results) -> None:
    """The report of everything that is there."""
    config, numbers = results.config, {}
    makers: dict[str, Callable[[Results, dict[str, Any]], Section]] = {
        "cost": _cost,
        "relative-mse": _relative_mse,
        "quality": quality,
        "ablation": _ablation,
    }
    sections = []
    for table in config.tables:
        with collect_errors(results, table):
            sections.append(makers[table](results, numbers))
    about = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware(), "config": config.to_json()}
    document = about | {"results": numbers, "errors": results.errors}
    path = results.folder / "report.json"
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    first = Section(f"{config.model}", notes=_about(about), errors=results.errors)
    write_html(results.folder / "report.html", "FIFO-Diffusion and its baselines", [first, *sections])


@contextmanager
def collect_errors(results: Results, what: str) -> Iterator[None]:
    """Where a part of the report fails, one line says so and the others are written."""
    try:
        yield
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        results.errors.append(f"{what}: {one_line(str(error))}")


def _about(about: dict[str, Any]) -> list[str]:
    hardware, config = about["hardware"], about["config"]
    machine = ", ".join(f"{name} {value}" for name, value in hardware.items() if value is not None)
    rows = "; ".join(f"{name}: {json.dumps(row)}" for name, row in config["rows"].items())
    again = "Made again with: fifo-diffusion evaluate --config config.json -o ANOTHER-FOLDER"
    return [f"{about['date']}. {machine}.", f"Rows: {rows}.", f"Seeds from {config['seed']}. {again}"]


def _cost(results: Results, numbers: dict[str, Any]) -> Section:
    section = Section("Memory and time", notes=[COST_NOTE])
    memory, config = {}, results.config
    for name, row in rows_with(config, "cost").items():
        for count in cost_frames(config, row):
            found = results.found.get(cost_name(name, count))
            if found is None:
                continue
            line = {"method": name, "frames": count}
            if "error" in found:
                section.table.append(line | {"host MB, peak": found["error"]})
                continue
            line |= {
                "host MB, peak": found["host_mb_peak"],
                "beyond loading": round(found["host_mb_peak"] - found["host_mb_loaded"], 1),
                "device MB, peak": found["device_mb_peak"],
                "s per frame": found["seconds_per_frame"],
                "first frame, s": found["first_frame_seconds"],
            }
            section.table.append(line)
            memory.setdefault(name, ([], []))[0].append(count)
            memory[name][1].append(line["device MB, peak"] or line["beyond loading"])
    numbers["cost"] = section.table
    if memory:
        from fifo_diffusion.evaluation.figures import curves

        picture(results, section, lambda: curves(memory, "frames", "MB beyond loading (host), or device MB"), "memory")
    return section


def _relative_mse(results: Results, numbers: dict[str, Any]) -> Section:
    where = f"the videos in {results.config.clips}" if results.config.clips else "clips of toybox's world"
    section = Section("Relative MSE of the predicted noise (Eq. 7)", notes=[f"On {where}. {MSE_NOTE}"])
    found = results.found.get("relative-mse")
    if found is None or "error" in found:
        section.errors = [found["error"]] if found else []
        return section
    numbers["relative-mse"] = found["rows"]
    for row in found["rows"]:
        pairs = {"ratio of norms": row["ratio_of_norms"], "ratio of squared errors": row["ratio_of_errors"]}
        line = {"n": row["partitions"], "lookahead": row["lookahead"], "clips": row["clips"]}
        for name, (value, error) in pairs.items():
            line |= {name: value, f"{name} +-": error}
        section.table.append(line)
    lines = {
        f"n = {row['partitions']}{', lookahead' if row['lookahead'] else ''}": (
            [(k + 0.5) / len(row["curve"]) for k in range(len(row["curve"]))],
            row["curve"],
        )
        for row in found["rows"]
    }
    from fifo_diffusion.evaluation.figures import curves

    label = "place in the queue, head to tail"
    picture(results, section, lambda: curves(lines, label, "ratio of norms", level=1), "relative-mse")
    return section


def _ablation(results: Results, numbers: dict[str, Any]) -> Section:
    """Contact sheets: the method part by part, and the ways to change a prompt."""
    from fifo_diffusion.evaluation.figures import sheet
    from fifo_diffusion.video import iter_frames

    notes = ["DD: the diagonal alone (n = 1). LP: latent partitioning. LD: lookahead denoising. Every sixth frame."]
    section = Section("Ablation", notes)
    groups: dict[int, dict[str, Any]] = {}
    for (row, prompt), folder in ablation_folders(results.config, results.folder).items():
        if folder.exists():
            groups.setdefault(prompt, {})[row] = list(islice(iter_frames(folder), 0, None, 6))
    for prompt, rows in sorted(groups.items()):
        name = "prompt-change" if prompt < 0 else f"ablation-{prompt}"
        picture(results, section, lambda rows=rows: sheet(rows), name)
        text = "The prompt changes from the first to the second in the middle" if prompt < 0 else None
        section.notes.append(f"{name}: {text or results.config.prompts[prompt]}")
    return section
