"""Low frequencies of the newest frame in the noise that enters: variance, and nothing at all at strength 0."""

import pytest
import torch

from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, diagonal_denoising
from fifo_diffusion.method.tail import coherent_noise
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny

SHAPE = (4, 8, 6)
NOISE = SeededNoise([5], SHAPE)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_noise_keeps_its_variance(strength):
    """Whatever the latent, in all; at every frequency, where the latent is white."""
    fresh = normal(4000, *SHAPE[:1], 1, *SHAPE[1:])
    for newest in (normal(4000, *SHAPE, seed=1), 30 + normal(4000, *SHAPE, seed=1).cumsum(-1)):
        found = coherent_noise(fresh, newest, strength)
        assert found.pow(2).mean() == pytest.approx(1, abs=0.01)
    white = torch.fft.fft2(coherent_noise(fresh, normal(4000, *SHAPE, seed=1), strength), norm="ortho")
    assert white.abs().pow(2).mean((0, 1, 2)).sub(1).abs().max() < 0.1


def test_strength_says_how_much_of_the_latent_is_in_it():
    fresh, newest = normal(500, *SHAPE[:1], 2, *SHAPE[1:]), normal(500, *SHAPE, seed=1)
    assert (coherent_noise(fresh, newest, 1e-6) - fresh).abs().max() < 1e-4
    kept = []
    for strength in (0.2, 0.6, 1.0):
        found = coherent_noise(fresh, newest, strength)
        means = found.mean((-1, -2)), newest.mean((-1, -2))[:, :, None].expand(-1, -1, 2)
        kept.append(float(torch.corrcoef(torch.stack([m.flatten() for m in means]))[0, 1]))
        fine = found - found.mean((-1, -2), keepdim=True)
        assert (fine * newest[:, :, None]).mean().abs() < 0.1
    assert kept == pytest.approx([0.2, 0.6, 1.0], abs=0.08)
    assert not torch.equal(found[:, :, 0], found[:, :, 1])  # frames of a group differ


@pytest.mark.parametrize("b", [1, 4, 8])
def test_every_frame_enters_with_the_one_before_it(b):
    """Looked at in the loop: the first new ones with the last known one, later ones with the newest in the queue."""
    layout, levels = QueueLayout(4, 4, True, b), read_levels(tiny.scheduler(), 16 // b)
    videos = []
    for strength in (0.0, 0.8):
        queue = Queue.from_known(layout, NOISE, normal(1, *SHAPE[:1], 4, *SHAPE[1:]), 0, coherent_tail=strength)
        loop = diagonal_denoising(queue, layout, levels, lambda x, t, g: torch.sin(x), NOISE)
        for _ in range(6):
            before = queue.latents_BCFHW[:, :, -1]
            next(loop)
            newest = (
                queue.latents_BCFHW[:, :, -b - 1] if queue.frames(layout)[-b - 1] >= 0 else queue.known_BCFHW[:, :, -1]
            )
            fresh = torch.stack([NOISE(g, layout.levels) for g in queue.frames(layout)[-b:]], 2)
            expected = coherent_noise(fresh, newest, strength) if strength else fresh
            assert torch.equal(queue.latents_BCFHW[:, :, -b:], expected)
            assert not torch.equal(before, newest)
        videos.append(queue.latents_BCFHW)
    assert (videos[0] - videos[1]).abs().max() > 0.1
