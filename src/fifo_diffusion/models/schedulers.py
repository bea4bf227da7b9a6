"""A pipeline's own scheduler, read into a table of noise levels: nothing about the schedule is derived anew."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.method import NoiseLevels

logger = logging.getLogger(__name__)


def read_levels(scheduler: Any, count: int, *, eta: float = 0.0, scheduler_exact: bool = False) -> NoiseLevels:
    """Noise levels of `count` sampling steps of a diffusers scheduler.

    DDIM (with eta), DDPM and flow-matching Euler are stepped as they are. Every other scheduler that is defined by
    diffusion betas (DPM++, UniPC, PNDM, Euler, ...) is stepped by DDIM on its own betas and spacing, with a note in
    the log.

    Args:
        scheduler: read from a copy; never changed.
        count: L, the number of levels.
        eta: share of fresh noise of DDIM, in [0, 1].
        scheduler_exact: aim where `scheduler.step` aims. diffusers' DDIM goes from t to t - 1000 // L, which with some
            spacings is not the next level; by default each step goes exactly to the next level.

    Raises:
        ValueError: a scheduler or an option that cannot be stepped frame by frame, or more levels than its timesteps.
    """
    scheduler = copy.deepcopy(scheduler)
    name, config = type(scheduler).__name__, scheduler.config
    trained = config.get("num_train_timesteps", 1000)
    if count > trained:
        raise ValueError(
            f"the queue has {count} levels but the scheduler only {trained} timesteps: use fewer num_partitions or "
            "more frames_per_level"
        )
    if name.startswith("FlowMatchEuler"):
        return _flow_levels(scheduler, count, eta)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"the scheduler {name} cannot be stepped frame by frame: set pipe.scheduler to a DDIMScheduler, "
            "DDPMScheduler or FlowMatchEulerDiscreteScheduler"
        )
    if config.get("thresholding"):
        raise ValueError("dynamic thresholding is not supported: set thresholding=False in the scheduler's config")
    if not name.startswith(("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler")):
        scheduler = _as_ddim(scheduler)
    ancestral = name.startswith("DDPM")
    scheduler.set_timesteps(count)
    timestep = scheduler.timesteps.flip(0).cpu()
    if len(timestep) != count or bool((timestep.diff() <= 0).any()):
        raise ValueError(f"{name} does not give {count} distinct timesteps: choose another number of num_partitions")
    abar = scheduler.alphas_cumprod.double().cpu()
    final = 1.0 if ancestral else float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    target = torch.cat([torch.tensor([final], dtype=torch.float64), abar[timestep[:-1]]])
    if scheduler_exact and not ancestral:
        aim = timestep - trained // count
        target = torch.where(aim >= 0, abar[aim.clamp_min(0)], torch.tensor(final, dtype=torch.float64))
    levels = NoiseLevels.diffusion(
        timestep,
        abar[timestep],
        target,
        eta=1.0 if ancestral else eta,
        prediction=config.get("prediction_type", "epsilon"),
        clip=float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample") else None,
    )
    return _ddpm_details(levels, config, abar[timestep], target, scheduler_exact) if ancestral else levels


def _ddpm_details(levels: NoiseLevels, config: Any, abar: Tensor, target: Tensor, exact: bool) -> NoiseLevels:
    """DDPM is DDIM with eta = 1, but that its direction follows the clipped prediction and its variance may be beta."""
    variance_type = config.get("variance_type", "fixed_small")
    if variance_type == "fixed_large":
        # diffusers adds noise even to the finished frame, unless its last timestep is 0.
        noisy = levels.timestep > 0 if exact else torch.arange(len(levels)) > 0
        levels = levels.with_ancestral_variance((1 - abar / target) * noisy)
    elif variance_type not in ("fixed_small", "learned_range"):
        raise ValueError(f"DDPM variance_type {variance_type!r} is not supported: use fixed_small or fixed_large")
    return levels.with_clipped_direction()


def _flow_levels(scheduler: Any, count: int, eta: float) -> NoiseLevels:
    if eta:
        raise ValueError("eta belongs to diffusion models: this model is sampled by flow matching, leave eta=0")
    config = scheduler.config
    if config.get("invert_sigmas"):
        raise ValueError("flow matching with invert_sigmas is not supported")
    if config.get("use_dynamic_shifting"):
        raise ValueError("dynamic shifting is not supported: set use_dynamic_shifting=False and a fixed shift")
    scheduler.set_timesteps(count)
    sigmas = scheduler.sigmas.double().cpu().flip(0)
    timestep = scheduler.timesteps.cpu().flip(0)
    return NoiseLevels.flow(
        timestep, sigmas[1:], sigmas[:-1], stochastic=bool(config.get("stochastic_sampling", False))
    )


def _as_ddim(scheduler: Any) -> Any:
    from diffusers import DDIMScheduler

    name, config = type(scheduler).__name__, scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if prediction == "flow_prediction" or config.get("use_flow_sigmas"):
        raise ValueError(
            f"{name} on a flow model is not supported: set pipe.scheduler to FlowMatchEulerDiscreteScheduler"
        )
    logger.warning("FIFO steps each frame with DDIM on the betas of %s (set pipe.scheduler to DDIM for silence)", name)
    # These schedulers never clip; DDIM's own default would.
    return DDIMScheduler.from_config(config, clip_sample=False)
