"""Hooks of the documentation site (`mkdocs.yml`): pages that lie elsewhere, and files that pages name."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changes.md": "CHANGELOG.md",
}
"""Page of the site: file of the repository."""

_LINK = re.compile(r"(\]\()([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie at the top, and each file outside the documentation that a page links to."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=_from_top((ROOT / source).read_text("utf-8"))))
    for path in sorted({path for text in _texts() for path in _outside(text)}):
        files.append(File.generated(config, f"files/{path}", content=(ROOT / path).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files outside the documentation lead to their copies, or to the page that is made of them."""
    return _LINK.sub(lambda found: found[1] + _to_site(found[2]), markdown)


def _to_site(target: str) -> str:
    if not target.startswith("../"):
        return target
    path = target.removeprefix("../")
    made = {source: page for page, source in PAGES.items()}
    return made.get(path) or f"files/{path}"


def _from_top(text: str) -> str:
    """A page of the repository's top, as if it lay in docs/."""

    def moved(found: re.Match[str]) -> str:
        target = found[2]
        if "://" in target or target.startswith(("mailto:", "#")):
            return found[0]
        return found[1] + (target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}")

    return _LINK.sub(moved, text)


def _texts() -> list[str]:
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    return pages + [_from_top((ROOT / source).read_text("utf-8")) for source in PAGES.values()]


def _outside(text: str) -> list[str]:
    """Files of the repository, outside the documentation, that a page links to."""
    paths = [target.removeprefix("../") for _, target in _LINK.findall(text) if target.startswith("../")]
    return [path for path in paths if path not in PAGES.values()]
