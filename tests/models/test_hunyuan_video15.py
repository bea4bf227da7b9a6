"""HunyuanVideo 1.5: the contract, and attention over time that is bounded."""

import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance

from fifo_diffusion import FIFO
from fifo_diffusion.models.hunyuan_video15.decoder import HunyuanVideo15Decoder
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.further_transformers import HunyuanVideo15Contract
from fifo_diffusion.testing.tiny_hunyuan_video15 import pipeline, vae


class TestHunyuanVideo15(HunyuanVideo15Contract):
    """As published: patches of one latent."""


@pytest.mark.slow
class TestHunyuanVideo15OfOneHead(HunyuanVideo15Contract):
    """Two layers, and words in quotes."""

    without = VARIANT
    prompts = ('a red ball "by day"', 'a dog on the sea "by night"')

    def make_pipe(self):
        return pipeline(num_layers=2, num_attention_heads=1)


def decoded(made, x, memory):
    decoder = HunyuanVideo15Decoder(made, memory)
    return torch.cat([*map(decoder.push, x.split(1, 2))], 1)


def test_decoding_is_exact_as_long_as_attention_sees_all():
    """Later frames come the nearer to the whole decoding the more it sees; what it no longer sees has no effect."""
    made = vae()
    x = torch.randn(1, 4, 7, 1, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = (made.decode(x / 0.7).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    assert distance(decoded(made, x, 6), whole) < TOLERANCE
    errors = [distance(decoded(made, x, memory), whole) for memory in (1, 5)]
    assert 0.5 > errors[0] > 2 * errors[1] > 100 * TOLERANCE
    assert distance(decoded(made, x, 3)[:, :13], whole[:, :13]) < TOLERANCE


def test_tiles_of_height_and_width_are_the_autoencoders_own():
    made = vae()
    x = torch.randn(1, 4, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    plain = decoded(made, x, 3)
    made.enable_tiling(32, 32, 2, 2, 0.5)
    with torch.no_grad():
        whole = (made.decode(x / 0.7).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    found = decoded(made, x, 3)
    assert distance(found, whole) < TOLERANCE
    assert distance(found, plain) > 100 * TOLERANCE


def test_a_stream_goes_on_from_what_it_remembers():
    """Of a video longer than that."""
    made = vae(layers_per_block=0)
    x = torch.randn(1, 4, 45, 1, 1, generator=torch.Generator().manual_seed(0))
    once, skipping, resumed = [HunyuanVideo15Decoder(made, 4) for _ in range(3)]
    expected = once.push(x)
    seen = skipping.skip(x[:, :, :43])
    resumed.load_state(skipping.state())
    assert skipping.state()["past"].shape[2] < 43
    for decoder in (skipping, resumed):
        assert distance(decoder.push(x[:, :, 43:]), expected[:, seen:]) < TOLERANCE


def test_guidance_is_the_guiders_or_what_is_given():
    with FIFO(pipeline(ClassifierFreeGuidance(guidance_scale=6.0))) as fifo:
        assert fifo.model.defaults["guidance_scale"] == 6.0
        size = {"height": 32, "width": 32}
        assert fifo.model.condition(["a cat"], **size).guidance_scale == 6.0
        assert fifo.model.condition(["a cat"], guidance_scale=2.0, **size).guidance_scale == 2.0
        assert fifo.model.condition(["a cat"], guidance_scale=1.0, **size).passes == 1
        assert fifo.pipe.guider.guidance_scale == 6.0
    with pytest.raises(ValueError, match=r"is AdaptiveProjectedGuidance.*: pipe\.guider = Classifier"):
        FIFO(pipeline(AdaptiveProjectedGuidance()))


def test_limits():
    with pytest.raises(ValueError, match="joins several latents"):
        FIFO(pipeline(patch_size_t=2))
