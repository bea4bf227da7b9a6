"""Recorded numbers: tensors of runs of published code with random weights, and notes on how they were made."""

import json
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDERS = (CHECKOUT / "tests" / "data", CHECKOUT.parent / "shared" / "fixtures")
"""Where this project keeps its recorded files; no wheel has them."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a recorded file, widened to float32, and the JSON under `meta` in its header."""
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        meta = json.loads(file.metadata()["meta"])
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, meta


def find(name: str, folders: Sequence[Path] = FOLDERS) -> Path:
    """The first file of that name in `folders`.

    Raises:
        unittest.SkipTest: it is in none of them; pytest skips the test.
    """
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise unittest.SkipTest(f"recorded file {name} is in none of {', '.join(map(str, folders))}")


def load(name: str, folders: Sequence[Path] = FOLDERS) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and `meta` of `name`.safetensors: see `find` and `read`."""
    return read(find(f"{name}.safetensors", folders))
