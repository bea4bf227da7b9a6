"""A report as one HTML file that needs no other: tables, pictures and short videos inside."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { border: 1px solid #ccc; padding: .25em .6em }
th { background: #f3f3f3; text-align: left } td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% } figure { display: inline-block; margin: .4em } figcaption { font-size: 12px; color: #555 }
video { image-rendering: pixelated; min-width: 128px } .error { color: #a00 } .note { color: #555 }
"""


@dataclass
class Section:
    """A part of the report.

    Attributes:
        title, notes: what it is, and how it was measured.
        table: rows of equal keys; None in a cell stays empty.
        pictures: PNG files.
        videos: (caption, mp4 file).
        errors: one line each.
    """

    title: str
    notes: list[str] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    videos: list[tuple[str, Path]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def write_html(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the report."""
    body = "".join(map(_section, sections))
    text = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    path.write_text(f"{text}<style>{STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>\n")


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f'<p class="error">{html.escape(error)}</p>' for error in section.errors]
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in section.notes]
    if section.table:
        parts.append(_table(section.table))
    parts += [
        f'<p><img src="{_data(path, "image/png")}" alt="{html.escape(path.stem)}"></p>' for path in section.pictures
    ]
    for caption, path in section.videos:
        source = f'<video src="{_data(path, "video/mp4")}" autoplay loop muted playsinline></video>'
        parts.append(f"<figure>{source}<figcaption>{html.escape(caption)}</figcaption></figure>")
    return "".join(parts)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = ("".join(_cell(row.get(name)) for name in names) for row in rows)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = {None: "", True: "yes", False: "no"}.get(value, value) if not isinstance(value, str) else value
        return f"<td>{html.escape(str(text))}</td>"
    return f'<td class="number">{value:,.4g}</td>' if isinstance(value, float) else f'<td class="number">{value:,}</td>'


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
