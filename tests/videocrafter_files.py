"""What the tests of VideoCrafter's checkpoints share: files in the published format, whole and spoiled."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import published

SMALL = {"height": 32, "width": 32, "num_partitions": 1, "window": 4, "lookahead": False, "seed": 0}
UNET, VAE, TEXT = published.PREFIXES.values()
ONE = torch.zeros(1)


def part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = published.PREFIXES[name]
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def hollow(variant: str = "vc2") -> dict[str, Tensor]:
    """All names and tiny shapes, but next to nothing in the file; only the noise schedule has contents."""
    shapes = published.tiny_shapes(variant)
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()} | published.schedule(variant)


def without(*names: str, variant: str = "vc2") -> dict[str, Tensor]:
    return {name: tensor for name, tensor in hollow(variant).items() if not name.startswith(names)}


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refused(path: Path, message: str, error: type[Exception] = ValueError, **kwargs) -> None:
    with pytest.raises(error, match=message) as caught:
        find_model(path).load(**kwargs)
    assert "\n" not in str(caught.value)


def files_behind(module: nn.Module) -> set[str]:
    """The files that the memory of a module's parameters is mapped from."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not tell which files are mapped")
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        spans.append((*(int(x, 16) for x in span.split("-")), name[0] if name else ""))
    places = [parameter.data_ptr() for parameter in module.parameters()]
    return {name for start, end, name in spans if any(start <= place < end for place in places)}
