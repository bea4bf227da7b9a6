"""The name under which saved folders know this class."""

from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer

__all__ = ["OpenSoraPlanTransformer"]
