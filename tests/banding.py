"""What the tests of banded passes share: layouts, models and what they are given, and bands that are wrong."""

import torch

from fifo_diffusion.method import BandedLayout, QueueLayout
from fifo_diffusion.models import registry
from fifo_diffusion.models.banded.passes import TEMPORAL
from fifo_diffusion.testing import tiny_animatediff, tiny_videocrafter

LAYOUTS = [
    QueueLayout(4, 3, False),
    QueueLayout(5, 2, False),
    BandedLayout(4, 3),
    BandedLayout(4, 3, band="windows"),
    BandedLayout(5, 3, band="windows"),
    BandedLayout(5, 2, band=0),
    BandedLayout(6, 2, band=5),
]
PROMPTS = ("a red ball", "a dog on the sea by night")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def wrap(pipe):
    model = registry.wrap(pipe)
    model.frames = 4  # no more than tests need
    return model


def videocrafter1():
    return tiny_videocrafter.pipeline("vc1_1024")


def animatediff_xl():
    return tiny_animatediff.pipeline(xl=True)


def condition(model, prompts=PROMPTS[:1], **more):
    return model.condition(prompts, height=16, width=16, **{"guidance_scale": 3.0} | more)


def queue(model, layout, rows=1, seed=0):
    """Latents and timesteps of all padded slots."""
    timestep = model.levels(layout.levels).timestep[list(layout.slot_levels)]
    return random(rows, 4, layout.size, 8, 8, seed=seed), timestep.expand(rows, -1)


def temporal_block(pipe):
    return next(m for m in pipe.unet.modules() if isinstance(m, TEMPORAL)).transformer_blocks[0]


def shifted(layout):
    """Bands moved by one frame where that leaves them in the queue, and the frame in its band."""
    bands = []
    for p, band in enumerate(layout.bands):
        moved = (range(band.start + by, band.stop + by) for by in (-1, 1))
        bands.append(next((b for b in moved if p in b and b.start >= 0 and b.stop <= layout.size), band))
    return tuple(bands)
