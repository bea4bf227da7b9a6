"""The baselines that FIFO-Diffusion is compared with, on the same base models and through the same writers.

`method_list.BASELINES` names them; `baselines.stream.baseline_stream` makes their videos. Nothing in this file imports
PyTorch.
"""

from importlib import import_module
from typing import Any

from fifo_diffusion.method_list import BASELINES

__all__ = ["BASELINES", "sampler_of"]


def sampler_of(method: str) -> type[Any]:
    """The `Sampler` that makes a baseline's videos."""
    module, name = BASELINES[method].sampler.split(":")
    return getattr(import_module(module), name)
