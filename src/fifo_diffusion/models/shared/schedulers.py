"""A pipeline's own scheduler, read into a table of noise levels: nothing about the schedule is derived anew."""

import copy
import logging
import math
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,  # noqa: F401  what diffusers looks for at load
)
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.shared.scheduler_choice import flow_shift_of
from fifo_diffusion.models.shared.solver_probe import probe
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


class SignalScaleDDIMScheduler(DDIMScheduler):
    """DDIM for models that were trained on a rescaled signal: x = sqrt(abar) s x0 + sqrt(1 - abar) e.

    The scale s falls evenly from 1 at timestep 0 to `signal_scale_end` at timestep `signal_scale_steps` - 1, and stays
    there (VideoCrafter2: 0.7 after 400 timesteps). Otherwise the stock scheduler, with VideoCrafter's defaults.

    Attributes:
        signal_scale: (timesteps,) float64.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        trained_betas: list[float] | None = None,
        clip_sample: bool = False,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "trailing",
        rescale_betas_zero_snr: bool = False,
        signal_scale_end: float = 1.0,
        signal_scale_steps: int = 400,
    ) -> None:
        super().__init__(
            num_train_timesteps,
            beta_start,
            beta_end,
            beta_schedule,
            trained_betas,
            clip_sample,
            set_alpha_to_one,
            steps_offset,
            prediction_type,
            thresholding,
            dynamic_thresholding_ratio,
            clip_sample_range,
            sample_max_value,
            timestep_spacing,
            rescale_betas_zero_snr,
        )
        falling = torch.linspace(1, signal_scale_end, signal_scale_steps, dtype=torch.float64)
        constant = torch.full((num_train_timesteps,), signal_scale_end, dtype=torch.float64)
        self.signal_scale = torch.cat([falling, constant])[:num_train_timesteps]

    def step(
        self,
        model_output: Tensor,
        timestep: int,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: torch.Generator | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, ...]:
        """As in the stock scheduler, whose estimate of the clean sample is s x0 here."""
        stock = super().step(
            model_output, timestep, sample, eta, use_clipped_model_output, generator, variance_noise, True
        )
        target = int(timestep) - self.config.num_train_timesteps // self.num_inference_steps
        scale = float(self.signal_scale[int(timestep)])
        target_scale = float(self.signal_scale[target]) if target >= 0 else 1.0
        target_abar = self.alphas_cumprod[target] if target >= 0 else self.final_alpha_cumprod
        correction = float(target_abar) ** 0.5 * (target_scale / scale - 1)
        previous = stock.prev_sample + correction * stock.pred_original_sample
        result = DDIMSchedulerOutput(prev_sample=previous, pred_original_sample=stock.pred_original_sample / scale)
        return result if return_dict else (result.prev_sample, result.pred_original_sample)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """(B, ...) clean samples brought to the noise of their timesteps (B,)."""
        scale = self.signal_scale[timesteps.cpu()].to(original_samples.device, original_samples.dtype)
        scale = scale.reshape(-1, *[1] * (original_samples.dim() - 1))
        return super().add_noise(scale * original_samples, noise, timesteps)


def read_levels(
    scheduler: Any, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, flow: bool | None = None
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

    Raises:
        ValueError: a scheduler or an option that cannot be stepped frame by frame, or that does not go with the model;
            or more levels than its timesteps.
    """
    scheduler = copy.deepcopy(scheduler)
    name = type(scheduler).__name__
    known, rule = known_class(scheduler)
    _check(scheduler, rule, count, eta, flow)
    changed = changed_methods(scheduler, known, (SignalScaleDDIMScheduler,)) if known is not None else ["step"]
    try:
        if rule is None or changed:
            step = f"what {name} does in {' and '.join(changed)} (FIFO knows diffusers' own steps only)"
            levels = _at_first_order(scheduler, replace(rule or unknown_rule(scheduler), lost=step), count, eta)
        elif not rule.written:
            levels = _probed(scheduler, rule, count, eta)
        elif rule.space == "flow":
            levels = _flow_levels(scheduler, count)
        elif rule.fresh:
            levels = _lcm_levels(scheduler, count)
        else:
            levels = _ddim_levels(scheduler, count, eta, scheduler_exact)
    except (AssertionError, AttributeError, LookupError, ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name} cannot be stepped as it is set up: {short_error(error)}") from error
    tables = torch.stack([levels.timestep, levels.alpha, levels.sigma, levels.target_alpha, levels.target_sigma])
    if not bool(tables.isfinite().all()) or bool((levels.alpha < -1e-6).any()):
        raise ValueError(
            f"{name} as it is set up has no usable noise levels (not finite, or beyond pure noise): look at "
            "pipe.scheduler.config"
        )
    return levels


