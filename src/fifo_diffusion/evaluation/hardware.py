"""What every measurement says about where it was taken, and how much memory a process has used."""

import os
import platform
import resource
from pathlib import Path
from typing import Any


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, devices and versions."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **versions(),
    }


def versions() -> dict[str, str]:
    """What must be the same for the same numbers."""
    import diffusers
    import torch

    from fifo_diffusion import __version__

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "fifo_diffusion": __version__,
    }


def resident_mb() -> float:
    """Resident memory of this process in MB (Linux)."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb() -> float:
    """The most resident memory that this process has had, in MB.

    Read from /proc, because `getrusage` of a new process begins with what its parent had. Elsewhere than on Linux, by
    `getrusage` all the same.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        unit = 2**20 if platform.system() == "Darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
