"""Numbers for Prometheus, in its text format."""

import shutil
from collections.abc import Iterable

import psutil

from fifo_diffusion.studio.shared import Studio
from fifo_diffusion.version import __version__

PREFIX = "fifo_diffusion_"


def text(studio: Studio) -> str:
    """All numbers of a server, one a line."""
    glance = studio.board.glance()
    lines = [*_metric("info", "gauge", "The version that answers.", [(f'{{version="{__version__}"}}', 1)])]
    states = ("queued", "in_progress", "completed", "failed")
    lines += _metric(
        "runs", "gauge", "Runs by state.", [(f'{{status="{s}"}}', glance.counts.get(s, 0)) for s in states]
    )
    lines += _metric("frames_per_second", "gauge", "Frames made per second, in all.", [("", glance.rate)])
    if studio.workers is not None:
        about = [place.about() for place in studio.workers.places]
        names = [f'{{place="{number}",device="{each["device"]}"}}' for number, each in enumerate(about)]
        up = [(name, int(each["state"] == "running")) for name, each in zip(names, about, strict=True)]
        again = [(name, each["restarts"]) for name, each in zip(names, about, strict=True)]
        memory = [(name, each["memory"] or 0) for name, each in zip(names, about, strict=True)]
        lines += _metric("worker_up", "gauge", "Whether a worker runs.", up)
        lines += _metric("worker_restarts_total", "counter", "Workers that failed and were started again.", again)
        lines += _metric("worker_memory_bytes", "gauge", "Resident memory of workers.", memory)
    lines += _metric("event_listeners", "gauge", "Open streams of events.", [("", studio.listeners.count)])
    answered = [(f'{{status="{status}"}}', count) for status, count in sorted(studio.answered.items())]
    lines += _metric("http_requests_total", "counter", "Requests by status.", answered)
    lines += _metric(
        "memory_bytes", "gauge", "Resident memory of the server.", [("", psutil.Process().memory_info().rss)]
    )
    root = studio.runs.root
    free = shutil.disk_usage(root if root.exists() else root.absolute().parent).free
    lines += _metric("disk_free_bytes", "gauge", "Room where the runs are.", [("", free)])
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, help: str, values: Iterable[tuple[str, float]]) -> list[str]:
    name = PREFIX + name
    return [
        f"# HELP {name} {help}",
        f"# TYPE {name} {kind}",
        *(f"{name}{labels} {value:g}" for labels, value in values),
    ]
