"""The grids of few-step checkpoints: what each publisher's recipe says, and what FIFO reads from its scheduler."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import distance
from stock_families import FLOW as UNSHIFTED
from stock_families import SD, STEPS

EULER, UNIPC = diffusers.EulerDiscreteScheduler, diffusers.UniPCMultistepScheduler
LINEAR = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012}
SCALED = LINEAR | {"beta_schedule": "scaled_linear"}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0}
SHIFTED_4 = [1000.0, 937.5, 833.33, 625.0]
SHIFTED_8 = [1000.0, 972.2, 937.5, 892.9, 833.3, 750.0, 625.0, 416.7]
EVEN_4 = [1.0, 0.75, 0.5, 0.25]

# scheduler, number of levels, steps that are given, timesteps from the noisiest on, how near they must be
RECIPES = {
    "AnimateLCM, 4": (diffusers.LCMScheduler(**LINEAR), 4, {}, [999, 759, 499, 259], 0),
    "LCM-LoRA, T2V-Turbo, 8": (
        diffusers.LCMScheduler(**SCALED),
        8,
        {},
        [999, 879, 759, 639, 499, 379, 259, 139],
        0,
    ),
    "Hyper-SD, TCD, 4": (diffusers.TCDScheduler(**SCALED), 4, {}, [999, 759, 499, 259], 0),
    "AnimateDiff-Lightning, 4": (
        EULER(**LINEAR, timestep_spacing="trailing"),
        4,
        {},
        [999, 749, 499, 249],
        0,
    ),
    "Wan lightx2v, UniPC of order 1, 4": (
        UNIPC(**FLOW, solver_order=1),
        4,
        {},
        SHIFTED_4,
        1.5,
    ),
    "Wan lightx2v, UniPC of order 1, 8": (
        UNIPC(**FLOW, solver_order=1),
        8,
        {},
        SHIFTED_8,
        1.5,
    ),
    "Wan lightx2v, DPM++ of order 1, 4": (
        diffusers.DPMSolverMultistepScheduler(**FLOW, solver_order=1),
        4,
        {},
        SHIFTED_4,
        1.5,
    ),
    "Wan lightx2v, FlowMatchEuler with its sigmas, 4": (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        4,
        {"sigmas": EVEN_4},
        SHIFTED_4,
        0.01,
    ),
    "Self-Forcing, CausVid, FastWan: fresh noise, 4": (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=5, stochastic_sampling=True),
        4,
        {"sigmas": EVEN_4},
        SHIFTED_4,
        0.01,
    ),
    "FlowMatchLCM with sigmas, 4": (
        diffusers.FlowMatchLCMScheduler(shift=5.0),
        4,
        {"sigmas": EVEN_4},
        SHIFTED_4,
        0.01,
    ),
    "AnyFlow, 4": (diffusers.FlowMapEulerDiscreteScheduler(shift=5.0), 4, {}, SHIFTED_4, 0.01),
}


@pytest.mark.parametrize("name", RECIPES)
def test_levels_are_those_of_the_recipe(name):
    scheduler, count, steps, expected, within = RECIPES[name]
    levels = read_levels(scheduler, count, **steps)
    found = levels.timestep.flip(0).double()
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() <= within
    if not steps:
        scheduler.set_timesteps(count)
        assert torch.equal(found, scheduler.timesteps.double())


def test_dpm_of_order_1_needs_no_history():
    """The smallest queue and state among the solvers for flow matching, and Euler's step."""
    levels = read_levels(diffusers.DPMSolverMultistepScheduler(**FLOW, solver_order=1), 4)
    assert levels.solver is None
    euler = read_levels(diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0), 4, sigmas=EVEN_4)
    assert torch.allclose(levels.target_sigma, euler.target_sigma, atol=2e-3)


def test_flow_matching_without_the_recipe_wastes_its_last_level():
    """Why the sigmas are given: diffusers spaces four steps down to a timestep that a model of four steps never saw."""
    levels = read_levels(diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0), 4)
    assert levels.timestep.min() < 50


def laid(scheduler, count=STEPS, **steps):
    """The scheduler, whose pipeline asks for a number of steps and gets these."""
    kind = type(scheduler)

    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        assert num_inference_steps == count
        kind.set_timesteps(self, device=device, **steps)

    return type(kind.__name__, (kind,), {"set_timesteps": set_timesteps}).from_config(scheduler.config)


