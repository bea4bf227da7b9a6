"""Where the JSON of a measurement goes, and what it says about where it was taken."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fifo_diffusion.evaluation.hardware import hardware, resident_mb

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"

__all__ = ["RESULTS", "hardware", "resident_mb", "write"]


def write(name: str, measured: dict[str, Any]) -> Path:
    """`docs/results/NAME.json`, with hardware and date."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware(), **measured}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {path}")
    return path
