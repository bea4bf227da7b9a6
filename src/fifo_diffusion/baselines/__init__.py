"""The baselines that FIFO-Diffusion is compared with, on the same base models and through the same writers."""

from fifo_diffusion.baselines.methods import BASELINES, Baseline
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.baselines.stream import BaselineStream, baseline_stream

__all__ = ["BASELINES", "Baseline", "BaselineSettings", "BaselineStream", "baseline_stream"]
