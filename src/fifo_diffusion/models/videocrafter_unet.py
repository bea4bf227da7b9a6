"""The name under which saved folders know this class."""

from fifo_diffusion.models.videocrafter.unet import VideoCrafterUNet

__all__ = ["VideoCrafterUNet"]
