"""What a pipeline was told when it was loaded of the few steps that it was distilled to."""

from typing import Any

_MARK = "_fifo_few_steps"


def mark_few_steps(pipe: Any, sigmas: tuple[float, ...] | None = None) -> None:
    """Say that a pipeline is of few steps, whatever its scheduler is, and which `sigmas` they are, where the scheduler
    that it has now does not give them by itself."""
    setattr(pipe, _MARK, (pipe.scheduler, sigmas))


def is_marked(pipe: Any) -> bool:
    """Whether somebody said so."""
    return hasattr(pipe, _MARK)


def marked_sigmas(pipe: Any) -> tuple[float, ...] | None:
    """The sigmas that were said, while the scheduler is still the one that they are for."""
    scheduler, sigmas = getattr(pipe, _MARK, (None, None))
    return sigmas if scheduler is pipe.scheduler else None
