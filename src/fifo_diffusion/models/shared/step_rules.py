"""Every scheduler class of diffusers: how it is stepped frame by frame, what is lost where it is not, or why it cannot
be used; and the grid of timesteps and noise that it walks down.

What a class is follows from its bases, not from its name: a subclass is stepped as the class that it derives from,
unless it changes how that steps.
"""

from dataclasses import dataclass
from inspect import isroutine
from typing import Any, Literal

import torch
from torch import Tensor

from fifo_diffusion.models.shared.spacing import Spacing

Space = Literal["abar", "sigmas", "scaled", "flow"]


@dataclass(frozen=True)
class Rule:
    """What is known of a scheduler class.

    Attributes:
        space: where its noise stands: "abar" in `alphas_cumprod` at its integer timesteps, "sigmas" in `sigmas`,
            "scaled" too, but its samples are x0 + sigma e, and the model is shown them scaled; "flow": flow matching.
        written: its step is written out in `schedulers.py`; else it is found by stepping with unit vectors.
        memory: attributes in which it keeps what it found at earlier steps; lists grow, or shift, at their ends.
        lost: what the step at first order on its own timesteps and sigmas leaves out; empty where nothing is.
        stages: evaluations of the model in one step; of a grid with two only every second timestep is a level.
        ends_at_zero: its last step goes to timestep 0, which is not quite clean.
        fresh: whether it draws noise of its own whatever `eta` is.
        few: whether it is made for models that were distilled to few steps.
        refused: why a queue of frames cannot be stepped by it; empty where it can.
    """

    space: Space = "sigmas"
    written: bool = False
    memory: tuple[str, ...] = ()
    lost: str = ""
    stages: int = 1
    ends_at_zero: bool = False
    fresh: bool = False
    few: bool = False
    refused: str = ""


def _refused(why: str) -> Rule:
    return Rule(refused=why)


_DISCRETE = _refused("it samples tokens, not latents")
_STAGED = _refused("it goes through pictures of several sizes, each with a grid of its own")
_INVERSE = _refused("it makes noise of a video, not a video of noise")
_EDM = _refused("it scales what the model is given and gives in a way of its own (EDM)")
_HEUN = "its second evaluation of the model in every step"

RULES: dict[str, Rule] = {
    "AmusedScheduler": _DISCRETE,
    "BlockRefinementScheduler": _DISCRETE,
    "CMStochasticIterativeScheduler": _EDM,
    "CogVideoXDDIMScheduler": Rule("abar", written=True),
    "CogVideoXDPMScheduler": Rule("abar", lost="its second order and its fresh noise", fresh=True),
    "ConsistencyDecoderScheduler": _refused("it belongs to an autoencoder"),
    "CosineDPMSolverMultistepScheduler": _EDM,
    "DDIMInverseScheduler": _INVERSE,
    "DDIMParallelScheduler": Rule("abar", written=True),
    "DDIMScheduler": Rule("abar", written=True),
    "DDPMParallelScheduler": Rule("abar", written=True),
    "DDPMScheduler": Rule("abar", written=True),
    "DDPMWuerstchenScheduler": _refused("its timesteps are Wuerstchen's"),
    "DEISMultistepScheduler": Rule(memory=("model_outputs",)),
    "DPMSolverMultistepInverseScheduler": _INVERSE,
    "DPMSolverMultistepScheduler": Rule(memory=("model_outputs",)),
    "DPMSolverSDEScheduler": Rule("scaled", lost=f"{_HEUN} and its fresh noise", stages=2, fresh=True),
    "DPMSolverSinglestepScheduler": Rule(memory=("sample", "model_outputs")),
    "DiscreteDDIMScheduler": _DISCRETE,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "EDMEulerScheduler": _EDM,
    "EntropyBoundScheduler": _DISCRETE,
    "EulerAncestralDiscreteScheduler": Rule("scaled", fresh=True),
    "EulerDiscreteScheduler": Rule("scaled"),
    "FlowMapEulerDiscreteScheduler": Rule("flow", few=True),
    "FlowMatchEulerDiscreteScheduler": Rule("flow", written=True),
    "FlowMatchHeunDiscreteScheduler": Rule("flow", lost=_HEUN, stages=2),
    "FlowMatchLCMScheduler": Rule("flow", fresh=True, few=True),
    "HeliosDMDScheduler": _STAGED,
    "HeliosScheduler": _STAGED,
    "HeunDiscreteScheduler": Rule("scaled", lost=_HEUN, stages=2),
    "IPNDMScheduler": _refused("its timesteps lie between 0 and 1, which no video model is conditioned on"),
    "KDPM2AncestralDiscreteScheduler": Rule("scaled", lost=f"{_HEUN} and its fresh noise", stages=2, fresh=True),
    "KDPM2DiscreteScheduler": Rule("scaled", lost=_HEUN, stages=2),
    "KarrasVeScheduler": _EDM,
    "LCMScheduler": Rule("abar", written=True, fresh=True, few=True),
    "LMSDiscreteScheduler": Rule("scaled", memory=("derivatives",)),
    "LTXEulerAncestralRFScheduler": Rule("flow", fresh=True),
    "MiniMaxH3Scheduler": Rule(
        "flow", refused="its timesteps run from 0 to 1, and its model's prediction has the other sign"
    ),
    "PNDMScheduler": Rule("abar", lost="its fourth order (what it remembers of earlier steps)"),
    "PiflowScheduler": _refused("its model predicts a policy of many small steps"),
    "RFD4ProteinaScheduler": _refused("it belongs to models of proteins"),
    "RePaintScheduler": _refused("it fills in a masked picture"),
    "SASolverScheduler": Rule(memory=("last_sample", "last_noise", "model_outputs"), fresh=True),
    "SCMScheduler": _refused("its noise is an angle (TrigFlow)"),
    "ScoreSdeVeScheduler": _refused("its steps are a correction and a prediction, which need the model in between"),
    "ScoreSdeVpScheduler": _refused("its timesteps lie between 0 and 1, which no video model is conditioned on"),
    "TCDScheduler": Rule("abar", ends_at_zero=True, few=True),
    "UnCLIPScheduler": _refused("its pipeline tells it where each step goes"),
    "UniPCMultistepScheduler": Rule(memory=("last_sample", "model_outputs")),
    "VQDiffusionScheduler": _DISCRETE,
}

