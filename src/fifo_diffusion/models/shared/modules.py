"""A module's parts and precision, asked for before every prediction: as PyTorch and diffusers answer, but quickly."""

from collections.abc import Iterator
from typing import Any

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
