"""A plan's model with its weights."""

from typing import TYPE_CHECKING

from fifo_diffusion.errors import usage_errors
from fifo_diffusion.jobs.plan import Plan, sampling

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.pipeline import FIFO


def load(plan: Plan, ranks: "Ranks | None" = None) -> "FIFO":
    """Load the model, as the plan's request wants it.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch

    from fifo_diffusion.pipeline import FIFO

    with usage_errors():
        fifo = FIFO.from_pretrained(
            plan.source,
            device=plan.device,
            dtype=getattr(torch, plan.dtype),
            offload=plan.request.settings.offload,
            offload_text_encoder=plan.request.settings.offload_text_encoder,
            group=ranks,
            shard_weights=plan.request.settings.shard_weights,
            **sampling(plan.request, plan.state),
        )
        if plan.request.settings.compile:
            fifo.model.compile()
    fps_condition = plan.kept["fps_condition"]
    if fps_condition:
        fifo.model.fps_condition = fps_condition  # type: ignore[attr-defined]
    return fifo
