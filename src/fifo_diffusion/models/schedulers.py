"""The name under which saved folders know this class."""

from fifo_diffusion.models.shared.schedulers import SignalScaleDDIMScheduler

__all__ = ["SignalScaleDDIMScheduler"]
