"""Every scheduler class of diffusers on three families: stepped as `pipe()` does, replaced or refused with a line."""

import importlib.util
import inspect

import diffusers
import numpy as np
import pytest
import torch
from diffusers import SchedulerMixin

from fifo_diffusion import FIFO
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.models.shared.step_rules import RULES
from fifo_diffusion.testing import tiny
from stock_families import FAMILIES, FLOW, SD, STEPS

STEPPED, REPLACED, REFUSED = "stepped", "replaced", "refused"

# Of each class: how it comes out on a diffusion model, and on a flow model with `flow` in its config where it has that.
TABLE = {
    "AmusedScheduler": (REFUSED, REFUSED),
    "BlockRefinementScheduler": (REFUSED, REFUSED),
    "CMStochasticIterativeScheduler": (REFUSED, REFUSED),
    "CogVideoXDDIMScheduler": (STEPPED, REFUSED),
    "CogVideoXDPMScheduler": (REPLACED, REFUSED),
    "CosineDPMSolverMultistepScheduler": (REFUSED, REFUSED),
    "DDIMInverseScheduler": (REFUSED, REFUSED),
    "DDIMParallelScheduler": (STEPPED, REFUSED),
    "DDIMScheduler": (STEPPED, REFUSED),
    "DDPMParallelScheduler": (STEPPED, REFUSED),
    "DDPMScheduler": (STEPPED, REFUSED),
    "DDPMWuerstchenScheduler": (REFUSED, REFUSED),
    "DEISMultistepScheduler": (STEPPED, STEPPED),
    "DPMSolverMultistepInverseScheduler": (REFUSED, REFUSED),
    "DPMSolverMultistepScheduler": (STEPPED, STEPPED),
    "DPMSolverSDEScheduler": (REPLACED, REFUSED),
    "DPMSolverSinglestepScheduler": (STEPPED, STEPPED),
    "DiscreteDDIMScheduler": (REFUSED, REFUSED),
    "EDMDPMSolverMultistepScheduler": (REFUSED, REFUSED),
    "EDMEulerScheduler": (REFUSED, REFUSED),
    "EntropyBoundScheduler": (REFUSED, REFUSED),
    "EulerAncestralDiscreteScheduler": (STEPPED, REFUSED),
    "EulerDiscreteScheduler": (STEPPED, REFUSED),
    "FlowMapEulerDiscreteScheduler": (REFUSED, STEPPED),
    "FlowMatchEulerDiscreteScheduler": (REFUSED, STEPPED),
    "FlowMatchHeunDiscreteScheduler": (REFUSED, REPLACED),
    "FlowMatchLCMScheduler": (REFUSED, STEPPED),
    "HeliosDMDScheduler": (REFUSED, REFUSED),
    "HeliosScheduler": (REFUSED, REFUSED),
    "HeunDiscreteScheduler": (REPLACED, REFUSED),
    "IPNDMScheduler": (REFUSED, REFUSED),
    "KDPM2AncestralDiscreteScheduler": (REPLACED, REFUSED),
    "KDPM2DiscreteScheduler": (REPLACED, REFUSED),
    "KarrasVeScheduler": (REFUSED, REFUSED),
    "LCMScheduler": (STEPPED, REFUSED),
    "LMSDiscreteScheduler": (STEPPED, REFUSED),
    "LTXEulerAncestralRFScheduler": (REFUSED, STEPPED),
    "MiniMaxH3Scheduler": (REFUSED, REFUSED),
    "PNDMScheduler": (REPLACED, REFUSED),
    "PiflowScheduler": (REFUSED, REFUSED),
    "RFD4ProteinaScheduler": (REFUSED, REFUSED),
    "RePaintScheduler": (REFUSED, REFUSED),
    "SASolverScheduler": (STEPPED, STEPPED),
    "SCMScheduler": (REFUSED, REFUSED),
    "ScoreSdeVeScheduler": (REFUSED, REFUSED),
    "TCDScheduler": (STEPPED, REFUSED),
    "UnCLIPScheduler": (REFUSED, REFUSED),
    "UniPCMultistepScheduler": (STEPPED, STEPPED),
    "VQDiffusionScheduler": (REFUSED, REFUSED),
}


def scheduler_classes():
    return {n: getattr(diffusers, n) for n in dir(diffusers) if n.endswith("Scheduler")}


