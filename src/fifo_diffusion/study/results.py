"""What an evaluation has found so far, and where it is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.study.config import Config
from fifo_diffusion.study.tasks import video_folders

if TYPE_CHECKING:
    from fifo_diffusion.evaluation.report import Section


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


def picture(results: Results, section: "Section", make: Callable[[], Any], name: str) -> None:
    """Draw a figure into the section, as PNG and SVG; without matplotlib say so once."""
    try:
        from fifo_diffusion.evaluation import figures

        section.pictures.append(figures.save(make(), results.folder / "figures", name))
    except ImportError:
        line = "figures need matplotlib: pip install matplotlib, then the same command again"
        if line not in results.errors:
            results.errors.append(line)