def _check(scheduler: Any, rule: Rule | None, count: int, eta: float, flow: bool | None) -> None:
    """Raises ValueError where this scheduler cannot be used for this model, or with these options."""
    name = type(scheduler).__name__
    if rule is not None and rule.refused:
        raise ValueError(f"the scheduler {name} cannot be stepped frame by frame: {rule.refused}; {advice(flow)}")
    if rule is None and not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"the scheduler {name} cannot be stepped frame by frame: {advice(flow)}")
    config, its_flow = scheduler.config, is_flow(scheduler, rule)
    for_flow_only = not hasattr(scheduler, "scale_model_input") or (rule is not None and rule.space == "flow")
    predicts = config.get("prediction_type", "flow_prediction" if flow else "epsilon")
    if flow and its_flow and predicts != "flow_prediction":
        raise ValueError(
            f"{name} is set up for a model that predicts {predicts}, this one predicts flow: {advice(flow)}"
        )
    if flow is False and its_flow and not for_flow_only:
        raise ValueError(f"{name} is set up for flow matching, this model was trained by diffusion: {advice(flow)}")
    if flow and not its_flow:
        raise ValueError(f"{name} is set up for diffusion, and this model was trained by flow matching: {advice(flow)}")
    if flow is False and for_flow_only:
        raise ValueError(f"{name} is for flow matching, and this model was trained by diffusion: {advice(flow)}")
    if config.get("prediction_type") == "flow_prediction" and not config.get("use_flow_sigmas"):
        what = "set use_flow_sigmas=True in its config" if "use_flow_sigmas" in config else advice(flow)
        raise ValueError(f"{name} predicts flow without flow sigmas: {what}")
    if config.get("thresholding"):
        raise ValueError("dynamic thresholding is not supported: set thresholding=False in the scheduler's config")
    if config.get("invert_sigmas"):
        raise ValueError("flow matching with invert_sigmas is not supported")
    if its_flow and config.get("use_dynamic_shifting"):
        raise ValueError("dynamic shifting is not supported: set use_dynamic_shifting=False and a fixed shift")
    if config.get("upscale_mode") and config.get("scale_factors"):
        raise ValueError(f"{name} with scale_factors changes the size of frames on the way: leave scale_factors out")
    shift, trained = flow_shift_of(scheduler), config.get("num_train_timesteps", 1000)
    if shift is not None and not 0 < shift < math.inf:
        raise ValueError(f"the flow shift must be a number above 0, not {shift:g}")
    if count > trained:
        raise ValueError(
            f"the queue has {count} levels but the scheduler only {trained} timesteps: use fewer num_partitions or "
            "more frames_per_level"
        )
    original = config.get("original_inference_steps")
    if original and count > original:
        raise ValueError(
            f"the queue has {count} levels but {name} at most {original}: use frames_per_level, so that "
            "num_partitions x window / frames_per_level is what the model was made for (4 to 8, say)"
        )
    if eta and its_flow:
        raise ValueError("eta belongs to diffusion models: this model is sampled by flow matching, leave eta=0")
    if eta and _draws(scheduler, rule):
        raise ValueError(f"{name} draws noise by a rule of its own: leave eta out")


def _draws(scheduler: Any, rule: Rule | None) -> bool:
    """Whether it draws noise by a rule of its own."""
    stochastic = str(scheduler.config.get("algorithm_type")).startswith("sde")
    return stochastic or (rule is not None and rule.fresh and not rule.lost)


def advice(flow: bool | None) -> str:
    """What to type instead of a scheduler that does not do."""
    usual = "set pipe.scheduler to a DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler"
    for_flow = (
        "set pipe.scheduler to a FlowMatchEulerDiscreteScheduler, or to a UniPCMultistepScheduler with "
        'use_flow_sigmas=True and prediction_type="flow_prediction"'
    )
    if flow is None:
        return f"{usual}, for flow matching to a FlowMatchEulerDiscreteScheduler"
    return for_flow if flow else usual


