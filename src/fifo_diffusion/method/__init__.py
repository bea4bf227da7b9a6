"""The paper: queue layout, noise levels, noise, one loop. Integers and tensors only.

Legend of tensor names: B videos (or rows of a batch), C latent channels, F frames, H and W latent height and width,
L levels.
"""

from fifo_diffusion.method.anchored import AnchoredLayout
from fifo_diffusion.method.banded import BandedLayout
from fifo_diffusion.method.cached import CachedLayout
from fifo_diffusion.method.clip import clip_after, complete_clip, sample_clip
from fifo_diffusion.method.draws import choose_tail
from fifo_diffusion.method.fifo import Predict, Run, diagonal_denoising, one_by_one
from fifo_diffusion.method.guidance import Guidance
from fifo_diffusion.method.layout import Bands, Layout, Step, Window
from fifo_diffusion.method.layouts import layout_of
from fifo_diffusion.method.levels import NoiseLevels
from fifo_diffusion.method.noise import Noise, SeededNoise, level_number, to_device, with_uses
from fifo_diffusion.method.partitions import QueueLayout
from fifo_diffusion.method.queue import Queue
from fifo_diffusion.method.tail import Tail

__all__ = [
    "AnchoredLayout",
    "BandedLayout",
    "Bands",
    "CachedLayout",
    "Guidance",
    "Layout",
    "Noise",
    "NoiseLevels",
    "Predict",
    "Queue",
    "QueueLayout",
    "Run",
    "SeededNoise",
    "Step",
    "Tail",
    "Window",
    "choose_tail",
    "clip_after",
    "complete_clip",
    "diagonal_denoising",
    "layout_of",
    "level_number",
    "one_by_one",
    "sample_clip",
    "to_device",
    "with_uses",
]
