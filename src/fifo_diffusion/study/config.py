"""What an evaluation consists of: one JSON file that makes every number again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import UserError, usage
from fifo_diffusion.evaluation.whole_files import write_text
from fifo_diffusion.method_list import baseline_rows
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.study.checks import ROW_KEYS, check
from fifo_diffusion.text import one_line

PROMPTS = (
    "a red panda eating bamboo in a forest, close-up",
    "waves rolling onto a sandy beach at sunset, seen from above",
    "a steam train crossing a stone bridge in autumn",
    "a corgi running through shallow water, slow motion",
    "a busy street at night in the rain, neon lights reflected",
    "a hot-air balloon drifting over green valleys in the morning",
    "a potter shaping a clay bowl on a turning wheel",
    "a school of fish circling in clear blue water",
    "a sailing boat in a storm, painted in oil",
    "a time-lapse of clouds moving over snowy mountains",
    "a cyclist riding along a road lined with poplars",
    "a candle flame flickering in a dark room, close-up",
)
"""For models other than toybox."""

TOYBOX_FAMILIES = ("shape", "robot", "shape", "landscape", "robot", "shape")

LARGEST = 4 * 2**20  # bytes of a configuration


@dataclass(frozen=True)
class Config:
    """An evaluation.

    Attributes:
        model, device, dtype: as for `generate`; None: its defaults.
        sampling: what the model is sampled by: `scheduler` and `flow_shift`, as for `generate`.
        tables: which of `TABLES`.
        rows: {name: {"method": ..., arguments of its stream ...}}. A row may have its own num_frames, num_prompts,
            cost_frames and tables; with ranks, that many processes make its videos for the table of cost (FIFO only).
        prompts: one video each for every row.
        num_frames: of each video.
        seed: video k has seed + k; base clips count on from 10,000.
        base_clips, base_steps: clips that the base model samples for each prompt, and its steps.
        cost_frames: lengths that are timed.
        partitions, mse_clips, clips: of the table of relative errors; `clips` is a folder of videos, None: the world
            of toybox.
        ablation_frames: of each video of the ablation, of two prompts.
        features: TorchScript file of I3D; None: the small features that come with the package.
        clip_model: folder of a CLIP model, for the CLIP score; None: no score.
        classifier: TorchScript file of a video classifier (UCF-101), for the inception score; None: no score.
        versions: with which this was made.
    """

    model: str
    tables: tuple[str, ...]
    rows: dict[str, dict[str, Any]]
    prompts: tuple[str, ...]
    num_frames: int = 192
    seed: int = 0
    base_clips: int = 8
    base_steps: int = 50
    cost_frames: tuple[int, ...] = (128, 256, 512)
    partitions: tuple[int, ...] = (1, 2, 4)
    mse_clips: int = 16
    clips: str | None = None
    ablation_frames: int = 96
    features: str | None = None
    clip_model: str | None = None
    classifier: str | None = None
    device: str | None = None
    dtype: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(asdict(self)))

    def same_work(self, other: "Config") -> list[str]:
        """Names of what differs, apart from tables and versions, which do not change what a part of it is."""
        mine, theirs = self.to_json(), other.to_json()
        return [name for name in mine if name not in ("tables", "versions") and mine[name] != theirs[name]]

    def only(self, names: list[str]) -> "Config":
        """The same with some of the rows.

        Raises:
            UserError: no such row.
        """
        for name in names:
            if name not in self.rows:
                raise usage(f"--methods: there is no {name}; there are {', '.join(self.rows)}")
        return replace(self, rows={name: self.rows[name] for name in names})

    @classmethod
    def read(cls, path: Path) -> "Config":
        """From a file that `to_json` was written to, or that was written by hand.

        Raises:
            UserError: unreadable, or something in it is unknown or missing.
        """
        try:
            if not path.is_file():
                raise usage(f"--config {path}: there is no such file")
            if path.stat().st_size > LARGEST:
                raise usage(f"--config {path} has {path.stat().st_size / 2**20:.0f} MB, which is no configuration")
            values = json.loads(path.read_bytes())
        except OSError as error:
            raise usage(f"--config {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise usage(f"--config {path} is not JSON: {one_line(str(error))[:120]}") from error
        return cls.from_json(values, str(path))

    @classmethod
    def from_json(cls, values: Any, name: str) -> "Config":
        """Check and complete plain values; `name` is for messages.

        Raises:
            UserError: something is unknown, missing, or of another type or size than it must be.
        """
        if not isinstance(values, Mapping):
            raise usage(f"--config {name} must hold an object with model, prompts and so on")
        known = [f.name for f in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise usage(f"--config {name}: {unknown[0][:40]!r} is not known; known are {', '.join(sorted(known))}")
        for key in ("model", "tables", "rows", "prompts"):
            if not values.get(key):
                raise usage(f"--config {name}: {key} is missing")
        try:
            check(values)
        except ValueError as error:
            raise usage(f"--config {name}: {error}") from error
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})

    def write(self, path: Path) -> None:
        try:
            write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def default_rows(
    num_partitions: int | None, steps: int | None, gpus: int = 0, preset: str | None = None
) -> dict[str, dict[str, Any]]:
    """FIFO as a preset has it, or with lookahead, and without; on several GPUs where there are several; all baselines.

    Args:
        num_partitions: of FIFO; None: the preset's, or the paper's.
        steps: of the baselines; None: their published ones.
        gpus: of this machine.
        preset: of FIFO.
    """
    given = {} if num_partitions is None else {"num_partitions": num_partitions}
    fifo = {"method": "fifo", **given, "preset": preset} if preset else {"method": "fifo", "num_partitions": 4} | given
    ahead = {} if preset else {"lookahead": True}
    most = 2 * (num_partitions or PRESETS[preset].values["num_partitions"] if preset else fifo["num_partitions"])
    counts = [ranks for ranks in (2, 4, 8) if ranks <= min(gpus, most)]
    several = {f"fifo-{n}-ranks": fifo | ahead | {"ranks": n, "tables": ["cost"]} for n in counts}
    more = {} if steps is None else {"num_inference_steps": steps}
    return {
        "fifo": fifo | ahead,
        "fifo-no-lookahead": fifo | {"lookahead": False},
        **several,
        **{name: row | more for name, row in baseline_rows().items()},
    }


def ablation_rows(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The method, part by part: the diagonal alone, in partitions, with lookahead. Other arguments are those of the
    first row of FIFO."""
    fifo = next((row for row in rows.values() if row["method"] == "fifo"), {"method": "fifo"})
    fifo = {name: value for name, value in fifo.items() if name not in ROW_KEYS}
    partitioned = fifo | {"num_partitions": max(2, fifo.get("num_partitions", 4))}
    return {
        "DD": fifo | {"num_partitions": 1, "lookahead": False},
        "DD+LP": partitioned | {"lookahead": False},
        "DD+LP+LD": partitioned | {"lookahead": True},
    }


def default_prompts(model: str, count: int = 12, seed: int = 5) -> tuple[str, ...]:
    """Held-out captions of its world for toybox, else prompts of our own."""
    if not model.startswith("toybox"):
        return PROMPTS[:count]
    import numpy as np

    from fifo_diffusion.toybox.world import caption, draw_labels

    rng, drawn = np.random.default_rng(seed), {}
    for family in (TOYBOX_FAMILIES * count)[:count]:
        for _ in range(100):  # there are only a few landscapes that were never trained on
            labels = draw_labels(rng, family, held=True)
            if tuple(labels.values()) not in drawn:
                break
        drawn[tuple(labels.values())] = caption(labels, rng)
    return tuple(drawn.values())
