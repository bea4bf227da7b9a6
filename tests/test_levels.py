"""The vectorised step equals `scheduler.step`, frame by frame."""

import diffusers
import pytest
import torch

import tiny
from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.schedulers import read_levels

COUNT = 10


def frames_at_all_levels(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 4, COUNT, 3, 3, generator=generator) for _ in range(3)]


def one_by_one(scheduler, sample, prediction, noise, **extra):
    """Each frame stepped alone by a fresh copy of the scheduler, at the level of its number."""
    result = []
    scheduler.set_timesteps(COUNT)
    for k, t in enumerate(scheduler.timesteps.flip(0)):
        single = type(scheduler).from_config(scheduler.config)
        single.set_timesteps(COUNT)
        arguments = {
            name: value[:, :, k] if isinstance(value, torch.Tensor) else value for name, value in extra.items()
        }
        result.append(single.step(prediction[:, :, k], t, sample[:, :, k], **arguments).prev_sample)
    return torch.stack(result, 2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False},
        {"timestep_spacing": "linspace"},
        {"clip_sample": True, "clip_sample_range": 0.7},
    ],
    ids=str,
)
def test_ddim(prediction_type, eta, config):
    scheduler = tiny.scheduler(prediction_type=prediction_type, **config)
    sample, prediction, noise = frames_at_all_levels()
    levels = read_levels(scheduler, COUNT, eta=eta, scheduler_exact=True)
    found = levels.step(sample, prediction, torch.arange(COUNT)[None], noise)
    expected = one_by_one(scheduler, sample, prediction, noise, eta=eta, variance_noise=noise)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddpm(prediction_type, variance_type, clip, monkeypatch):
    scheduler = diffusers.DDPMScheduler(
        prediction_type=prediction_type, variance_type=variance_type, clip_sample=clip, timestep_spacing="trailing"
    )
    sample, prediction, noise = frames_at_all_levels()
    levels = read_levels(scheduler, COUNT, scheduler_exact=True)
    found = levels.step(sample, prediction, torch.arange(COUNT)[None], noise)
    draws = iter(noise.unbind(2))
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(draws))
    expected = one_by_one(scheduler, sample, prediction, noise)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "config",
    [{}, {"clip_sample": True, "clip_sample_range": 0.7}, {"set_alpha_to_one": False, "timestep_scaling": 0.001}],
    ids=str,
)
def test_lcm(prediction_type, config, monkeypatch):
    """The last makes its boundary condition large: c_skip is 0.2 to 0.96 there, and below 1e-5 as models have it."""
    scheduler = diffusers.LCMScheduler(prediction_type=prediction_type, **config)
    sample, prediction, noise = frames_at_all_levels()
    levels = read_levels(scheduler, COUNT)
    found = levels.step(sample, prediction, torch.arange(COUNT)[None], noise)
    draws = iter(noise.unbind(2)[1:])  # the last step of a frame draws none
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *a, **k: next(draws))
    expected = one_by_one(scheduler, sample, prediction, noise)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize("stochastic", [False, True])
def test_flow_matching(shift, stochastic, monkeypatch):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=stochastic)
    sample, prediction, noise = frames_at_all_levels()
    levels = read_levels(scheduler, COUNT)
    found = levels.step(sample, prediction, torch.arange(COUNT)[None], noise)
    draws = iter(noise.unbind(2))
    name = "diffusers.schedulers.scheduling_flow_match_euler_discrete.randn_tensor"
    monkeypatch.setattr(name, lambda *a, **k: next(draws))
    expected = one_by_one(scheduler, sample, prediction, noise)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("config", [{}, {"timestep_spacing": "leading", "set_alpha_to_one": False}], ids=str)
def test_each_level_aims_exactly_at_the_next(config):
    scheduler = tiny.scheduler(**config)
    levels = read_levels(scheduler, 48)
    torch.testing.assert_close(levels.target_alpha[1:], levels.alpha[:-1])
    assert float(levels.target_alpha[0]) == pytest.approx(float(scheduler.final_alpha_cumprod) ** 0.5)
    assert bool((levels.timestep.diff() > 0).all())


def test_the_scheduler_is_left_as_it_was():
    scheduler = tiny.scheduler()
    scheduler.set_timesteps(7)
    read_levels(scheduler, 5)
    assert len(scheduler.timesteps) == 7


def test_other_diffusion_schedulers_step_by_ddim_on_their_betas(caplog):
    theirs = diffusers.DPMSolverMultistepScheduler.from_config(tiny.scheduler().config)
    levels = read_levels(theirs, COUNT)
    assert "DPMSolverMultistepScheduler" in caplog.text
    torch.testing.assert_close(levels.alpha, read_levels(tiny.scheduler(), COUNT).alpha)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_a_perfect_prediction_is_split_into_what_it_was_made_of(prediction):
    clean, noise, _ = frames_at_all_levels()
    s = torch.linspace(0.05, 0.9, COUNT, dtype=torch.float64)
    if prediction == "flow_prediction":
        levels = NoiseLevels.flow(s * 1000, s, s)
        output = noise - clean
    else:
        levels = NoiseLevels.diffusion(s * 1000, 1 - s, 1 - s, prediction=prediction)
        a, b = (x.float()[None, None, :, None, None] for x in (levels.alpha, levels.sigma))
        output = {"epsilon": noise, "sample": clean, "v_prediction": a * noise - b * clean}[prediction]
    level = torch.arange(COUNT)[None]
    found_clean, found_noise = levels.split(levels.renoise(clean, noise, level), output, level)
    torch.testing.assert_close(found_clean, clean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_noise, noise, rtol=1e-4, atol=1e-5)


def refuse(pattern, scheduler, count=COUNT, **options):
    with pytest.raises(ValueError, match=pattern):
        read_levels(scheduler, count, **options)


def test_what_cannot_be_stepped_is_refused_with_a_way_out():
    flow = diffusers.FlowMatchEulerDiscreteScheduler
    refuse("eta must lie between 0 and 1", tiny.scheduler(), eta=1.5)
    refuse("fewer num_partitions", tiny.scheduler(), 1001)
    refuse("leave eta=0", flow(), eta=0.5)
    refuse("invert_sigmas", flow(invert_sigmas=True))
    refuse("dynamic shifting", flow(use_dynamic_shifting=True))
    refuse("LCMScheduler draws all noise anew at every step: leave eta out", diffusers.LCMScheduler(), eta=0.5)
    refuse("LCMScheduler at most 50: use frames_per_level", diffusers.LCMScheduler(), 64)
    refuse("set thresholding=False", tiny.scheduler(thresholding=True))
    refuse("set pipe.scheduler to a DDIMScheduler", diffusers.EDMEulerScheduler())
    refuse("zero terminal SNR", tiny.scheduler(rescale_betas_zero_snr=True))
    refuse("variance_type 'learned'", diffusers.DDPMScheduler(variance_type="learned"))


def test_fresh_noise_must_be_given_where_it_is_needed():
    sample, prediction, _ = frames_at_all_levels()
    with pytest.raises(ValueError, match="noise_BCFHW is needed"):
        read_levels(tiny.scheduler(), COUNT, eta=1.0).step(sample, prediction, torch.arange(COUNT)[None])
