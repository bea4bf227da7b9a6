"""A pipeline's own scheduler, read into a table of noise levels: nothing about the schedule is derived anew."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
)
from torch import Tensor

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.shared.scheduler_checks import check_scheduler
from fifo_diffusion.models.shared.solver_probe import probe
from fifo_diffusion.models.shared.spacing import Spacing, numbers_of
from fifo_diffusion.models.shared.step_rules import (
    Grid,
    Rule,
    changed_methods,
    is_flow,
    known_class,
    read_grid,
    short_error,
    unknown_rule,
)

logger = logging.getLogger(__name__)


def read_levels(
    scheduler: Any,
    count: int,
    *,
    eta: float = 0.0,
    scheduler_exact: bool = False,
    flow: bool | None = None,
    timesteps: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
) -> NoiseLevels:
    """Noise levels of `count` sampling steps of a diffusers scheduler, on its own timesteps and sigmas.

    Where its step can be taken frame by frame it is its own: DDIM (with eta), DDPM, LCM, TCD, Euler, Euler ancestral,
    flow matching, and solvers with history (UniPC, DPM++, DEIS, LMS, SA), which travels with each frame. The others
    step at first order, with a line in the log that says what is lost (`step_rules.RULES`).

    Args:
        scheduler: read from a copy; never changed.
        count: L, the number of levels.
        eta: share of fresh noise, in [0, 1]. TCD's gamma.
        scheduler_exact: aim where `scheduler.step` aims. diffusers' DDIM goes from t to t - 1000 // L, which with some
            spacings is not the next level; by default each step goes exactly to the next level.
        flow: whether the model was trained by flow matching; None: not known.
        timesteps, sigmas: the steps themselves, as in the call of a diffusers pipeline (see `Spacing`); not both.
        mu: of a scheduler that shifts its sigmas by the size of the video (`use_dynamic_shifting`).

    Raises:
        StepCountError: timesteps or sigmas that are not `count` steps.
        ValueError: a scheduler or an option that cannot be stepped frame by frame, or that does not go with the model;
            or more levels than its timesteps.
    """
    scheduler = copy.deepcopy(scheduler)
    name = type(scheduler).__name__
    known, rule = known_class(scheduler)
    check_scheduler(scheduler, rule, count, eta, flow, shifted=mu is not None)
    steps = replace(_spacing(count, timesteps, sigmas, scheduler_exact), mu=mu)
    changed = changed_methods(scheduler, known) if known is not None else ["step"]
    try:
        if rule is None or changed:
            lost = f"what {name} does in {' and '.join(changed)} (FIFO knows diffusers' own steps only)"
            levels = _at_first_order(scheduler, replace(rule or unknown_rule(scheduler), lost=lost), steps, eta)
        elif not rule.written:
            levels = _probed(scheduler, rule, steps, eta)
        elif rule.space == "flow":
            levels = _flow_levels(scheduler, steps)
        elif rule.fresh:
            levels = _lcm_levels(scheduler, steps)
        else:
            levels = _ddim_levels(scheduler, steps, eta, scheduler_exact)
    except (AssertionError, AttributeError, LookupError, ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name} cannot be stepped as it is set up: {short_error(error)}") from error
    tables = torch.stack([levels.timestep, levels.alpha, levels.sigma, levels.target_alpha, levels.target_sigma])
    if not bool(tables.isfinite().all()) or bool((levels.alpha < -1e-6).any()):
        raise ValueError(
            f"{name} as it is set up has no usable noise levels (not finite, or beyond pure noise): look at "
            "pipe.scheduler.config"
        )
    return levels


def _spacing(count: int, timesteps: Any, sigmas: Any, scheduler_exact: bool) -> Spacing:
    steps = Spacing(count, numbers_of("timesteps", timesteps), numbers_of("sigmas", sigmas))
    if steps.timesteps is not None and steps.sigmas is not None:
        raise ValueError(Message("give either ", Setting("timesteps"), " or ", Setting("sigmas"), ", not both"))
    if steps.given and scheduler_exact:
        what = "it is about the scheduler's own spacing: leave it out, or "
        raise ArgumentError("scheduler_exact", True, what, Setting("timesteps"), " and ", Setting("sigmas"))
    return steps


# ------------------------------------------------------------------ steps that are written out


def _ddim_levels(scheduler: Any, steps: Spacing, eta: float, scheduler_exact: bool) -> NoiseLevels:
    """DDIM and DDPM."""
    config, ancestral = scheduler.config, isinstance(scheduler, DDPMScheduler | DDPMParallelScheduler)
    steps.lay(scheduler)
    timestep = scheduler.timesteps.flip(0).cpu()
    if len(timestep) != steps.count or bool((timestep.diff() <= 0).any()):
        raise steps.not_distinct(scheduler)
    abar = scheduler.alphas_cumprod.double().cpu()
    final = 1.0 if ancestral else float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    target = torch.cat([torch.tensor([final], dtype=torch.float64), abar[timestep[:-1]]])
    exact = scheduler_exact and not ancestral
    aim = timestep - config.num_train_timesteps // steps.count
    if exact:
        target = torch.where(aim >= 0, abar[aim.clamp_min(0)], torch.tensor(final, dtype=torch.float64))
    levels = NoiseLevels.diffusion(
        timestep,
        abar[timestep],
        target,
        eta=1.0 if ancestral else eta,
        prediction=config.get("prediction_type", "epsilon"),
        clip=float(config.get("clip_sample_range", 1.0)) if _clips(scheduler) else None,
    )
    scale = getattr(scheduler, "signal_scale", None)
    if scale is not None:
        below = torch.cat([scale[:1], scale[timestep[:-1]]])
        return levels.with_signal_scale(scale[timestep], scale[aim.clamp_min(0)] if exact else below)
    return _ddpm_details(levels, config, abar[timestep], target, scheduler_exact) if ancestral else levels


def _clips(scheduler: Any) -> bool:
    """CogVideoX's scheduler has the option, and does not heed it."""
    return bool(scheduler.config.get("clip_sample")) and not isinstance(scheduler, CogVideoXDDIMScheduler)


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


