"""The tensors in a file of published weights, of whatever kind it is. No code in the file is ever run."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.models.loading.parts import out_of_memory

DEEPSPEED_PREFIX = "_forward_module."
LARGEST_SURPLUS = 2**30  # bytes: tensors that are one number over and over take less in a file


class CheckpointError(ValueError):
    """A file that is no checkpoint, or not a whole one. One line that names it."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU, mapped from the file where its format allows. Runs no code of it.

    Takes a Lightning checkpoint (`state_dict`), a DeepSpeed one (`module`, names with its prefix), one of Latte's (the
    averaged weights, `ema`) or a bare dict.

    Raises:
        ValueError: the file is damaged, is none, or holds more than tensors and plain values.
    """
    content = _content(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    elif isinstance(content, dict) and isinstance(content.get("ema"), dict):
        content = content["ema"]
    elif isinstance(content, dict) and isinstance(content.get("module"), dict):
        content = {name.removeprefix(DEEPSPEED_PREFIX): value for name, value in content["module"].items()}
    if isinstance(content, list):
        what = f"{path} is no checkpoint of a model but a list of tensors: if it is T2V-Turbo's, give it as "
        raise ValueError(Message(what, Setting("lora"), ", with VideoCrafter2 as the model"))
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} is no checkpoint of a model: it holds no state_dict of tensors")
    return _checked(path, content)


def read_list(path: Path) -> list[Tensor]:
    """The tensors of a file that holds a list of them, as LoRAs in the way of cloneofsimo's `lora` are saved. Mapped
    from the file where its format allows; no code of it is run.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    content = _content(path)
    if not isinstance(content, list) or not content or not all(isinstance(v, Tensor) for v in content):
        raise ValueError(f"{path} holds no list of tensors")
    return list(_checked(path, {str(k): tensor.detach() for k, tensor in enumerate(content)}).values())


# -- inside ------------------------------------------------------------------------------------------------------------


def _content(path: Path) -> Any:
    """Whatever a file holds, if reading it runs no code."""
    start = b""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise CheckpointError(f"{path} only points to the checkpoint: fetch it with `git lfs pull`")
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as tensors:
                return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        zipped = zipfile.is_zipfile(path)
        if start.startswith(b"PK") and not zipped:
            raise CheckpointError(f"{path} is cut off: download it again")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(_unsafe(path, str(error))) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever its bytes lead to
        if out_of_memory(error):
            raise
        if not start.startswith((b"PK", b"\x80")) and path.suffix != ".safetensors":
            raise ValueError(_unsafe(path, "")) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or no checkpoint ({reason}): download it again") from error


def _checked(path: Path, tensors: dict[Any, Tensor]) -> dict[str, Tensor]:
    """The tensors, if they are plain ones with names that a model can have, no larger than the file may mean."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or len(name) > 500 or re.search(r"\d{5}", name):
            raise CheckpointError(f"{path} is damaged or no checkpoint (a tensor is called {str(name)[:40]!r})")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise CheckpointError(f"{path} is no checkpoint of a model: {name} is no plain tensor")
    size, stored = sum(t.numel() * t.element_size() for t in tensors.values()), path.stat().st_size
    if size > 8 * stored + LARGEST_SURPLUS:
        raise CheckpointError(f"{path} is damaged: its tensors would take {size:,} bytes, and it has {stored:,}")
    return tensors


def _unsafe(path: Path, reason: str) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", reason)
    if asked is None:
        return (
            f"{path} is neither a PyTorch checkpoint nor safetensors: give a diffusers folder, or an original "
            "VideoCrafter checkpoint"
        )
    return (
        f"{path} wants to run code when it is loaded ({asked[1]}), which is refused: if you trust whoever made it, "
        "keep its tensors alone in a new file, in Python: torch.save({'state_dict': torch.load(OLD, weights_only=False)"
        "['state_dict']}, NEW)"
    )
