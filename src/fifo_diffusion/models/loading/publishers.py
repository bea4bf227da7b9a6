"""What publishers sample their checkpoints with, where the files do not say it."""

import logging
from pathlib import Path
from typing import Any

from fifo_diffusion.models.loading.checkpoints import checkpoint_of
from fifo_diffusion.models.shared.scheduler_choice import OF_SIZE, OfSize, flow_shift_of, with_flow_shift

logger = logging.getLogger(__name__)


def settle_shift(
    pipe: Any, name: str, shift: float, large: float | None = None, guidance: tuple[float, float] | None = None
) -> None:
    """Give a pipeline that has just been loaded its publisher's flow shift, and say so.

    Args:
        name: of the checkpoint.
        shift: for the pipeline's usual size; `large`: at 720p.
        guidance: of two experts, that at high and that at low noise: said here, used where the caller says no other.
    """
    found = flow_shift_of(pipe.scheduler)
    if found is None:
        return
    if found != shift:
        pipe.scheduler = with_flow_shift(pipe.scheduler, shift)
        more = "" if guidance is None else f" and guidance {guidance[0]:g} at high noise, {guidance[1]:g} at low"
        logger.warning(
            "flow shift %g%s, as the publishers of %s sample (its files: shift %g)", shift, more, name, found
        )
    if large is not None:
        setattr(pipe, OF_SIZE, OfSize(pipe.scheduler, large))


def settle_shift_of(pipe: Any, name: str) -> None:
    """`settle_shift` for the checkpoint of a name, where its publisher's is known."""
    known = checkpoint_of(name)
    if known and known.flow_shift:
        both = [known.defaults.get(key) for key in ("guidance_scale", "guidance_scale_2")]
        guidance = None if both[1] is None else (both[0], both[1])
        settle_shift(pipe, Path(name).name, known.flow_shift, known.large_shift, guidance)


def hint_shift(pipe: Any, name: str, shift: float) -> None:
    """Say it where a pipeline that somebody else has loaded has another flow shift than its publisher's."""
    found = flow_shift_of(pipe.scheduler)
    if found not in (None, shift):
        logger.warning(
            "flow shift %g; the publishers of %s sample with %g: pipe.scheduler = %s.from_config("
            "pipe.scheduler.config, %s=%g)",
            *(found, name, shift, type(pipe.scheduler).__name__),
            *("flow_shift" if "flow_shift" in pipe.scheduler.config else "shift", shift),
        )