def made(name, flow=False):
    """An instance as it is constructed, set up for flow where it can be; None where a package is missing."""
    kind = scheduler_classes()[name]
    if not issubclass(kind, SchedulerMixin):
        return None
    parameters = inspect.signature(kind.__init__).parameters
    empty = inspect.Parameter.empty
    needed = [p for p in list(parameters.values())[1:] if p.default is empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    given = {p.name: 4 for p in needed}
    given |= {k: v for k, v in FLOW.items() if flow and "use_flow_sigmas" in parameters}
    try:
        return kind(**given)
    except (TypeError, ValueError, AttributeError):
        return kind.__new__(kind)


def our_lines(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("fifo_diffusion")]


def check(one, name, patch, caplog):
    """One class on one family comes out as the table says."""
    scheduler, outcome = made(name, one.flow), TABLE[name][one.flow]
    if scheduler is None:
        pytest.skip("diffusers has it with another package only")
    if outcome == STEPPED:
        # Clipping makes steps of its own out of rounding.
        one.assert_stepped(scheduler, patch, tolerance=3e-5 if scheduler.config.get("clip_sample") else 1e-5)
        assert not our_lines(caplog)
    elif outcome == REPLACED:
        levels = one.levels(scheduler)
        [line] = our_lines(caplog)
        assert name in line
        assert f"lost: {RULES[name].lost}" in line
        scheduler.set_timesteps(STEPS)
        assert set(levels.timestep.tolist()) <= set(scheduler.timesteps.tolist())
        assert len(levels) == STEPS
    else:
        with pytest.raises(ValueError, match=name) as refusal:
            one.levels(scheduler)
        _, advice = str(refusal.value).split("set pipe.scheduler to ", 1)
        assert ("FlowMatchEulerDiscreteScheduler" in advice) == one.flow
        assert "\n" not in str(refusal.value)


def test_every_class_of_diffusers_is_in_the_tables():
    """Older versions have fewer; a new one must be looked at."""
    assert set(scheduler_classes()) <= set(TABLE) <= set(RULES)


@pytest.mark.slow
@pytest.mark.parametrize("family_name", FAMILIES)
@pytest.mark.parametrize("name", TABLE)
def test_every_scheduler(family, family_name, name, monkeypatch, caplog):
    if name not in scheduler_classes():
        pytest.skip("this version of diffusers does not have it")
    check(family(family_name), name, monkeypatch, caplog)


@pytest.mark.parametrize(
    ("family_name", "name"),
    [
        ("UNet3D", "EulerAncestralDiscreteScheduler"),
        ("AnimateDiff", "DPMSolverSinglestepScheduler"),
        ("Wan", "FlowMatchLCMScheduler"),
        ("UNet3D", "HeunDiscreteScheduler"),
        ("Wan", "EulerDiscreteScheduler"),
    ],
)
def test_representatives(family, family_name, name, monkeypatch, caplog):
    check(family(family_name), name, monkeypatch, caplog)


SCIPY = pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="beta sigmas need scipy")
EULER = diffusers.EulerDiscreteScheduler
PNDM_OF_SD = diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)


class MyEuler(EULER):
    """A subclass that changes nothing of the step."""


class MyUniPC(diffusers.UniPCMultistepScheduler):
    def set_timesteps(self, num_inference_steps, device=None, mu=None):
        super().set_timesteps(num_inference_steps, device)
        self.sigmas = self.sigmas**1.1


