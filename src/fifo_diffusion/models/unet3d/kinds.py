"""Which of two families a U-Net is of, where the pipeline's class does not say it."""

from typing import Any

from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.models.videocrafter.model import VideoCrafterModel


def unet3d_model(pipe: Any, **known: Any) -> VideoModel:
    """A VideoCrafter U-Net in a pipeline of another family is recognised by its configuration."""
    return (VideoCrafterModel if "relative_positions" in pipe.unet.config else UNet3DModel)(pipe, **known)