# ------------------------------------------------------------------ steps that are written out


def _ddim_levels(scheduler: Any, count: int, eta: float, scheduler_exact: bool) -> NoiseLevels:
    """DDIM and DDPM."""
    config, ancestral = scheduler.config, isinstance(scheduler, DDPMScheduler | DDPMParallelScheduler)
    scheduler.set_timesteps(count)
    timestep = scheduler.timesteps.flip(0).cpu()
    if len(timestep) != count or bool((timestep.diff() <= 0).any()):
        name = type(scheduler).__name__
        raise ValueError(f"{name} does not give {count} distinct timesteps: choose another number of num_partitions")
    abar = scheduler.alphas_cumprod.double().cpu()
    final = 1.0 if ancestral else float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    target = torch.cat([torch.tensor([final], dtype=torch.float64), abar[timestep[:-1]]])
    exact = scheduler_exact and not ancestral
    aim = timestep - config.num_train_timesteps // count
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
    if isinstance(scheduler, SignalScaleDDIMScheduler):
        scale = scheduler.signal_scale
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


def _lcm_levels(scheduler: Any, count: int) -> NoiseLevels:
    """Latent consistency models (arXiv 2310.04378): the clean latent, and all noise fresh at every step.

    Their function of x is c_out x0 + c_skip x. With x = alpha x0 + sigma e that is a step to more of x0, and to a trace
    of e beside the fresh noise.
    """
    config = scheduler.config
    scheduler.set_timesteps(count)
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


def _flow_levels(scheduler: Any, count: int) -> NoiseLevels:
    """FlowMatchEuler in all its variants."""
    scheduler.set_timesteps(count)
    sigmas = scheduler.sigmas.double().cpu().flip(0)
    timestep = scheduler.timesteps.cpu().flip(0)
    if len(timestep) != count or not bool((sigmas.diff() > 0).all()):
        name = type(scheduler).__name__
        raise ValueError(f"{name} does not give {count} distinct timesteps: choose another number of num_partitions")
    return NoiseLevels.flow(
        timestep, sigmas[1:], sigmas[:-1], stochastic=bool(scheduler.config.get("stochastic_sampling", False))
    )


# ------------------------------------------------------------------ steps that are found, or replaced


def _probed(scheduler: Any, rule: Rule, count: int, eta: float) -> NoiseLevels:
    """The step as the scheduler itself takes it.

    Every frame goes through all levels once, in order, so that its history is that of ordinary sampling.
    """
    name, memory = type(scheduler).__name__, rule.memory
    if rule.lost:
        return _at_first_order(scheduler, rule, count, eta)
    if eta and memory:
        return _at_first_order(
            scheduler, replace(rule, lost="what it remembers of earlier steps (for eta=0 only)"), count, eta
        )
    if getattr(scheduler, "solver_p", None) is not None:
        return _at_first_order(scheduler, replace(rule, lost="what it remembers, and its solver_p"), count, eta)
    if str(scheduler.config.get("variance_type")).startswith("learned"):
        scheduler.register_to_config(variance_type=None)  # the family has cut the variance off
    grid = read_grid(scheduler, rule, count)
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


def _at_first_order(scheduler: Any, rule: Rule, count: int, eta: float) -> NoiseLevels:
    name = type(scheduler).__name__
    levels = _plain_levels(scheduler, rule, read_grid(scheduler, rule, count), eta)
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
        raise ValueError(f"eta must lie between 0 and 1, not {eta}")
    share = (target_sigma / sigma) ** 2 * (1 - (alpha / target_alpha) ** 2)
    fresh = eta * share.clamp_min(0).sqrt()
    prediction = "flow_prediction" if rule.space == "flow" else scheduler.config.get("prediction_type", "epsilon")
    prediction = {"original_sample": "sample"}.get(prediction, prediction)
    begins = float(scheduler.init_noise_sigma * grid.scale[0]) if rule.space == "scaled" else 1.0
    return NoiseLevels(
        grid.timesteps.flip(0), alpha, sigma, target_alpha, target_sigma, fresh, fresh, prediction, entry=begins
    )
