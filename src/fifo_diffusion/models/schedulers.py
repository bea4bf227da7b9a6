"""A pipeline's own scheduler, read into a table of noise levels: nothing about the schedule is derived anew."""

import copy
import logging
from typing import Any

import torch
from diffusers import DDIMScheduler, SchedulerMixin  # noqa: F401  the second is what diffusers looks for at load
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from fifo_diffusion.method import NoiseLevels

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


def read_levels(scheduler: Any, count: int, *, eta: float = 0.0, scheduler_exact: bool = False) -> NoiseLevels:
    """Noise levels of `count` sampling steps of a diffusers scheduler.

    DDIM (with eta), DDPM, LCM and flow-matching Euler are stepped as they are, and so are UniPC and DPM++, whose
    history travels with each frame. Every other scheduler that is defined by diffusion betas (PNDM, Euler, ..., and
    those two with eta or in variants that add noise or do not predict the clean latent) is stepped by DDIM on its own
    betas and spacing, with a note in the log.

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
    if eta and (name.startswith("FlowMatchEuler") or config.get("use_flow_sigmas")):
        raise ValueError("eta belongs to diffusion models: this model is sampled by flow matching, leave eta=0")
    if name.startswith("FlowMatchEuler"):
        return _flow_levels(scheduler, count)
    if _is_linear_multistep(scheduler) and not eta:
        return _multistep_levels(scheduler, count)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"the scheduler {name} cannot be stepped frame by frame: set pipe.scheduler to a DDIMScheduler, "
            "DDPMScheduler or FlowMatchEulerDiscreteScheduler"
        )
    if config.get("thresholding"):
        raise ValueError("dynamic thresholding is not supported: set thresholding=False in the scheduler's config")
    if name.startswith("LCM"):
        return _lcm_levels(scheduler, count, eta)
    as_they_are = (
        "DDIMScheduler",
        "DDIMParallelScheduler",
        "DDPMScheduler",
        "DDPMParallelScheduler",
        "CogVideoXDDIM",
        "SignalScaleDDIM",
    )
    if not name.startswith(as_they_are):
        scheduler = _as_ddim(scheduler)
    ancestral = name.startswith("DDPM")
    scheduler.set_timesteps(count)
    timestep = scheduler.timesteps.flip(0).cpu()
    if len(timestep) != count or bool((timestep.diff() <= 0).any()):
        raise ValueError(f"{name} does not give {count} distinct timesteps: choose another number of num_partitions")
    abar = scheduler.alphas_cumprod.double().cpu()
    final = 1.0 if ancestral else float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    target = torch.cat([torch.tensor([final], dtype=torch.float64), abar[timestep[:-1]]])
    exact = scheduler_exact and not ancestral
    aim = timestep - trained // count
    if exact:
        target = torch.where(aim >= 0, abar[aim.clamp_min(0)], torch.tensor(final, dtype=torch.float64))
    levels = NoiseLevels.diffusion(
        timestep,
        abar[timestep],
        target,
        eta=1.0 if ancestral else eta,
        prediction=config.get("prediction_type", "epsilon"),
        clip=float(config.get("clip_sample_range", 1.0)) if _clips(name, config) else None,
    )
    if isinstance(scheduler, SignalScaleDDIMScheduler):
        scale = scheduler.signal_scale
        below = torch.cat([scale[:1], scale[timestep[:-1]]])
        return levels.with_signal_scale(scale[timestep], scale[aim.clamp_min(0)] if exact else below)
    return _ddpm_details(levels, config, abar[timestep], target, scheduler_exact) if ancestral else levels


def _clips(name: str, config: Any) -> bool:
    """CogVideoX's scheduler has the option, and does not heed it."""
    return bool(config.get("clip_sample")) and not name.startswith("CogVideoX")


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


def _lcm_levels(scheduler: Any, count: int, eta: float) -> NoiseLevels:
    """Latent consistency models (arXiv 2310.04378): the clean latent, and all noise fresh at every step.

    Their function of x is c_out x0 + c_skip x. With x = alpha x0 + sigma e that is a step to more of x0, and to a trace
    of e beside the fresh noise.
    """
    if eta:
        raise ValueError("LCMScheduler draws all noise anew at every step: leave eta out")
    config = scheduler.config
    if count > config.original_inference_steps:
        raise ValueError(
            f"the queue has {count} levels but LCMScheduler at most {config.original_inference_steps}: use "
            "frames_per_level, so that num_partitions x window / frames_per_level is what the model was made for "
            "(4 to 8, say)"
        )
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


