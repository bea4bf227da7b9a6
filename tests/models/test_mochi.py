"""Mochi: the contract, and time that runs the other way."""

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from fifo_diffusion.models import registry
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.transformers import MochiContract
from fifo_diffusion.testing.tiny_mochi import pipeline


class TestMochi(MochiContract):
    """The scheduler as published, with inverted sigmas."""


@pytest.mark.slow
class TestMochiOfOneHead(MochiContract):
    """And a shift of the levels."""

    without = VARIANT

    def make_pipe(self):
        scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True, shift=2.0)
        return pipeline(scheduler, num_layers=1, num_attention_heads=1, attention_head_dim=24)


@pytest.mark.parametrize("count", [2, 7, 28])
def test_levels_are_the_pipelines_turned_round(count):
    """Noise goes down as everywhere, and the transformer is told how clean a frame is."""
    levels = registry.wrap(pipeline()).levels(count)
    assert bool((levels.sigma.diff() > 0).all())
    assert (1000 * levels.alpha).tolist() == pytest.approx(levels.timestep.tolist(), abs=1e-3)
    assert levels.sigma[-1] == 1
    assert levels.sigma[count - count // 2].item() == pytest.approx(1 - 0.025 * (1 - 1 / (count // 2)), abs=0.02)
