"""The name under which saved folders know this class."""

from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler

__all__ = ["SignalScaleDDIMScheduler"]
