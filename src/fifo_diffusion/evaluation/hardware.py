"""What every measurement says about where it was taken, and how much memory a process has used."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch


def hardware() -> dict[str, Any]:
    """Processor, cores, memory, devices and versions."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **versions(),
    }


def versions() -> dict[str, str]:
    """What must be the same for the same numbers."""
    import diffusers
    import torch

    from fifo_diffusion.version import __version__

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "fifo_diffusion": __version__,
    }


def resident_mb(device: "torch.device | None" = None) -> float:
    """Memory of this process in MB: what it has allocated on that GPU; without one, what is resident."""
    if _is_cuda(device):
        import torch

        return torch.cuda.memory_allocated(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20


def peak_mb(device: "torch.device | None" = None) -> float:
    """The most memory that this process has had, in MB: allocated on that GPU; without one, resident.

    On Linux from /proc, because `getrusage` of a new process begins with what its parent had.
    """
    if _is_cuda(device):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    if (peak := getattr(psutil.Process().memory_info(), "peak_wset", None)) is not None:  # Windows
        return peak / 2**20
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        import resource  # macOS and the BSDs

        unit = 2**20 if platform.system() == "Darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak(device: "torch.device | None" = None) -> None:
    """Let `peak_mb` count from here: on that GPU; without one, where the system can (Linux)."""
    if _is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _is_cuda(device: "torch.device | None") -> bool:
    return device is not None and device.type == "cuda"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
