"""Tiny random pipelines of VideoCrafter2 and VideoCrafter1."""

from typing import Any

from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler
from fifo_diffusion.models.videocrafter.unet import VideoCrafterUNet
from fifo_diffusion.testing import tiny

VARIANTS = {
    "vc2": {"fps_condition": True, "temporal_convolutions": True, "relative_positions": 0},
    "vc1_512": {"fps_condition": False, "temporal_convolutions": False, "relative_positions": 2},
    "vc1_1024": {"fps_condition": True, "temporal_convolutions": False, "relative_positions": 2},
}
SCALE_END = {"vc2": 0.7, "vc1_1024": 0.3}


def pipeline(variant: str = "vc2", **unet_changes: Any) -> VideoCrafterPipeline:
    """A tiny random pipeline of a variant."""
    parts = tiny.components(kind=VideoCrafterUNet, **unet_changes | VARIANTS[variant])
    if variant in SCALE_END:
        parts["scheduler"] = SignalScaleDDIMScheduler(signal_scale_end=SCALE_END[variant])
    pipe = VideoCrafterPipeline(**parts, fps_condition=8.0 if VARIANTS[variant]["fps_condition"] else None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def light(variant: str = "vc2") -> VideoCrafterPipeline:
    """For tests that run many steps."""
    return pipeline(variant, **tiny.LIGHT)
