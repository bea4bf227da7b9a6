"""`fifo-diffusion doctor`: what is here, what is missing, what to type."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from fifo_diffusion.text import gigabytes, one_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUIRED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow", "av")
REQUIRED += ("psutil", "tqdm", "typer")
MODULES = {"pillow": "PIL"}
CODECS = {"libx264": ".mp4", "libvpx-vp9": ".webm"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` says what to type where something is wrong."""

    what: str
    found: str
    fix: str = ""
    required: bool = True

    def __str__(self) -> str:
        mark = "ok" if not self.fix else "FIX" if self.required else "note"
        return f"{mark:<5} {self.what:<13} {self.found}" + (f"  ->  {self.fix}" if self.fix else "")


def report() -> tuple[list[Finding], bool]:
    """All findings, and whether everything that is required is there."""
    findings = [_python(), *(_package(name) for name in REQUIRED)]
    broken = {finding.what for finding in findings if finding.fix}
    findings.append(_peft())
    if "torch" not in broken:
        findings += _devices()
    if "av" not in broken:
        findings += _codecs()
    findings += [_toybox(loads=not broken), _folder()]
    return findings, not any(finding.fix and finding.required for finding in findings)


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    fix = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Finding("python", found, fix)


def _package(name: str) -> Finding:
    try:
        import_module(MODULES.get(name, name))
        found, needed = version(name), _needed(name)
    except PackageNotFoundError:
        return Finding(name, "there, version unknown")
    except ImportError as error:
        reason = "missing" if isinstance(error, ModuleNotFoundError) else f"broken ({' '.join(str(error).split())})"
        return Finding(name, reason, f"{sys.executable} -m pip install --force-reinstall {name}")
    if needed is None or needed.specifier.contains(found, prereleases=True):
        return Finding(name, found)
    return Finding(name, f"{found}, not {needed.specifier}", f'{sys.executable} -m pip install -U "{needed}"')


def _needed(name: str) -> "Requirement | None":
    """What fifo-diffusion says that it needs of a package; None where it is used without being installed."""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(text) for text in requires("fifo-diffusion") or ()]
    except PackageNotFoundError:
        return None
    return next((need for need in needs if need.name == name), None)


def _peft() -> Finding:
    try:
        return Finding("peft", version("peft"), required=False)
    except PackageNotFoundError:
        return Finding(
            "peft", "missing (only needed for LoRA)", f"{sys.executable} -m pip install peft", required=False
        )


def _devices() -> Iterator[Finding]:
    import torch

    from fifo_diffusion.execution.precision import computes

    threads = torch.get_num_threads()
    words = [platform.machine(), f"{os.cpu_count()} cores", f"{threads} thread{'s' * (threads != 1)}", _memory()]
    words += [] if computes(torch.bfloat16) else ["float32 only (bfloat16 is many times slower)"]
    yield Finding("cpu", ", ".join(words))
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU")
    elif not torch.cuda.is_available():
        nvidia = shutil.which("nvidia-smi") is not None
        fix = "install a PyTorch build with CUDA: https://pytorch.org/get-started" if nvidia else ""
        what = (
            "there, but this PyTorch cannot use it" if nvidia else "none: toybox runs well without, other models slowly"
        )
        yield Finding("gpu", what, fix, required=False)


def _memory() -> str:
    try:
        import psutil
    except ImportError:  # which has a line of its own
        return "memory unknown"
    memory = psutil.virtual_memory()
    return f"{memory.total / 2**30:.1f} GiB of memory, {memory.available / 2**30:.1f} free"


def _codecs() -> Iterator[Finding]:
    import av

    for codec, suffix in CODECS.items():
        there = codec in av.codecs_available
        fix = "" if there else f"{sys.executable} -m pip install --force-reinstall av"
        # One missing codec leaves the other formats.
        yield Finding(codec, f"for {suffix}" if there else f"missing: no {suffix}", fix, required=suffix == ".mp4")


def _toybox(loads: bool) -> Finding:
    """`loads`: whether the packages that it needs are there, so that it can be tried."""
    from fifo_diffusion.toybox import PIPELINE_FOLDER

    files = [PIPELINE_FOLDER / "model_index.json"]
    files += [PIPELINE_FOLDER / p / "diffusion_pytorch_model.safetensors" for p in ("unet", "vae")]
    files += [PIPELINE_FOLDER / "unet" / "diffusion_pytorch_model.diagonal.safetensors"]  # of toybox-diagonal
    missing = [str(file.relative_to(PIPELINE_FOLDER)) for file in files if not file.is_file()]
    if missing:
        fix = f"install fifo-diffusion again: {sys.executable} -m pip install --force-reinstall --no-deps SOURCE_FOLDER"
        return Finding("toybox", f"incomplete: no {', '.join(missing)}", fix)
    size = sum(file.stat().st_size for file in PIPELINE_FOLDER.rglob("*") if file.is_file())
    embedded = f"embedded, {gigabytes(size)}"
    if not loads:
        return Finding("toybox", f"{embedded}, not tried")
    try:
        _use_toybox()
    except Exception as error:
        what = one_line(f"{type(error).__name__}: {error}")
        fix = f'{sys.executable} -m pip install -U --force-reinstall "transformers>=5.0" "diffusers>=0.41,<1"'
        return Finding("toybox", f"{embedded}, but it does not work ({what})", fix)
    return Finding("toybox", f"{embedded}, works")


def _use_toybox() -> None:
    """Text, the denoiser and the autoencoder of both embedded models: one tiny frame each."""
    from fifo_diffusion import FIFO
    from fifo_diffusion.jobs.libraries import quiet_libraries

    quiet_libraries()
    for name in ("toybox", "toybox-diagonal"):
        with FIFO.from_pretrained(name, device="cpu") as fifo:
            next(fifo.stream("a red ball", seed=0, window=2, num_partitions=1, height=16, width=16, start="noise"))


def _folder() -> Finding:
    here = os.getcwd()
    if not os.access(here, os.W_OK):
        return Finding("this folder", f"{here} cannot be written", "cd to a folder of yours, or give -o with a path")
    return Finding("this folder", f"{here}, {gigabytes(shutil.disk_usage(here).free)} free")
