"""The names under which saved folders know these classes."""

from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler, T2VTurboScheduler

__all__ = ["SignalScaleDDIMScheduler", "T2VTurboScheduler"]