def _lcm_levels(scheduler: Any, steps: Spacing) -> NoiseLevels:
    """Latent consistency models (arXiv 2310.04378): the clean latent, and all noise fresh at every step.

    Their function of x is c_out x0 + c_skip x. With x = alpha x0 + sigma e that is a step to more of x0, and to a trace
    of e beside the fresh noise.
    """
    config = scheduler.config
    steps.lay(scheduler)
    timestep = scheduler.timesteps.flip(0).cpu()
    abar = scheduler.alphas_cumprod.double().cpu()[timestep]
    target = torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
    alpha, sigma, fresh = abar.sqrt(), (1 - abar).sqrt(), (1 - target).sqrt()
    skip, out = scheduler.get_scalings_for_boundary_condition_discrete(timestep.double())
    kept = target.sqrt() * skip * sigma
    return NoiseLevels(
        timestep,
        alpha,
        sigma,
        target.sqrt() * (out + skip * alpha),
        (fresh**2 + kept**2).sqrt(),
        fresh,
        fresh,
        config.get("prediction_type", "epsilon"),
        float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample") else None,
        clip_direction=True,  # e is what is left of x, or c_skip x would not come out
    )


def _flow_levels(scheduler: Any, steps: Spacing) -> NoiseLevels:
    """FlowMatchEuler in all its variants."""
    steps.lay(scheduler)
    sigmas = scheduler.sigmas.double().cpu().flip(0)
    timestep = scheduler.timesteps.cpu().flip(0)
    if len(timestep) != steps.count or not bool((sigmas.diff() > 0).all()):
        raise steps.not_distinct(scheduler)
    return NoiseLevels.flow(
        timestep, sigmas[1:], sigmas[:-1], stochastic=bool(scheduler.config.get("stochastic_sampling", False))
    )


