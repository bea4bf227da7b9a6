"""A module's parts and precision, asked for before every prediction, and how its weights lie in memory."""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet3DConditionModel
from torch import nn


def submodules(module: nn.Module) -> Iterator[nn.Module]:
    """`module.modules()`, in no particular order. (That one keeps a name for each, which nobody asks for here.)"""
    seen, waiting = {id(module)}, [module]
    while waiting:
        part = waiting.pop()
        yield part
        for child in part._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


def dtype_of(part: Any) -> Any:
    """`part.dtype`; None where there is no such thing.

    diffusers walks through all named modules of a model to find it, because a hook may cast weights to another
    precision: that takes milliseconds, at each call. Without hooks it is that of the first weight.
    """
    if isinstance(part, nn.Module) and not getattr(part, "_keep_in_fp32_modules", None):
        first = next(part.parameters(), None)
        plain = first is not None and first.is_floating_point()
        if plain and not any("_diffusers_hook" in vars(inner) for inner in submodules(part)):
            assert first is not None
            return first.dtype
    return getattr(part, "dtype", None)


def text_tokenizer(tokenizer: Any) -> Any:
    """What makes tokens of texts: of a processor of texts and pictures (Kandinsky 5) its tokenizer."""
    return getattr(tokenizer, "tokenizer", tokenizer)


def lay_out_for_cpu(pipe: DiffusionPipeline) -> None:
    """Keep the weights of two-dimensional convolutions with their channels last, as the kernels of a CPU want them.

    What passes between the layers follows. Otherwise each convolution reorders its input and its output. Only in the
    classes where it was measured (docs/performance.md); results differ by rounding.
    """
    for part in pipe.components.values():
        if isinstance(part, AutoencoderKL | UNet3DConditionModel):
            for inner in submodules(part):
                if isinstance(inner, nn.Conv2d):
                    inner.to(memory_format=torch.channels_last)
