"""Guidance frame by frame, against diffusers' own formulas where all frames are one sample."""

import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeZeroStarGuidance
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import Guidance, QueueLayout
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny

SHAPE = (2, 4, 3, 5, 6)
GENERATOR = torch.Generator().manual_seed(0)
WITHOUT, WITH_TEXT = (torch.randn(SHAPE, generator=GENERATOR) for _ in range(2))
TIMES = torch.tensor([[10, 500, 900], [900, 10, 500]])
W = 6.0


def combined(rule, without=WITHOUT, with_text=WITH_TEXT, weight=W):
    return rule.combined(without, with_text, weight, TIMES)


def frame_by_frame(formula):
    """A formula of whole samples, for each frame by itself."""
    frames = [formula(a, b) for a, b in zip(WITHOUT.unbind(2), WITH_TEXT.unbind(2), strict=True)]
    return torch.stack(frames, 2)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def plain(a, b):
    return a + W * (b - a)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_rescaled_as_in_the_pipelines_of_diffusers(rescale):
    found = combined(Guidance(rescale=rescale))
    close(found, frame_by_frame(lambda a, b: rescale_noise_cfg(plain(a, b), b, rescale)))
    if rescale == 1:
        close(found.std((1, 3, 4)), WITH_TEXT.std((1, 3, 4)))
    if rescale:  # frames of a video that deviate differently are not taken together, as the stock formula does
        text = WITH_TEXT * torch.tensor([1.0, 2.0, 4.0])[:, None, None]
        stock = rescale_noise_cfg(plain(WITHOUT, text), text, rescale)
        assert (combined(Guidance(rescale=rescale), with_text=text) - stock).abs().max() > 0.1


@pytest.mark.parametrize(("eta", "threshold"), [(1.0, 0.0), (0.0, 0.0), (0.0, 4.0), (0.5, 9.0), (1.0, 4.0)])
@pytest.mark.parametrize("rescale", [0.0, 0.5])
def test_adaptive_projected_guidance_as_in_diffusers(eta, threshold, rescale):
    """The paper's form, from the prediction with the text on."""
    guider = AdaptiveProjectedGuidance(
        W - 1, None, threshold, eta=eta, guidance_rescale=rescale, use_original_formulation=True
    )
    found = combined(Guidance(method="apg", eta=eta, norm_threshold=threshold, rescale=rescale))
    close(found, frame_by_frame(lambda a, b: guider.forward(b, a).pred))
    same = (eta, threshold, rescale) == (1.0, 0.0, 0.0)
    assert same == torch.allclose(found, plain(WITHOUT, WITH_TEXT), rtol=1e-4, atol=1e-5)


def test_cfg_zero_as_in_diffusers():
    guider = ClassifierFreeZeroStarGuidance(W, zero_init_steps=0)
    guider.set_state(1, 10, torch.tensor(500))
    close(combined(Guidance(method="cfg-zero")), frame_by_frame(lambda a, b: guider.forward(b, a).pred))


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.25, 1.0), (0.0, 0.5), (0.3, 0.71)])
def test_the_interval_counts_steps_as_the_guiders_of_diffusers_do(start, stop):
    """Frames outside have the pass with the text, bit for bit."""
    guider, count = ClassifierFreeZeroStarGuidance(W, zero_init_steps=0, start=start, stop=stop), 20
    guided = []
    for step in range(count):
        guider.set_state(step, count, torch.tensor(0))
        guided += [count - 1 - step] if guider.num_conditions == 2 else []
    rule = Guidance((start, stop))
    assert sorted(guided) == list(rule.levels(count))
    levels = read_levels(tiny.scheduler(), count)
    time = levels.timestep[[3, 10, 19]].expand(2, -1)
    found = rule.at(levels).combined(WITHOUT, WITH_TEXT, W, time)
    for frame, level in enumerate((3, 10, 19)):
        expected = plain(WITHOUT, WITH_TEXT) if level in guided else WITH_TEXT
        assert torch.equal(found[:, :, frame], expected[:, :, frame])


def test_shares_of_steps_are_whole_steps():
    for count in (7, 29, 64, 100, 1000):
        for k in range(count):
            assert Guidance((k / count, 1.0)).levels(count) == range(count - k)
            assert Guidance((0.0, (k + 1) / count)).levels(count) == range(count - k - 1, count)


@pytest.mark.parametrize(
    "rule", [Guidance(rescale=0.7), Guidance(method="apg", norm_threshold=3.0), Guidance(method="cfg-zero")]
)
def test_each_frame_is_by_itself_and_nothing_stays_nothing(rule):
    """Of models with two transformers, each gives zero for the frames of the other."""
    weight = torch.tensor([6.0, 2.0, 4.0])[None, None, :, None, None]
    whole = combined(rule, weight=weight)
    for frame in range(3):
        part = slice(frame, frame + 1)
        alone = rule.combined(WITHOUT[:, :, part], WITH_TEXT[:, :, part], weight[:, :, part], TIMES[:, part])
        close(alone, whole[:, :, part])
    assert torch.equal(combined(rule, WITHOUT * 0, WITH_TEXT * 0), WITH_TEXT * 0)


def test_the_work_that_an_interval_saves():
    """f 16, n 4, lookahead: the lowest quarter of the levels are two of eight windows; a clip has its quarter too."""
    layout, rule = QueueLayout(16, 4), Guidance((0.0, 0.75))
    plain, gated = Cost(layout, 2), Cost(layout, 2, guidance=rule)
    assert (plain.per_latent, gated.per_latent) == (256, 256 * 14 / 16)
    assert (plain.clip, gated.clip) == (2 * 16 * 64, (2 * 48 + 16) * 16)
    assert Cost(layout, 2, guidance=Guidance()) == Cost(layout, 2, guidance=Guidance((0.0, 1.0)))
    assert Cost(layout, 2, guidance=Guidance()).fill == plain.fill == 2 * layout.fill_forwards > gated.fill
    high = Cost(layout, 2, guidance=Guidance((0.25, 1.0)))  # the context of windows further down does not count
    assert high.per_latent == gated.per_latent
