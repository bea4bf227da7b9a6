"""The recorded numbers: runs of the published code with random weights. Used where they lie; see `needs`."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch import Tensor

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "fixtures"
WITHIN = Path(__file__).resolve().parent / "data"


def load(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (weights widened to float32) and the `meta` of a recorded file, or skip the test."""
    for folder in (WITHIN, BESIDE):
        if (path := folder / f"{name}.safetensors").exists():
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                meta = json.loads(file.metadata()["meta"])
            return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, meta
    pytest.skip(f"recorded numbers {name}.safetensors are neither in tests/data nor in ../shared/fixtures")


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative distance in norm."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())
