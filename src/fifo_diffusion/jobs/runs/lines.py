"""Files of JSON objects, one a line, to which several processes append and which are never changed."""

import json
import os
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import UserError


def append(path: Path, record: dict[str, Any]) -> int:
    """Add a record.

    Returns:
        where the next one begins, in bytes, unless somebody else appends.

    Raises:
        OSError: the disk is full, or the file cannot be written. A part of the line may be there: readers pass over it.
    """
    line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    with open(path, "a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # of a process that was killed, or a full disk
                line = b"\n" + line
        if file.write(line) != len(line):
            raise OSError(28, "No space left on device", str(path))
        return file.tell()


def read(path: Path, since: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole records.

    Args:
        path: the file; one that is not there has none.
        since: where to begin, in bytes, as an earlier call has told.

    Returns:
        the records, and where the next one will begin. Damaged lines are passed over, and one that is still being
        written is left for the next call.

    Raises:
        UserError: the file may not be read, or not now.
    """
    lines = _lines(path, since)
    return [record for record, _ in lines if record is not None], lines[-1][1] if lines else since


def with_ends(path: Path, since: int = 0) -> list[tuple[dict[str, Any], int]]:
    """Whole records, each with the place in bytes where the next one begins; see `read`."""
    return [(record, end) for record, end in _lines(path, since) if record is not None]


def _lines(path: Path, since: int) -> list[tuple[dict[str, Any] | None, int]]:
    try:
        with open(path, "rb") as file:
            file.seek(since)
            data = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    found = []
    for line in data.split(b"\n")[:-1]:
        since += len(line) + 1
        found.append((_record(line), since))
    return found


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
