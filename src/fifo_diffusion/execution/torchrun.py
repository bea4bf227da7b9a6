"""`generate` under torchrun: rank 0 writes and talks, the others compute with it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fifo_diffusion.errors import usage
from fifo_diffusion.text import shortened

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.jobs.request import Request

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def torchrun_rank() -> int | None:
    """This process's rank among those that torchrun started together; None without torchrun, or alone."""
    if not all(name in os.environ for name in TORCHRUN):
        return None
    return _number("RANK") if _number("WORLD_SIZE") > 1 else None


def local_gpu() -> str:
    """The GPU that torchrun means for this process."""
    return "cuda" if torchrun_rank() is None else f"cuda:{_number('LOCAL_RANK')}"


def _number(name: str) -> int:
    text = os.environ[name]
    if not re.fullmatch(r"\d{1,9}", text):
        raise usage(
            f"{name} in the environment is {shortened(repr(text))} and no number: start ranks with torchrun, "
            f"or type unset {' '.join(TORCHRUN)}"
        )
    return int(text)


def tell_others(error: BaseException) -> None:
    """Where a rank fails before it has joined the others, they would wait for it."""
    if torchrun_rank() is not None:
        from fifo_diffusion.execution.ranks import join_torchrun

        with suppress(Exception):
            join_torchrun().leave(str(error) or type(error).__name__)


@contextmanager
def joined(request: "Request") -> Iterator["Ranks | None"]:
    """The processes that make this video together, or None. All get rank 0's outputs and seeds; all but rank 0 are
    quiet. Where one fails, the others are told."""
    if torchrun_rank() is None or "dry_run" in request.given:
        yield None
        return
    from fifo_diffusion.execution.ranks import join_torchrun

    ranks = join_torchrun()
    try:
        request.videos = ranks.of_first(request.videos)
        if ranks.rank:
            request.given["quiet"] = True
        yield ranks
    except BaseException as error:
        ranks.leave(str(error) or type(error).__name__)
        raise
    ranks.close()
    import torch.distributed as dist

    with suppress(Exception):
        dist.destroy_process_group()
