"""Latte for class labels."""

from fifo_diffusion.models.class_latte.pipeline import ClassLatteTransformer

__all__ = ["ClassLatteTransformer"]
