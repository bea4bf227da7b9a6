"""Endless video from short-clip text-to-video diffusion models (FIFO-Diffusion, arXiv 2405.11473)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fifo_diffusion.version import __version__ as __version__

if TYPE_CHECKING:
    from fifo_diffusion.jobs.runs.run import Run, Runs
    from fifo_diffusion.models.family_list import Family
    from fifo_diffusion.models.registry import register_family, supported_pipelines
    from fifo_diffusion.pipeline import FIFO
    from fifo_diffusion.streaming.state import RunState
    from fifo_diffusion.streaming.state import RunState as QueueState
    from fifo_diffusion.streaming.stream import FrameStream
    from fifo_diffusion.video import open_writer, write_video

__all__ = [
    "FIFO",
    "Family",
    "FrameStream",
    "QueueState",
    "Run",
    "RunState",
    "Runs",
    "open_writer",
    "register_family",
    "supported_pipelines",
    "write_video",
]

# Imported at first use: PyTorch and diffusers take seconds, and `fifo-diffusion --help` needs neither.
_HOMES = {
    "FIFO": "pipeline",
    "Family": "models.family_list",
    "FrameStream": "streaming.stream",
    "Run": "jobs.runs.run",
    "RunState": "streaming.state",
    "Runs": "jobs.runs.run",
    "register_family": "models.registry",
    "supported_pipelines": "models.registry",
    "open_writer": "video",
    "write_video": "video",
}
_EARLIER = {"QueueState": "RunState"}  # names that scripts may know


def __getattr__(name: str) -> Any:
    name = _EARLIER.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
