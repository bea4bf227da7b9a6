"""Tiny random pipelines of AnyFlow."""

from typing import Any

from diffusers import AnyFlowPipeline, AnyFlowTransformer3DModel, FlowMapEulerDiscreteScheduler

from fifo_diffusion.testing.tiny_wan import components


def pipeline(scheduler: Any = None, **changes: Any) -> AnyFlowPipeline:
    """32x32 pixels, latents of 4 channels at 4x4; `changes` are the transformer's."""
    scheduler = scheduler or FlowMapEulerDiscreteScheduler(shift=5.0)
    pipe = AnyFlowPipeline(**components(scheduler, AnyFlowTransformer3DModel, **changes))
    pipe.set_progress_bar_config(disable=True)
    return pipe