_HARMLESS = {
    *("__init__", "__len__", "__repr__", "__str__", "set_timesteps", "set_begin_index", "set_shift"),
    *("add_noise", "scale_noise", "get_velocity", "time_shift", "stretch_shift_to_terminal", "_sigma_to_t"),
    *("index_for_timestep", "_init_step_index", "save_pretrained", "save_config", "from_pretrained", "from_config"),
}
"""What a subclass may have of its own: grids are read from it as they are, and the rest is not in the way of a step."""


def known_class(scheduler: Any) -> tuple[type | None, Rule | None]:
    """The class of diffusers that a scheduler is, or derives from, and what is known of it; None, None of others."""
    for base in type(scheduler).__mro__:
        if base.__module__.startswith("diffusers.") and base.__name__ in RULES:
            return base, RULES[base.__name__]
    return None, None


def has_few_steps(scheduler: Any) -> bool:
    """Whether it samples as models are sampled that were distilled to few steps. Those of Self-Forcing, CausVid and
    FastWan are by flow matching with fresh noise at every step."""
    _, rule = known_class(scheduler)
    return rule is not None and (rule.few or bool(scheduler.config.get("stochastic_sampling")))


def unknown_rule(scheduler: Any) -> Rule:
    """Where the noise of somebody's own class stands, by its attributes."""
    begins = getattr(scheduler, "init_noise_sigma", 1.0)
    return Rule("scaled" if hasattr(scheduler, "sigmas") and float(begins) > 1 else "abar")


def changed_methods(scheduler: Any, known: type) -> list[str]:
    """The methods that make a step and that a subclass of `known`, or this object, has replaced by its own. Those of
    this package's own subclasses are known."""
    between = type(scheduler).__mro__[: type(scheduler).__mro__.index(known)]
    spaces = [vars(scheduler), *(vars(c) for c in between if not c.__module__.startswith("fifo_diffusion."))]
    names = {name for space in spaces for name, value in space.items() if isroutine(value) and hasattr(known, name)}
    return sorted(n for n in names - _HARMLESS if not n.startswith(("_convert_to_", "_time_shift_")))


def is_flow(scheduler: Any, rule: Rule | None) -> bool:
    """Whether it is set up for a flow-matching model."""
    if rule is not None and rule.space == "flow":
        return True
    config = scheduler.config
    return bool(config.get("use_flow_sigmas")) or config.get("prediction_type") == "flow_prediction"


@dataclass(frozen=True)
class Grid:
    """Where a scheduler stops on its way down, the noisiest first.

    Attributes:
        timesteps: (L,) as it gives them.
        alpha, sigma: (L + 1,) float64, x = alpha x0 + sigma e as the model sees it. The last is where it ends, there as
            its pipeline decodes it.
        scale: (L + 1,) its own samples are x / scale.
    """

    timesteps: Tensor
    alpha: Tensor
    sigma: Tensor
    scale: Tensor


def read_grid(scheduler: Any, rule: Rule, steps: Spacing) -> Grid:
    """The grid of these steps, from a scheduler that may be changed.

    Raises:
        ValueError: it gives another number of steps, or not every step is cleaner than the one before.
    """
    repeats = hasattr(scheduler, "pndm_order")  # PNDM's list has some of its timesteps twice, and more in between
    if repeats:
        scheduler.register_to_config(skip_prk_steps=True)
    steps.lay(scheduler)
    timesteps = torch.from_numpy(scheduler._timesteps[::-1].copy()).long() if repeats else scheduler.timesteps.cpu()
    timesteps = timesteps[:: rule.stages]
    if rule.space == "abar":
        abar = scheduler.alphas_cumprod.double().cpu()
        final = (
            abar[:1] if rule.ends_at_zero else abar.new_tensor([float(getattr(scheduler, "final_alpha_cumprod", 1))])
        )
        abar = torch.cat([abar[timesteps.long()], final])
        alpha, sigma = abar.sqrt(), (1 - abar).clamp_min(0).sqrt()
    else:
        sigma = scheduler.sigmas.double().cpu()
        sigma = (sigma if rule.stages == 1 else torch.cat([sigma[:1], sigma[1::2]]))[: steps.count + 1]
        flow = is_flow(scheduler, rule)
        alpha = 1 - sigma if flow else (1 + sigma**2).rsqrt()
        sigma = sigma if flow else sigma * alpha
    if len(timesteps) != steps.count or len(sigma) != steps.count + 1 or not _descends(sigma):
        raise steps.not_distinct(scheduler)
    scale = torch.ones_like(alpha)
    if rule.space == "scaled":  # what comes out at the end is not scaled any more
        scale[:-1] = alpha[:-1]
        sigma[-1], alpha[-1] = sigma[-1] / alpha[-1], 1.0
    return Grid(timesteps, alpha, sigma, scale)


def short_error(error: Exception) -> str:
    """What somebody else's error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def _descends(sigma: Tensor) -> bool:
    """Every level is cleaner than the one before. The end may be no cleaner than the last."""
    return bool((sigma[:-1].diff() < 0).all()) and bool(sigma[-1] <= sigma[-2])
