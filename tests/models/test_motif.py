"""Motif-Video: the contract."""

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.further_transformers import MotifVideoContract
from fifo_diffusion.testing.tiny_motif import pipeline


class TestMotifVideo(MotifVideoContract):
    """Levels shifted by the size of the video, and blocks that decode."""


@pytest.mark.slow
class TestMotifVideoWithoutDecoder(MotifVideoContract):
    """A fixed shift, and no attention to the text by itself."""

    without = VARIANT

    def make_pipe(self):
        config = {"enable_text_cross_attention_dual": False, "enable_text_cross_attention_single": False}
        pipe = pipeline(num_decoder_layers=0, num_attention_heads=1, **config)
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
        return pipe


def test_limits():
    with pytest.raises(ValueError, match="joins several latents"):
        FIFO(pipeline(patch_size_t=2))
