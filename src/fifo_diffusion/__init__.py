"""Endless video from short-clip text-to-video diffusion models (FIFO-Diffusion, arXiv 2405.11473)."""

__version__ = "0.1.0"
