"""Low frequencies of the newest frame in the noise that enters: variance, and nothing at all at strength 0."""

import pytest
import torch

from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, Tail, diagonal_denoising
from fifo_diffusion.method.tail import coherent_noise, towards_reference
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
        queue = Queue.from_known(layout, NOISE, normal(1, *SHAPE[:1], 4, *SHAPE[1:]), 0, tail=Tail(strength))
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


ALPHA, SIGMA = 0.6, 0.8


def reference(count=4000):
    """x0 and e of one reference, the same for every draw of the newest frame."""
    shape = (1, *SHAPE)
    clean = 2 * normal(*shape, seed=7) + torch.tensor([3.0, -2.0, 0.5, 0.0])[:, None, None]
    return clean.expand(count, -1, -1, -1), normal(*shape, seed=8).expand(count, -1, -1, -1)


def noised(clean, seed=1):
    return ALPHA * clean + SIGMA * normal(*clean.shape, seed=seed)


@pytest.mark.parametrize("tail", [Tail(1, 0.4), Tail(1, 1.0), Tail(1, 0.0, 0.5), Tail(1, 0.3, 1.0)])
def test_a_reference_keeps_the_variance_too(tail):
    clean, drawn = reference()
    newest = noised(clean + torch.tensor([1.0, 5.0, 0.0, -4.0])[:, None, None])
    source = towards_reference(newest, clean, drawn, ALPHA, SIGMA, tail)
    found = coherent_noise(normal(4000, SHAPE[0], 1, *SHAPE[1:]), source, 1.0)
    assert found.pow(2).mean() == pytest.approx(1, abs=0.01)


def test_the_reference_has_its_share_of_what_enters():
    """Looked at in white latents, whose frequencies are all alike."""
    newest, drawn = normal(4000, *SHAPE, seed=1), normal(4000, *SHAPE, seed=2)
    for share in (0.2, 0.5, 1.0):
        source = towards_reference(newest, 0 * newest, drawn, 0.0, 1.0, Tail(1, share))
        found = coherent_noise(normal(4000, SHAPE[0], 1, *SHAPE[1:]), source, 1.0).mean((-2, -1))[:, :, 0]
        of = [
            float(torch.corrcoef(torch.stack([found.flatten(), x.mean((-2, -1)).flatten()]))[0, 1])
            for x in (newest, drawn)
        ]
        assert of == pytest.approx([(1 - share) ** 0.5, share**0.5], abs=0.05)


def test_adain_moves_the_colours_to_what_the_reference_has_at_that_level():
    """Channel by channel; once the newest frame is of the reference's colours, it stays as it is, but for its noise."""
    clean, drawn = reference(2000)
    shifted = noised(1.7 * clean + 4)
    levels = torch.stack([noised(clean, seed) for seed in range(20, 24)])
    mean, deviation = levels.mean((0, 1, -2, -1)), levels.std((-2, -1), correction=0).pow(2).mean((0, 1)).sqrt()
    for factor in (0.25, 1.0):
        moved = towards_reference(shifted, clean, drawn, ALPHA, SIGMA, Tail(1, 0.0, factor))
        before, after = (x.mean((0, -2, -1)) for x in (shifted, moved))
        torch.testing.assert_close(after, before + factor * (mean - before), rtol=0, atol=0.05)
    torch.testing.assert_close(moved.std((-2, -1), correction=0).mean(0), deviation, rtol=0.02, atol=0)
    assert (moved.mean((-2, -1)).std(0)).max() < 1e-5  # of no noise at all
    fine = (x - x.mean((-2, -1), keepdim=True) for x in (shifted, moved))
    a, b = (torch.nn.functional.normalize(x.flatten(2), dim=-1) for x in fine)
    assert (a * b).sum(-1).min() > 0.999  # the picture itself is the newest frame's


@pytest.mark.parametrize("tail", [Tail(0.8, 0.5), Tail(0.8, 0.0, 0.5)])
def test_the_reference_is_the_first_known_frame(tail):
    """In the loop: at the level of the newest frame, under the noise that it would have entered with."""
    layout, levels = QueueLayout(4, 4, True, 2), read_levels(tiny.scheduler(), 8)
    known = normal(1, *SHAPE[:1], 4, *SHAPE[1:])
    queue = Queue.from_known(layout, NOISE, known, 0, tail=tail)
    loop = diagonal_denoising(queue, layout, levels, lambda x, t, g: torch.sin(x), NOISE)
    for _ in range(3):
        next(loop)
        fresh = torch.stack([NOISE(g, layout.levels) for g in queue.frames(layout)[-2:]], 2)
        at = float(levels.alpha[6]), float(levels.sigma[6])
        newest, others = queue.latents_BCFHW[:, :, -3], (known[:, :, 0], NOISE(-4, layout.levels))
        expected = coherent_noise(fresh, towards_reference(newest, *others, *at, tail), 0.8)
        torch.testing.assert_close(queue.latents_BCFHW[:, :, -2:], expected)
        plain = coherent_noise(fresh, newest, 0.8)
        assert (plain - expected).abs().max() > 0.05
