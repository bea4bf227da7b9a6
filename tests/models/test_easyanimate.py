"""EasyAnimate: the contract, and what its autoencoder remembers."""

import pytest
import torch

from fifo_diffusion.models import registry
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import EasyAnimateContract
from fifo_diffusion.testing.tiny_easyanimate import pipeline


class TestEasyAnimate(EasyAnimateContract):
    """Norms over single frames, as in version 5.1."""


@pytest.mark.slow
class TestEasyAnimateOverTime(EasyAnimateContract):
    """Norms over the frames of a latent."""

    without = VARIANT

    def make_pipe(self):
        return pipeline({"spatial_group_norm": False}, num_layers=1, num_attention_heads=1)


def test_videos_may_be_decoded_in_turns_and_with_the_pipelines_own():
    """What is remembered of one is not seen by the other; and frames that nobody sees count."""
    pipe = pipeline()
    model = registry.wrap(pipe)
    x, y = torch.randn(2, 1, 4, 45, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    first, second, alone = model.decoder(), model.decoder(), model.decoder()
    expected, found = alone.push(x), []
    for k, part in enumerate(x.split(15, 2)):
        found.append(first.push(part))
        second.push(y[:, :, 15 * k : 15 * k + 3])
        with torch.no_grad():
            pipe.vae.decode(y[:, :, :2])
    assert torch.equal(torch.cat(found, 1), expected)
    skipping = model.decoder()
    count = skipping.skip(x[:, :, :43])
    assert skipping.state()["past"].shape[2] < 40
    assert distance(skipping.push(x[:, :, 43:]), expected[:, count:]) < TOLERANCE
