"""The paper: queue layout, noise levels, noise, one loop. Integers and tensors only.

Legend of tensor names: B videos (or rows of a batch), C latent channels, F frames, H and W latent height and width,
L levels.
"""

from fifo_diffusion.method.layout import Bands, Lookahead, QueueLayout, Window
from fifo_diffusion.method.levels import NoiseLevels, to_device
from fifo_diffusion.method.loop import Queue, Share, complete_clip, diagonal_denoising, sample_clip
from fifo_diffusion.method.noise import Noise, SeededNoise

__all__ = [
    "Bands",
    "Lookahead",
    "Noise",
    "NoiseLevels",
    "Queue",
    "QueueLayout",
    "SeededNoise",
    "Share",
    "Window",
    "complete_clip",
    "diagonal_denoising",
    "sample_clip",
    "to_device",
]
