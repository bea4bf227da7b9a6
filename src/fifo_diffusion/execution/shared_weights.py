"""A denoiser's weights spread over ranks: each holds a share, and lends it when another computes.

`torch.distributed.fsdp.fully_shard` keeps a share of every weight on each rank, and gathers those of a block when it
works. That is a collective, for which all ranks must come; but they call the denoiser unequally often (a rank has more
windows than another, or frames for one of two denoisers only). So before a block is gathered the ranks agree, in a
meeting on Gloo, whose turn it is, and those with no use for it take part without computing:

* one call of a denoiser at a time: ranks that wish to begin the same one go together, others wait and lend;
* a rank that has come to a meeting of another kind (the end of an iteration, say) lends until all have come there.

So no rank waits for one that does not come, and what a rank computes does not depend on the others.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fifo_diffusion.errors import ArgumentError

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks

NOTHING = -1


class SharedWeights:
    """The weights of denoisers, spread over ranks; from here on, and for good.

    All ranks make theirs at the same time, of the same denoisers.

    Args:
        denoisers: whole, on any device.
        device: where they work. They come there a block at a time.

    Raises:
        ValueError: they cannot be spread.
    """

    def __init__(self, denoisers: Iterable[nn.Module], ranks: "Ranks", device: torch.device) -> None:
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:
            raise ArgumentError(*("shard_weights", True, "needs PyTorch 2.6 or newer")) from error
        from torch.distributed.device_mesh import DeviceMesh

        self._ranks = ranks
        self._parts: list[Any] = []
        self._begin: set[int] = set()
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where the weights go
        mesh = DeviceMesh.from_group(ranks.group, device.type)
        for denoiser in denoisers:
            self._begin.add(len(self._parts))
            blocks = list(blocks_of(denoiser))
            for part in [*blocks, denoiser]:
                part.requires_grad_(False)
                fully_shard(part, mesh=mesh, reshard_after_forward=True)
            self._parts += [denoiser, *blocks]
            # Else whoever works first would be taken for the whole: a block, where a rank only lends at first.
            denoiser._get_fsdp_state()._lazy_init()
        for number, part in enumerate(self._parts):
            part.register_forward_pre_hook(self._gathers(number), prepend=True)
        ranks.lend = self.lend

    def lend(self) -> None:
        """Take part in what other ranks gather, until none of them computes."""
        while (turn := self._turn(NOTHING)) is not None:
            self._gather(turn)
            self._parts[turn].reshard()

    def _gathers(self, number: int) -> Any:
        """A hook before a part works: when it returns, the part's weights are there."""

        def hook(*_: Any) -> None:
            with self._ranks.undisturbed():
                while (turn := self._turn(number)) != number:
                    assert turn is not None
                    self._gather(turn)
                    self._parts[turn].reshard()
                self._gather(number)

        return hook

    def _turn(self, wish: int) -> int | None:
        """The part that is gathered next; None where no rank wishes one."""
        wishes = {each for each in self._ranks.wishes(wish) if each != NOTHING}
        # Those that are within a call have begun it together, and end it before another begins.
        return min(wishes - self._begin or wishes, default=None)

    def _gather(self, turn: int) -> None:
        with self._ranks.connected():
            self._parts[turn].unshard()


def blocks_of(denoiser: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at once: the entries of a denoiser's outermost lists of modules that have weights."""
    for child in denoiser.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if next(block.parameters(), None) is not None)
        else:
            yield from blocks_of(child)


def is_spread(module: nn.Module) -> bool:
    """Whether a module's weights are."""
    with suppress(ImportError):
        from torch.distributed.fsdp import FSDPModule

        return isinstance(module, FSDPModule)
    return False


def local_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights that this process holds."""
    return sum(w.numel() * w.element_size() for w in map(_local, module.parameters()))


def _local(weight: Tensor) -> Tensor:
    return weight.to_local() if hasattr(weight, "to_local") else weight