VARIANTS = {
    "euler": EULER(**SD),
    "euler leading": EULER(**SD, timestep_spacing="leading", steps_offset=1),
    "euler trailing": EULER(**SD, timestep_spacing="trailing"),
    "euler karras": EULER(**SD, use_karras_sigmas=True),
    "euler exponential": EULER(**SD, use_exponential_sigmas=True),
    "euler log-linear": EULER(**SD, interpolation_type="log_linear"),
    "euler to the least sigma": EULER(**SD, final_sigmas_type="sigma_min"),
    "euler of narrow sigmas": EULER(**SD, use_karras_sigmas=True, sigma_min=0.1, sigma_max=5.0),
    "euler v": EULER(**SD, prediction_type="v_prediction"),
    "euler sample": EULER(**SD, prediction_type="sample"),
    "euler continuous": EULER(**SD, prediction_type="v_prediction", timestep_type="continuous"),
    "euler from SD's PNDM": EULER.from_config(PNDM_OF_SD.config),
    "euler from DDIM": EULER.from_config(tiny.scheduler().config),
    "euler of a subclass": MyEuler(**SD),
    "euler ancestral v": diffusers.EulerAncestralDiscreteScheduler(**SD, prediction_type="v_prediction"),
    "euler ancestral zero snr": diffusers.EulerAncestralDiscreteScheduler(**SD, rescale_betas_zero_snr=True),
    "dpm++ sde": diffusers.DPMSolverMultistepScheduler(**SD, algorithm_type="sde-dpmsolver++", use_karras_sigmas=True),
    "dpm": diffusers.DPMSolverMultistepScheduler(**SD, algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
    "dpm++ zero snr": diffusers.DPMSolverMultistepScheduler(
        **SD, rescale_betas_zero_snr=True, prediction_type="v_prediction"
    ),
    "dpm++ singlestep 3": diffusers.DPMSolverSinglestepScheduler(**SD, solver_order=3),
    "deis 3": diffusers.DEISMultistepScheduler(**SD, solver_order=3, use_exponential_sigmas=True),
    "sa in noise": diffusers.SASolverScheduler(**SD, algorithm_type="noise_prediction"),
    "unipc of a subclass with a grid of its own": MyUniPC(**SD),
    "ddim zero snr": tiny.scheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_as_users_have_them(family, name, monkeypatch, caplog):
    family("UNet3D").assert_stepped(VARIANTS[name], monkeypatch)
    assert not our_lines(caplog)


def test_zero_terminal_snr_of_euler(family, monkeypatch):
    """Its highest sigma is 4096: in float32 the pipeline itself is no closer to the exact step."""
    scheduler = EULER(**SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    family("UNet3D").assert_stepped(scheduler, monkeypatch, tolerance=1e-4)


@SCIPY
def test_beta_sigmas(family, monkeypatch):
    family("UNet3D").assert_stepped(EULER(**SD, use_beta_sigmas=True), monkeypatch)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_tcd_on_its_own_grid_with_its_gamma(family, eta, monkeypatch):
    levels = family("UNet3D").assert_stepped(diffusers.TCDScheduler(**SD), monkeypatch, eta=eta)
    assert bool((levels.fresh > 0).any()) == (eta > 0)


FLOWS = {
    "karras": diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
    "stochastic": diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0, stochastic_sampling=True),
    "terminal": diffusers.FlowMatchEulerDiscreteScheduler(shift_terminal=0.1),
    "deis": diffusers.DEISMultistepScheduler(**FLOW),
    "dpm++ sde": diffusers.DPMSolverMultistepScheduler(**FLOW, algorithm_type="sde-dpmsolver++"),
    "ltx, half of its noise": diffusers.LTXEulerAncestralRFScheduler(eta=0.5),
    "unipc of a subclass": type("Mine", (diffusers.UniPCMultistepScheduler,), {})(**FLOW),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flow_models_as_users_have_them(family, name, monkeypatch, caplog):
    family("Wan").assert_stepped(FLOWS[name], monkeypatch)
    assert not our_lines(caplog)


class Churning(EULER):
    def step(self, *args, **kwargs):
        return super().step(*args, s_churn=1.0, **kwargs)


class Foreign(diffusers.DDIMScheduler):
    def _get_variance(self, timestep, prev_timestep):
        return 2 * super()._get_variance(timestep, prev_timestep)


@pytest.mark.parametrize(("scheduler", "changed"), [(Churning(**SD), "step"), (Foreign(**SD), "_get_variance")])
def test_a_step_of_ones_own_is_replaced_with_a_line(scheduler, changed, caplog):
    levels = read_levels(scheduler, STEPS)
    assert f"lost: what {type(scheduler).__name__} does in {changed}" in caplog.text
    scheduler.set_timesteps(STEPS)
    assert torch.equal(levels.timestep.flip(0).double(), scheduler.timesteps.double())
    stock = type(scheduler).__mro__[1](**SD)
    torch.testing.assert_close(levels.alpha, read_levels(stock, STEPS).alpha)


def test_a_patched_step_is_seen(caplog):
    scheduler = EULER(**SD)
    scheduler.step = lambda *args, **kwargs: None
    read_levels(scheduler, STEPS)
    assert "lost: what EulerDiscreteScheduler does in step" in caplog.text


def test_a_scheduler_set_up_for_the_other_kind_of_model_is_refused(family):
    with pytest.raises(ValueError, match="trained by flow matching"):
        family("Wan").levels(diffusers.UniPCMultistepScheduler())
    with pytest.raises(ValueError, match="trained by diffusion"):
        family("UNet3D").levels(diffusers.FlowMatchEulerDiscreteScheduler())


def test_a_scheduler_that_is_set_later_is_used_by_the_next_stream():
    pipe = tiny.pipeline(**tiny.LIGHT)
    few = {"window": 4, "num_partitions": 1, "num_frames": 6, "height": 16, "width": 16, "seed": 1}
    with FIFO(pipe) as fifo:
        first = fifo.stream("a red ball", **few)
        before = np.stack([*first])
        pipe.scheduler = EULER(**SD, use_karras_sigmas=True)
        second = fifo.stream("a red ball", **few)
        after = np.stack([*second])
        assert torch.equal(second._levels.timestep, read_levels(pipe.scheduler, 4).timestep)
    assert not np.array_equal(before, after)


def test_pndm_as_it_is_constructed(caplog):
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.scheduler = diffusers.PNDMScheduler(**SD)
    with FIFO(pipe) as fifo:
        frames = [*fifo.stream("a red ball", window=4, num_partitions=1, num_frames=6, height=16, width=16)]
    assert len(frames) == 6
    assert "lost: its fourth order" in caplog.text
