"""`fifo-diffusion convert`: an original checkpoint as a folder that loads at once."""

import os
import shutil
from pathlib import Path

from fifo_diffusion.cli.interrupts import Interrupts
from fifo_diffusion.cli.progress import say
from fifo_diffusion.errors import UserError, usage, usage_errors
from fifo_diffusion.jobs.locks import locked
from fifo_diffusion.jobs.stop import Stopped
from fifo_diffusion.settings import DTYPES


def convert(checkpoint: str, folder: Path, dtype: str | None = None) -> int:
    """Write a checkpoint as a diffusers folder; the exit code. The folder is there whole, or not at all.

    Args:
        checkpoint: an original file, or a hub id or folder that holds one.
        folder: to be made; must not exist, its parent must.
        dtype: of the weights; None keeps that of the checkpoint.
    """
    folder = folder.absolute()
    if folder.exists():
        raise usage(f"{folder} exists already: give a new folder, or delete it first")
    if not folder.parent.is_dir() or not os.access(folder.parent, os.W_OK):
        raise UserError(f"cannot write {folder}: choose a folder that exists and that you may write into")
    unfinished = folder.with_name(f".{folder.name}.partial")
    with locked(folder), Interrupts() as interrupts:
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
            with interrupts.at_once():
                _write(checkpoint, unfinished, dtype)
                unfinished.rename(folder)
        except Stopped:
            say(f"\nstopped by {interrupts.why}: nothing was written")
            return interrupts.exit_code
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    print(folder)
    return 0


def _write(checkpoint: str, folder: Path, dtype: str | None) -> None:
    import torch

    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.models.loading.source import find_model

    quiet_libraries()
    with usage_errors():
        source = find_model(checkpoint)
        if not source.is_original:
            raise usage(f"{checkpoint} is a diffusers pipeline already: use it as it is")
        pipe = source.load(dtype=getattr(torch, DTYPES[dtype]) if dtype else None)
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    size = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    free = shutil.disk_usage(folder.parent).free
    if free < size:
        raise UserError(f"{folder.parent} has {free / 1e9:.1f} GB free, the converted model takes {size / 1e9:.1f}")
    say(f"writing {size / 1e9:.1f} GB")
    pipe.save_pretrained(folder)