# ------------------------------------------------------------------ steps that are found, or replaced


def _probed(scheduler: Any, rule: Rule, steps: Spacing, eta: float) -> NoiseLevels:
    """The step as the scheduler itself takes it.

    Every frame goes through all levels once, in order, so that its history is that of ordinary sampling.
    """
    name, memory = type(scheduler).__name__, rule.memory
    if rule.lost:
        return _at_first_order(scheduler, rule, steps, eta)
    if eta and memory:
        return _at_first_order(
            scheduler, replace(rule, lost="what it remembers of earlier steps (for eta=0 only)"), steps, eta
        )
    if getattr(scheduler, "solver_p", None) is not None:
        return _at_first_order(scheduler, replace(rule, lost="what it remembers, and its solver_p"), steps, eta)
    if str(scheduler.config.get("variance_type")).startswith("learned"):
        scheduler.register_to_config(variance_type=None)  # the family has cut the variance off
    grid = read_grid(scheduler, rule, steps)
    plain = _plain_levels(scheduler, rule, grid, eta=0.0 if "TCD" in name else eta)
    if isinstance(scheduler, EulerDiscreteScheduler):
        return plain  # of first order and deterministic: the table is the step
    matrices = probe(scheduler, grid, plain.prediction, memory, eta)
    if not bool(matrices.isfinite().all()):
        raise ValueError(f'{name} divides by zero in its last step: set final_sigmas_type="sigma_min"')
    noise = matrices[:, 0, -1].abs()
    plain = replace(plain, fresh=noise, removed=torch.minimum(noise, plain.target_sigma))
    if matrices.shape[1] == 1 and bool(((matrices[:, 0] - _as_rows(plain)).abs() < _SAME).all()):
        return plain
    return replace(plain, solver=matrices if bool((matrices[..., -1] != 0).any()) else matrices[..., :-1])


_SAME = 2e-6


def _as_rows(levels: NoiseLevels) -> Tensor:
    """(L, 3) the weights of the sample, the clean latent and the noise in a step of a table without history."""
    kept = (levels.target_sigma**2 - levels.removed**2).clamp_min(0).sqrt() / levels.sigma
    return torch.stack([kept, levels.target_alpha - kept * levels.alpha, levels.fresh], 1)


def _at_first_order(scheduler: Any, rule: Rule, steps: Spacing, eta: float) -> NoiseLevels:
    name = type(scheduler).__name__
    levels = _plain_levels(scheduler, rule, read_grid(scheduler, rule, steps), eta)
    logger.warning(
        "FIFO steps %s at first order, by %s on its own timesteps and sigmas; lost: %s",
        name,
        "Euler's rule" if is_flow(scheduler, rule) else "DDIM's rule",
        rule.lost,
    )
    return levels


def _plain_levels(scheduler: Any, rule: Rule, grid: Grid, eta: float) -> NoiseLevels:
    """The step at first order from each level of a grid to the next, with `eta` of fresh noise."""
    alpha, sigma, target_alpha, target_sigma = (
        x.flip(0) for x in (grid.alpha[:-1], grid.sigma[:-1], grid.alpha[1:], grid.sigma[1:])
    )
    if not 0 <= eta <= 1:
        raise ArgumentError("eta", eta, "give a number from 0 to 1")
    share = (target_sigma / sigma) ** 2 * (1 - (alpha / target_alpha) ** 2)
    fresh = eta * share.clamp_min(0).sqrt()
    prediction = "flow_prediction" if rule.space == "flow" else scheduler.config.get("prediction_type", "epsilon")
    prediction = {"original_sample": "sample"}.get(prediction, prediction)
    begins = float(scheduler.init_noise_sigma * grid.scale[0]) if rule.space == "scaled" else 1.0
    return NoiseLevels(
        grid.timesteps.flip(0), alpha, sigma, target_alpha, target_sigma, fresh, fresh, prediction, entry=begins
    )
