"""The vectorised step equals `scheduler.step`, frame by frame."""

import copy

import diffusers
import pytest
import torch

from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import distance, tiny

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


def test_a_solver_with_history_and_eta_is_replaced_with_a_line(caplog):
    plain = diffusers.DPMSolverMultistepScheduler.from_config(tiny.scheduler().config)
    levels = read_levels(plain, COUNT, eta=0.5)
    assert levels.planes == 1
    assert "DPMSolverMultistepScheduler" in caplog.text
    assert "lost: what it remembers" in caplog.text
    torch.testing.assert_close(levels.fresh, read_levels(tiny.scheduler(), COUNT, eta=0.5).fresh, rtol=1e-5, atol=1e-6)


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}


@pytest.mark.parametrize(
    ("scheduler", "planes"),
    [
        (diffusers.UniPCMultistepScheduler(**FLOW), 4),
        (diffusers.UniPCMultistepScheduler(prediction_type="v_prediction", disable_corrector=[0, 1]), 4),
        (diffusers.UniPCMultistepScheduler(solver_order=3), 5),
        (diffusers.UniPCMultistepScheduler(solver_type="bh1", final_sigmas_type="sigma_min"), 4),
        (diffusers.DPMSolverMultistepScheduler(), 2),
        (diffusers.DPMSolverMultistepScheduler(**FLOW), 2),
        (diffusers.DPMSolverMultistepScheduler(solver_order=3, use_karras_sigmas=True), 3),
    ],
)
def test_solvers_with_history_keep_it_in_the_slot(scheduler, planes):
    """Frames that pass the levels one after the other, as in a queue, get what each would get alone."""
    frames, rng = 3, torch.Generator().manual_seed(0)
    levels, x = read_levels(scheduler, COUNT), torch.randn(2, 2, frames, 3, 3, generator=rng)

    def model(x_BCFHW, timestep_F):
        return torch.tanh(x_BCFHW * (1 + timestep_F[None, None, :, None, None] / 1000))

    slots, alone = levels.blank(x), []
    assert slots.shape[1] == 2 * planes
    for k in range(frames):
        theirs, frame = copy.deepcopy(scheduler), x[:, :, k : k + 1]
        theirs.set_timesteps(COUNT)
        for t in theirs.timesteps:
            frame = theirs.step(model(frame, t[None]), t, frame, return_dict=False)[0]
        alone.append(frame)
    for iteration in range(COUNT + frames - 1):  # frame k begins k iterations after frame 0
        moving = [k for k in range(frames) if 0 <= iteration - k < COUNT]
        level = torch.tensor([COUNT - 1 - iteration + k for k in moving])
        some = slots[:, :, moving]
        slots[:, :, moving] = levels.step(some, model(some[:, :2], levels.timestep[level]), level[None])
    assert distance(slots[:, :2], torch.cat(alone, 2)) < 1e-5
    assert distance(slots[:, :2], frames_by(levels.without_memory(), model, x)) > 1e-3


def frames_by(levels, model, x):
    for j in reversed(range(len(levels))):
        level = torch.full((1, x.shape[2]), j)
        x = levels.step(x, model(x, levels.timestep[level[0]]), level)
    return x


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
    refuse("sampled by flow matching: leave it out", flow(), eta=0.5)
    refuse("invert_sigmas", flow(invert_sigmas=True))
    refuse("dynamic shifting", flow(use_dynamic_shifting=True))
    refuse("LCMScheduler draws noise by a rule of its own: leave it out", diffusers.LCMScheduler(), eta=0.5)
    refuse("LCMScheduler at most 50: use frames_per_level", diffusers.LCMScheduler(), 64)
    refuse("sampled by flow matching: leave it out", diffusers.UniPCMultistepScheduler(**FLOW), eta=0.5)
    refuse("prediction_type given as", diffusers.UniPCMultistepScheduler(**FLOW, predict_x0=False))
    refuse('set final_sigmas_type="sigma_min"', diffusers.UniPCMultistepScheduler(solver_type="bh1"))
    refuse("set thresholding=False", tiny.scheduler(thresholding=True))
    refuse("set pipe.scheduler to a DDIMScheduler", diffusers.EDMEulerScheduler())
    refuse("zero terminal SNR", tiny.scheduler(rescale_betas_zero_snr=True))
    refuse("variance_type 'learned'", diffusers.DDPMScheduler(variance_type="learned"))
    refuse("no usable noise levels", tiny.scheduler(beta_start=float("nan")))
    refuse("cannot be stepped as it is set up: index", tiny.scheduler(trained_betas=[0.1, 0.2]))
    refuse("cannot be stepped as it is set up: .*iterable", diffusers.UniPCMultistepScheduler(disable_corrector=0))
    refuse("the flow shift must be a number above 0, not -3", flow(shift=-3.0))
    refuse("does not give 9 distinct timesteps", flow(shift_terminal=2.0), 9)
    refuse("dynamic shifting", diffusers.UniPCMultistepScheduler(**FLOW, use_dynamic_shifting=True))


def test_what_a_model_was_trained_for_must_agree():
    refuse("this model was trained by diffusion", diffusers.UniPCMultistepScheduler(**FLOW), flow=False)
    refuse("this model was trained by diffusion", tiny.scheduler(prediction_type="flow_prediction"), flow=False)
    refuse("predicts flow without flow sigmas", tiny.scheduler(prediction_type="flow_prediction"))
    without = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True)
    refuse("a model that predicts epsilon, this one predicts flow", without, flow=True)


def test_fresh_noise_must_be_given_where_it_is_needed():
    sample, prediction, _ = frames_at_all_levels()
    with pytest.raises(ValueError, match="noise_BCFHW is needed"):
        read_levels(tiny.scheduler(), COUNT, eta=1.0).step(sample, prediction, torch.arange(COUNT)[None])
