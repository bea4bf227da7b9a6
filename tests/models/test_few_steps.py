"""The grids of few-step checkpoints: what each publisher's recipe says, and what FIFO reads from its scheduler."""

import diffusers
import pytest
import torch

from fifo_diffusion.models.shared.schedulers import read_levels

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
        diffusers.EulerDiscreteScheduler(**LINEAR, timestep_spacing="trailing"),
        4,
        {},
        [999, 749, 499, 249],
        0,
    ),
    "Wan lightx2v, UniPC of order 1, 4": (
        diffusers.UniPCMultistepScheduler(**FLOW, solver_order=1),
        4,
        {},
        SHIFTED_4,
        1.5,
    ),
    "Wan lightx2v, UniPC of order 1, 8": (
        diffusers.UniPCMultistepScheduler(**FLOW, solver_order=1),
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
