"""Relative error: exact cases."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fifo_diffusion.evaluation.relative_mse import (
    RelativeError,
    diagonal_errors,
    frames_passed,
    moving_errors,
    reference_errors,
    relative_error,
)
from fifo_diffusion.method import NoiseLevels
from layouts import queue_layout


class FrameByFrame:
    """Looks at one frame at a time: diagonal windows cannot matter to it."""

    def predict(self, latents_BCFHW, timestep_BF, condition):
        return 0.5 * latents_BCFHW + 1e-3 * timestep_BF[:, None, :, None, None]


class Neighbourly(FrameByFrame):
    """Adds an error wherever the frames of a window are at different levels."""

    def predict(self, latents_BCFHW, timestep_BF, condition):
        spread = (timestep_BF.max(1).values - timestep_BF.min(1).values)[:, None, None, None, None]
        return super().predict(latents_BCFHW, timestep_BF, condition) + 0.01 * spread


@pytest.fixture
def setting():
    def make(partitions, lookahead, frames_per_level=1):
        layout = queue_layout(4, partitions, lookahead, frames_per_level)
        timestep = torch.linspace(20, 980, layout.levels).round().long()
        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[timestep]
        target = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
        return NoiseLevels.diffusion(timestep, alphas, target), layout

    return make


@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_a_model_that_does_not_mix_frames_has_ratio_one(setting, partitions):
    levels, layout = setting(partitions, True)
    generator = torch.Generator().manual_seed(0)
    clips, noise = (torch.randn(3, 2, 2 + layout.slots, 4, 4, generator=generator) for _ in range(2))
    layouts = [layout, setting(partitions, False)[1]]
    for result in relative_error(FrameByFrame(), levels, layouts, clips, noise, None):
        assert result.ratio_of_norms() == pytest.approx((1, 0), abs=1e-6)
        assert result.ratio_of_errors() == pytest.approx((1, 0), abs=1e-6)
        assert result.curve() == pytest.approx([1] * layout.slots, abs=1e-6)


@pytest.mark.parametrize(("frames_per_level", "one"), [(4, True), (2, False), (1, False)])
def test_frames_at_equal_levels_have_ratio_one(setting, frames_per_level, one):
    """Where a window's frames are all at one level it is the reference, also for a model that mixes frames."""

    class Mixing(FrameByFrame):
        def predict(self, latents_BCFHW, timestep_BF, condition):
            own = super().predict(latents_BCFHW, timestep_BF, condition)
            return own + 0.3 * (own * torch.linspace(0, 1, own.shape[2])[:, None, None]).mean(2, keepdim=True)

    levels, layout = setting(2, False, frames_per_level)
    generator = torch.Generator().manual_seed(0)
    clips, noise = (torch.randn(3, 2, 2 + layout.slots, 4, 4, generator=generator) for _ in range(2))
    result = relative_error(Mixing(), levels, [layout], clips, noise, None)[0]
    if one:
        assert result.ratio_of_norms() == (1, 0)
        assert result.curve() == [1] * layout.slots
    else:
        assert abs(result.ratio_of_norms()[0] - 1) > 1e-3


def test_an_error_from_mixed_levels_is_seen_and_falls_with_partitions(setting):
    ratios = []
    for partitions in (1, 2, 4):
        levels, layout = setting(partitions, False)
        generator = torch.Generator().manual_seed(0)
        clips, noise = (torch.randn(3, 2, 2 + layout.slots, 4, 4, generator=generator) for _ in range(2))
        ratios.append(relative_error(Neighbourly(), levels, [layout], clips, noise, None)[0].ratio_of_norms()[0])
    assert ratios[0] > ratios[1] > ratios[2] > 1


