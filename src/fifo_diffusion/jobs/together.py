"""A request under torchrun: one video on several processes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.jobs.request import Request

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks


@contextmanager
def joined(request: Request) -> Iterator["Ranks | None"]:
    """The processes that make this video together, or None. All get rank 0's outputs and seeds. Where one fails, the
    others are told."""
    with together() as ranks:
        if ranks is not None:
            request.videos = ranks.broadcast_object(request.videos)
        yield ranks


@contextmanager
def together() -> Iterator["Ranks | None"]:
    """The processes that torchrun started together, or None. Where one fails, the others are told."""
    if torchrun_rank() is None:
        yield None
        return
    from fifo_diffusion.execution.ranks import join_torchrun

    ranks = join_torchrun()
    try:
        yield ranks
    except BaseException as error:
        ranks.abort(str(error) or type(error).__name__)
        raise
    ranks.close()
    import torch.distributed as dist

    with suppress(Exception):
        dist.destroy_process_group()
