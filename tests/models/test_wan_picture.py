"""Wan 2.2 TI2V-5B from a picture: the contract, and a video that grows out of a picture as its own pipeline's does."""

import numpy as np
import pytest
from PIL import Image

from fifo_diffusion import FIFO
from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import QueueLayout, clip_after
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import WanContract
from fifo_diffusion.testing.tiny_wan import euler, picture

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
SIZE = {"height": 64, "width": 64, "guidance_scale": 3.0}


class TestWanFromAPicture(WanContract):
    """Without one it is text to video, as by `WanPipeline` on the same parts."""

    height = width = 64
    without = VARIANT

    def make_pipe(self):
        return picture()

    def test_the_captured_loop_is_the_pipeline(self, pipe, model):
        """With a picture, by `clip_after`: also where the solver remembers earlier steps."""
        for scheduler in (pipe.scheduler, euler()):
            pipe.scheduler = scheduler
            start = self.latents(model, 1, seed=5)
            call = {"num_frames": model.timing.frames(self.frames), "num_inference_steps": 5, "output_type": "latent"}
            image = Image.fromarray(PICTURE)
            expected = pipe(image, prompt=[self.prompts[1]], latents=start.clone(), **call, **SIZE).frames
            condition = self.condition(model, (self.prompts[1],))
            *_, found = clip_after(
                self.levels(model, 5),
                lambda x, t, frames, condition=condition: model.predict(x, t, condition),
                lambda frame, level, use, start=start: start[:, :, frame],
                range(self.frames),
                model.encode(PICTURE[None]),
            )
            assert distance(found, expected) < TOLERANCE
            assert distance(found.roll(1, 2), expected) > 1e-2


def test_a_stream_begins_with_the_picture_as_the_autoencoder_shows_it():
    call = SIZE | {"window": 3, "num_partitions": 1, "lookahead": False, "seed": 1}
    with FIFO(picture()) as fifo:
        assert fifo.model.clean_start
        found = frames(fifo.stream("a cat", start=PICTURE, include_start=True, num_frames=14, **call))
        assert len(found) == 14
        assert same(found[:1], to_uint8(fifo.model.decoder().push(fifo.model.encode(PICTURE[None])))[0])
        other = frames(fifo.stream("a cat", start=255 - PICTURE, include_start=True, num_frames=14, **call))
        assert not same(found[1:], other[1:], 3)
        with pytest.raises(ValueError, match="give the picture as start instead of image"):
            fifo.stream("a cat", image=PICTURE, **call)


def test_what_it_costs():
    """One descent, and not three of twice the work."""
    layout = QueueLayout(4, 1, False)
    taught, other = (Cost(layout, 2, "known", given=1, one_descent=clean).clip for clean in (True, False))
    assert taught == 4 * 4 * 2
    assert other == 4 * taught
