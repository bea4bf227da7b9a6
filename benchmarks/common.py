"""Where the JSON of a measurement goes, and what it says about where it was taken."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fifo_diffusion.evaluation.hardware import forget_peak, hardware, peak_mb, resident_mb

DOCS = Path(os.environ.get("FIFO_DIFFUSION_DOCS") or Path(__file__).resolve().parents[1] / "docs")
"""Where results go; tests name another folder."""
RESULTS, IMAGES = DOCS / "results", DOCS / "images"

__all__ = ["IMAGES", "RESULTS", "forget_peak", "hardware", "peak_mb", "resident_mb", "write"]


def write(name: str, measured: dict[str, Any]) -> Path:
    """`docs/results/NAME.json`, with hardware and date."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"date": datetime.now(UTC).date().isoformat(), "hardware": hardware(), **measured}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {path}")
    return path