DPM = diffusers.DPMSolverMultistepScheduler
DIFFUSION_STEPS, FLOW_SIGMAS = [999, 850, 620, 333, 77], np.array([1.0, 0.8, 0.6, 0.4, 0.1])
STEPS_GIVEN = {
    "lcm": ("UNet3D", diffusers.LCMScheduler(**SD), {"timesteps": [999, 839, 619, 339, 79]}),
    "tcd": ("UNet3D", diffusers.TCDScheduler(**SD), {"timesteps": [999, 839, 619, 339, 79]}),
    "ddpm": ("UNet3D", diffusers.DDPMScheduler(**SD, clip_sample=False), {"timesteps": DIFFUSION_STEPS}),
    "euler": ("AnimateDiff", EULER(**SD), {"timesteps": DIFFUSION_STEPS}),
    "euler, sigmas": (
        "AnimateDiff",
        EULER(**SD),
        {"sigmas": [14.6, 6.0, 2.5, 0.9, 0.2, 0.0]},
    ),
    "dpm++": ("UNet3D", DPM(**SD), {"timesteps": DIFFUSION_STEPS}),
    "dpm++ of order 1": (
        "UNet3D",
        diffusers.DPMSolverMultistepScheduler(**SD, solver_order=1),
        {"timesteps": DIFFUSION_STEPS},
    ),
    "flow": ("Wan", diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0), {"sigmas": FLOW_SIGMAS}),
    "flow lcm": ("Wan", diffusers.FlowMatchLCMScheduler(shift=5.0), {"sigmas": FLOW_SIGMAS}),
    "unipc of order 1": (
        "Wan",
        UNIPC(**UNSHIFTED, solver_order=1),
        {"sigmas": FLOW_SIGMAS},
    ),
}


@pytest.mark.parametrize("name", STEPS_GIVEN)
def test_steps_of_ones_own_are_those_of_the_pipeline(family, name, monkeypatch):
    """`timesteps=` and `sigmas=` as diffusers' own `set_timesteps` takes them, in a table and in a stream."""
    kind, scheduler, steps = STEPS_GIVEN[name]
    one, theirs = family(kind), laid(scheduler, **steps)
    levels, usual = read_levels(scheduler, STEPS, flow=one.flow, **steps), read_levels(scheduler, STEPS, flow=one.flow)
    expected, draws = one.by_pipeline(theirs, monkeypatch)
    assert torch.equal(levels.timestep.flip(0).double(), theirs.timesteps.double())
    assert distance(one.by_fifo(levels, draws), expected) < 1e-5
    assert distance(one.by_fifo(usual, draws), expected) > 1e-3
    monkeypatch.undo()  # a scheduler that draws noise is looked at anew
    assert distance(one.by_stream(scheduler, draws, **steps), expected) < 1e-5


@pytest.mark.parametrize("name", RECIPES)
def test_the_stock_run_of_a_recipe_is_that_of_sample_clip(family, name, monkeypatch):
    """`pipe()` with the recipe's scheduler and number of steps, and the clip on its levels, on the same noise."""
    scheduler, count, steps, *_ = RECIPES[name]
    flow = not hasattr(scheduler, "alphas_cumprod") or bool(scheduler.config.get("use_flow_sigmas"))
    one = family("Wan" if flow else "AnimateDiff" if "Animate" in name else "UNet3D")
    theirs = laid(scheduler, count, **steps) if steps else type(scheduler).from_config(scheduler.config)
    levels = read_levels(scheduler, count, flow=one.flow, **steps)
    expected, draws = one.by_pipeline(theirs, monkeypatch, num_inference_steps=count)
    assert torch.equal(levels.timestep.flip(0).double(), theirs.timesteps.double())
    assert distance(one.by_fifo(levels, draws), expected) < 2e-5
    shifted = replace(levels, timestep=(levels.timestep - 20).clamp_min(0))
    assert distance(one.by_fifo(shifted, draws), expected) > 1e-3


def test_ddim_takes_any_timesteps():
    """Its class in diffusers does not; two grids that are the same make the same levels."""
    scheduler = diffusers.DDIMScheduler(**SD, timestep_spacing="trailing")
    usual = read_levels(scheduler, 4)
    given = read_levels(scheduler, 4, timesteps=usual.timestep.flip(0).tolist())
    for name in ("timestep", "alpha", "sigma", "target_alpha", "target_sigma", "fresh"):
        assert torch.equal(getattr(usual, name), getattr(given, name))
    assert read_levels(scheduler, 3, timesteps=[900, 400, 3]).timestep.tolist() == [3, 400, 900]


@pytest.mark.parametrize(
    ("scheduler", "steps", "told"),
    [
        (diffusers.DDIMScheduler(), {"timesteps": [900, 400]}, "they make 2 steps, and the queue has 4 levels"),
        (
            diffusers.DDIMScheduler(),
            {"timesteps": [1000, 750, 500, 250]},
            r"^timesteps=\(1000, .*: give whole numbers from 999 down to 0",
        ),
        (diffusers.DDIMScheduler(), {"timesteps": [250, 500, 750, 999]}, "descending order"),
        (diffusers.DDIMScheduler(), {"sigmas": [4, 3, 2, 1]}, "takes no sigmas: give timesteps"),
        (diffusers.DDIMScheduler(), {"timesteps": "999"}, "list of numbers"),
        (UNIPC(**UNSHIFTED), {"timesteps": [999, 750, 500, 250]}, "give sigmas"),
        (
            EULER(),
            {"timesteps": [999, 750, 500, 250], "sigmas": [4, 3, 2, 1]},
            "give either timesteps or sigmas, not both",
        ),
        (
            EULER(use_karras_sigmas=True),
            {"timesteps": [999, 750, 500, 250]},
            "EulerDiscreteScheduler does not take",
        ),
    ],
)
def test_steps_that_cannot_be_taken_are_refused(scheduler, steps, told):
    with pytest.raises(ValueError, match=told):
        read_levels(scheduler, 4, **steps)