def _is_linear_multistep(scheduler: Any) -> bool:
    """UniPC and DPM++ in the variants whose step is linear in sample, history and the predicted clean latent."""
    name, config = type(scheduler).__name__, scheduler.config
    if config.get("thresholding") or config.get("use_dynamic_shifting"):
        return False
    if name.startswith("UniPCMultistep"):
        return bool(config.predict_x0) and scheduler.solver_p is None
    learned = str(config.get("variance_type")).startswith("learned")
    return name.startswith("DPMSolverMultistep") and config.algorithm_type == "dpmsolver++" and not learned


def _multistep_levels(scheduler: Any, count: int) -> NoiseLevels:
    """Every frame goes through all levels once, in order, so that its history is that of ordinary sampling."""
    config = scheduler.config
    scheduler.set_timesteps(count)
    timestep, sigmas = scheduler.timesteps.cpu().flip(0), scheduler.sigmas.double().cpu().flip(0)
    flow = bool(config.get("use_flow_sigmas"))
    if len(timestep) != count or (not flow and bool((timestep.diff() <= 0).any())):
        name = type(scheduler).__name__
        raise ValueError(f"{name} does not give {count} distinct timesteps: choose another number of num_partitions")
    alphas = 1 - sigmas if flow else (1 + sigmas**2).rsqrt()
    sigmas, none = (sigmas if flow else sigmas * alphas), torch.zeros(count, dtype=torch.float64)
    prediction = config.get("prediction_type", "epsilon")
    matrices = _solver_matrices(scheduler)
    if not bool(matrices.isfinite().all()):
        raise ValueError(
            f'{type(scheduler).__name__} divides by zero in its last step: set final_sigmas_type="sigma_min"'
        )
    table = (timestep, alphas[1:], sigmas[1:], alphas[:-1], sigmas[:-1], none, none, prediction)
    return NoiseLevels(*table, solver=matrices)


def _solver_matrices(scheduler: Any) -> Tensor:
    """`NoiseLevels.solver` of a multistep scheduler, found by stepping it with unit vectors.

    Of a frame it remembers: UniPC the corrected sample before the last step, and both the last predicted clean latents,
    newest first, as many as its order needs.
    """
    corrects = hasattr(scheduler, "last_sample")
    estimates = scheduler.config.solver_order - (not corrects)
    planes = 1 + corrects + estimates
    sample, *memory, clean = torch.eye(planes + 1, dtype=torch.float64).split(1)
    scheduler.convert_model_output = lambda model_output, *_args, **_kwargs: model_output
    scheduler.set_begin_index(0)
    matrices = []
    for t in scheduler.timesteps:
        if estimates:
            scheduler.model_outputs[-estimates:] = memory[corrects:][::-1]
        if corrects:
            scheduler.last_sample = memory[0]
        rows = [scheduler.step(clean, t, sample, return_dict=False)[0]]
        rows += [scheduler.last_sample] if corrects else []
        rows += scheduler.model_outputs[::-1][:estimates]
        matrices.append(torch.cat(rows))
    return torch.stack(matrices[::-1])


def _as_ddim(scheduler: Any) -> Any:
    name, config = type(scheduler).__name__, scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    if prediction == "flow_prediction" or config.get("use_flow_sigmas"):
        raise ValueError(
            f"{name} on a flow model is not supported in this variant: set pipe.scheduler to "
            f"FlowMatchEulerDiscreteScheduler(shift={config.get('flow_shift', 1.0)})"
        )
    logger.warning("FIFO steps each frame with DDIM on the betas of %s (set pipe.scheduler to DDIM for silence)", name)
    # These schedulers never clip; DDIM's own default would.
    ddim = DDIMScheduler.from_config(config, clip_sample=False)
    ddim.alphas_cumprod = scheduler.alphas_cumprod  # CogVideoX's are shifted
    return ddim
