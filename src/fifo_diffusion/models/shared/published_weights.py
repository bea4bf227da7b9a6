"""Published weights under the names of a module of ours: every tensor used once, nothing missing, nothing left over."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def rename(
    what: str,
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    published_name: Callable[[str], str],
    unused: Iterable[str] = (),
) -> dict[str, Tensor]:
    """A state dict for `module`, made of the given tensors; strict about names and shapes.

    The tensors are the given ones or views of them: nothing is copied. Kernels of width 1 become the matrices of
    linear layers.

    Args:
        what: for people, in errors.
        module: may be on the meta device.
        tensors: published names to tensors.
        published_name: from a name in the module's state dict. "name:k" is the k-th third of a published tensor, along
            its first axis.
        unused: published names that must be there too, and have no place in the module.

    Raises:
        ValueError: names that are missing or unknown, or shapes that do not fit. One line.
    """
    wanted = {name: (*_part(published_name(name)), value.shape) for name, value in module.state_dict().items()}
    published = {source for source, _, _ in wanted.values()} | set(unused)
    refuse(what, "missing", published - tensors.keys())
    refuse(what, "unknown", tensors.keys() - published)

    converted, misshapen = {}, {}
    for name, (source, part, shape) in wanted.items():
        tensor = tensors[source]
        if tensor.dim() > len(shape) == 2 and tensor.shape[2:].numel() == 1:
            tensor = tensor.flatten(1)
        whole = shape if part is None else torch.Size([3 * shape[0], *shape[1:]])
        if tensor.shape != whole:
            misshapen[source] = f"{source} {tuple(tensor.shape)} instead of {tuple(whole)}"
        else:
            converted[name] = tensor if part is None else tensor.chunk(3)[part]
    refuse(what, "misshapen", misshapen.values())
    return converted


def assign(module: Module, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Module:
    """The module with these tensors as its parameters (not copied, but where `dtype` is another), for inference."""
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    module.load_state_dict(tensors, assign=True, strict=True)
    return module.eval()


def refuse(what: str, kind: str, names: Iterable[str]) -> None:
    """Raise one line naming the first few of `names`, if there are any."""
    names = sorted(names)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"{what}: {len(names)} {kind} tensor(s): {', '.join(names[:3])}{more}")


def _part(source: str) -> tuple[str, int | None]:
    name, _, part = source.partition(":")
    return name, int(part) if part else None
