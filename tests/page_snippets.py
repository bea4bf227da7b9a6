"""The blocks of code of README and docs/, and what is typed in them."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import typer

from fifo_diffusion.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

STAND_INS = ("fifo-diffusion", "torchrun", "sbatch", "make", "pip", "python", "curl", "mpv", "docker")
"""Programs of the pages: what is typed for them is written down, and nothing is run."""
WRITTEN_DOWN = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" $'\\1' >> "$TYPED"
"""  # without a line feed it is one write, so that what stands in a pipe does not mix


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    page: str
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(name: str) -> list[Block]:
    """Those in Python or for a shell, in order."""
    text = PAGES[name].read_text("utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.S | re.M)
    return [
        Block(name, match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in found
        if match[1] in ("python", "bash")
    ]


def typed(block: Block, folder: Path) -> list[list[str]]:
    """The words of each command of the block, as a shell reads them; files that it writes itself are in the folder."""
    programs, log = folder / ".programs", folder / ".typed"
    programs.mkdir(exist_ok=True)
    log.write_bytes(b"")
    for name in STAND_INS:
        (programs / name).write_text(WRITTEN_DOWN)
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TYPED": str(log)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=folder, env=environment, check=True)
    words = log.read_bytes().decode().split("\0\1\0")[:-1]
    return [command.split("\0") for command in words]


def taken(arguments: list[str]) -> None:
    """The command's own parser takes these arguments of `fifo-diffusion`.

    Raises:
        click's UsageError: it does not.
    """
    command, context = typer.main.get_command(app), None
    names = ["fifo-diffusion", *arguments]
    while hasattr(command, "get_command"):
        context = command.make_context(names[0], names[1:], parent=context)
        names = [*context._protected_args, *context.args]
        assert names, f"a subcommand is missing: {shlex.join(arguments)}"
        command = command.get_command(context, names[0])
        assert command is not None, f"no such command: {names[0]}"
    command.make_context(names[0], names[1:], parent=context)