def test_a_queue_that_moves_has_the_errors_of_one_that_stands_and_those_of_what_it_reuses(setting):
    """Where nothing is reused; where the model says the same of a frame at every level; and where it does not."""

    class Knowing:
        """Predicts the noise that makes the clean latent zero."""

        def predict(self, latents_BCFHW, timestep_BF, condition):
            return (
                latents_BCFHW
                / levels.sigma[torch.searchsorted(levels.timestep, timestep_BF)].float()[:, None, :, None, None]
            )

    levels, layout = setting(4, True)
    cached, which = queue_layout(4, 4, cache=3), {"first": 5, "count": 3}
    frames, generator = frames_passed(layout, 8), torch.Generator().manual_seed(0)
    assert frames == layout.size + 7
    clips, noise = (torch.randn(2, 2, frames, 4, 4, generator=generator) for _ in range(2))
    parts = [slice(start, start + layout.size) for start in (5, 6, 7)]
    for model, same in ((Knowing(), True), (Neighbourly(), False)):
        plain = moving_errors(model, levels, layout, clips, noise, None, **which)
        each = [diagonal_errors(model, levels, layout, clips[:, :, p], noise[:, :, p], None) for p in parts]
        torch.testing.assert_close(plain, sum(each) / 3, rtol=1e-3, atol=1e-4)
        found = moving_errors(model, levels, cached, clips, noise, None, **which)
        assert torch.allclose(found, plain, rtol=1e-2, atol=1e-3) is same
        always = [p - 2 for w in cached.step(0).windows if w.writes[0] in (2, 14, 16) for p in w.writes]
        torch.testing.assert_close(found[:, always], plain[:, always], rtol=1e-3, atol=1e-4)


def test_a_banded_layout_is_one_pass_with_its_bands(setting):
    class Banded(FrameByFrame):
        given = ()

        def predict(self, latents_BCFHW, timestep_BF, condition, bands=None):
            self.given += ((latents_BCFHW.shape[2], bands),)
            return super().predict(latents_BCFHW, timestep_BF, condition)

        predict_banded = predict

    levels, layout = setting(2, "banded")
    generator, model = torch.Generator().manual_seed(0), Banded()
    clips, noise = (torch.randn(3, 2, 2 + layout.slots, 4, 4, generator=generator) for _ in range(2))
    (result,) = relative_error(model, levels, [layout], clips, noise, None)
    assert model.given == ((4, None),) * layout.slots + ((layout.size, layout.bands),)
    assert result.curve() == pytest.approx([1] * layout.slots, abs=1e-6)


def test_differences_are_those_of_the_same_clips_and_parts_can_be_joined():
    one, two = (RelativeError(torch.tensor([[a, 4.0], [9.0, 1.0]]), torch.ones(2, 2)) for a in (4.0, 9.0))
    assert two.difference_of_norms(one) == pytest.approx((0.25, 0.25))
    assert two.difference_of_errors(one) == pytest.approx((1.25, 1.25))
    assert RelativeError.over_clips([one, two]).diagonal_BS.shape == (4, 2)


def test_clips_that_are_too_short_are_refused(setting):
    levels, layout = setting(2, True)
    with pytest.raises(ValueError, match="need 10 frames"):
        relative_error(FrameByFrame(), levels, [layout], torch.zeros(1, 2, 8, 4, 4), torch.zeros(1, 2, 8, 4, 4), None)


def test_errors_of_a_model_on_another_device_are_put_together(setting):
    """On tensors without data, which notice where they are."""

    class Elsewhere(FrameByFrame):
        def predict(self, latents_BCFHW, timestep_BF, condition):
            return super().predict(latents_BCFHW, timestep_BF.to(latents_BCFHW.device), condition)

    levels, layout = setting(2, True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        clips, noise = (torch.zeros(2, 2, layout.size, 4, 4, device="lazy") for _ in range(2))
        result = RelativeError(
            diagonal_errors(Elsewhere(), levels, layout, clips, noise, None),
            reference_errors(Elsewhere(), levels, layout, clips, noise, None),
        )
        assert result.diagonal_BS.device.type == result.reference_BS.device.type == "cpu"
