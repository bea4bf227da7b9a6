"""What torchrun tells its processes of each other: rank 0 writes and talks, the others compute with it."""

import os
import re
from contextlib import suppress

from fifo_diffusion.errors import usage
from fifo_diffusion.text import shortened

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
            join_torchrun().abort(str(error) or type(error).__name__)
