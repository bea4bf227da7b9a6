"""What tests a base-model family: the contract that every family passes, tiny random pipelines, recorded numbers.

    from fifo_diffusion.testing import VideoModelContract

`VideoModelContract` needs pytest, which the package does not install; all else works without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fifo_diffusion.testing.compare import TOLERANCE, distance, frames, same
    from fifo_diffusion.testing.contract import VideoModelContract

__all__ = ["TOLERANCE", "VideoModelContract", "distance", "frames", "same"]

_HOMES = {"VideoModelContract": "contract"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'compare')}"), name)
