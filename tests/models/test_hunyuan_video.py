"""HunyuanVideo: the contract, and its autoencoder's tiles of time as they come."""

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.hunyuan_video.decoder import hunyuan_decoder
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import HunyuanVideoContract
from fifo_diffusion.testing.tiny_hunyuan_video import pipeline, vae


class TestHunyuanVideo(HunyuanVideoContract):
    """As published: told its guidance."""

    def test_what_the_transformer_is_told_of_guidance_counts(self, model):
        x, t = self.latents(model, 1), self.rising(model)
        call = {"height": 32, "width": 32}
        low, high = (model.predict(x, t, model.condition(["a cat"], guidance_scale=g, **call)) for g in (1.0, 6.0))
        assert model.condition(["a cat"], **call).passes == 1
        assert distance(low, high) > 100 * TOLERANCE


@pytest.mark.slow
class TestHunyuanVideoOfOneHead(HunyuanVideoContract):
    """Two layers, and an autoencoder with attention."""

    without = VARIANT

    def make_pipe(self):
        return pipeline({"mid_block_add_attention": True}, num_layers=2, num_attention_heads=1)


@pytest.mark.parametrize("count", [3, 5, 8, 12])
def test_tiles_of_time_come_as_the_autoencoder_makes_them(count):
    """Also after frames that nobody sees, after a saved state, and at the end of a video."""
    made, timing = vae(), LatentTiming(1, 4)
    x = torch.randn(2, 4, count, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = (made.decode(x / 0.7).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    decoders = [hunyuan_decoder(made, timing) for _ in range(3)]
    once, skipping, resumed = decoders
    found = torch.cat([part for part in (*map(once.push, x.split(1, 2)), once.flush()) if part.numel()], 1)
    assert distance(found, whole) < TOLERANCE
    seen = skipping.skip(x[:, :, : count - 2])
    resumed.load_state(skipping.state())
    assert resumed.state()["latents"].shape[2] < 8
    for decoder in (skipping, resumed):
        rest = [decoder.push(x[:, :, count - 2 :]), decoder.flush()]
        assert distance(torch.cat([part for part in rest if part.numel()], 1), whole[:, seen:]) < TOLERANCE


def test_limits():
    with pytest.raises(ValueError, match="load the text-to-video version"):
        FIFO(pipeline(image_condition_type="token_replace"))
