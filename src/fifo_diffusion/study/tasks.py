"""What has to be computed for each table, as tasks for `evaluate_worker`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fifo_diffusion.study.config import Config, ablation_rows

BASE_SEEDS = 10_000
ABLATION_PROMPTS = 2
CHANGES = ("tail", "queue", "blend")


@dataclass(frozen=True)
class Task:
    """One process's work.

    Attributes:
        name: of its result, parts/NAME.json.
        title: for people.
        payload: the input of the worker process.
    """

    name: str
    title: str
    payload: dict[str, Any]


def tasks(config: Config, folder: Path) -> list[Task]:
    """Everything, in the order in which it is done: the quickest tables first."""
    makers = {"relative-mse": _relative_mse, "ablation": _ablation, "quality": _quality, "cost": _cost}
    return [task for table, make in makers.items() if table in config.tables for task in make(config, folder)]


def rows_with(config: Config, table: str) -> dict[str, dict[str, Any]]:
    """The rows that have a place in a table."""
    return {name: row for name, row in config.rows.items() if table in row.get("tables", (table,))}


def cost_name(row: str, num_frames: int) -> str:
    return f"cost-{row}-{num_frames}"


def cost_frames(config: Config, row: dict[str, Any]) -> tuple[int, ...]:
    return tuple(row.get("cost_frames", config.cost_frames))


def video_folders(config: Config, folder: Path, row: str) -> list[tuple[str, Path]]:
    """Prompts and folders of PNGs of a row's videos."""
    own = config.rows[row]
    prompts = config.prompts[: own.get("num_prompts", len(config.prompts))]
    return [(prompt, folder / "videos" / row / f"{k:03d}") for k, prompt in enumerate(prompts)]


def base_folders(config: Config, folder: Path) -> list[tuple[str, Path]]:
    """Prompts and folders of PNGs of the base model's own clips."""
    return [
        (prompt, folder / "videos" / "base" / f"{k:03d}-{j:02d}")
        for k, prompt in enumerate(config.prompts)
        for j in range(config.base_clips)
    ]


def ablation_folders(config: Config, folder: Path) -> dict[tuple[str, int], Path]:
    """Folders of PNGs by row and prompt; prompt changes count as one prompt."""
    places = {
        (row, k): folder / "videos" / "ablation" / f"{row}-{k}"
        for row in ablation_rows(config.rows)
        for k in range(min(ABLATION_PROMPTS, len(config.prompts)))
    }
    changes = {(way, -1): folder / "videos" / "ablation" / f"change-{way}" for way in CHANGES}
    return places | (changes if len(config.prompts) > 1 else {})


def _payload(config: Config, kind: str, **more: Any) -> dict[str, Any]:
    names = ("model", "device", "dtype", "sampling")
    return {"kind": kind} | {name: getattr(config, name) for name in names} | more


def _video(folder: Path, prompt: Any, num_frames: int, seed: int) -> dict[str, Any]:
    return {"folder": str(folder), "prompt": prompt, "num_frames": num_frames, "seed": seed}


def _quality(config: Config, folder: Path) -> list[Task]:
    base = {"method": "plain", "num_inference_steps": config.base_steps}
    clips = [
        _video(place, prompt, 16, config.seed + BASE_SEEDS + k)
        for k, (prompt, place) in enumerate(base_folders(config, folder))
    ]
    found = [Task("videos-base", f"{len(clips)} base clips", _payload(config, "videos", row=base, videos=clips))]
    for name, row in rows_with(config, "quality").items():
        count = row.get("num_frames", config.num_frames)
        videos = [
            _video(place, prompt, count, config.seed + k)
            for k, (prompt, place) in enumerate(video_folders(config, folder, name))
        ]
        title = f"{name}: {len(videos)} videos of {count} frames"
        found.append(Task(f"videos-{name}", title, _payload(config, "videos", row=row, videos=videos)))
    return found


def _ablation(config: Config, folder: Path) -> list[Task]:
    rows, places, found = ablation_rows(config.rows), ablation_folders(config, folder), []
    for name, row in rows.items():
        videos = [
            _video(place, config.prompts[k], config.ablation_frames, config.seed + k)
            for (own, k), place in places.items()
            if own == name
        ]
        found.append(Task(f"ablation-{name}", f"ablation: {name}", _payload(config, "videos", row=row, videos=videos)))
    for way in CHANGES:
        if (way, -1) in places:
            prompt = {"0": config.prompts[0], str(config.ablation_frames // 2): config.prompts[1]}
            video = _video(places[way, -1], prompt, config.ablation_frames, config.seed)
            payload = _payload(config, "videos", row=rows["DD+LP+LD"] | {"prompt_change": way}, videos=[video])
            found.append(Task(f"ablation-change-{way}", f"prompt change: {way}", payload))
    return found


def _cost(config: Config, folder: Path) -> list[Task]:
    return [
        Task(
            cost_name(name, count),
            f"cost of {count} frames by {name}",
            _payload(config, "cost", row=row, prompt=config.prompts[0], num_frames=count, seed=config.seed),
        )
        for name, row in rows_with(config, "cost").items()
        for count in cost_frames(config, row)
    ]


def _relative_mse(config: Config, folder: Path) -> list[Task]:
    payload = _payload(
        config,
        "relative-mse",
        partitions=list(config.partitions),
        count=config.mse_clips,
        clips=config.clips,
        seed=config.seed,
    )
    # Half precision would add errors of its own: the default is single precision on a CPU.
    return [Task("relative-mse", f"relative MSE on {config.mse_clips} clips", payload | {"dtype": None})]
