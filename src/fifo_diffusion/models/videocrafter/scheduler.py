"""The schedulers of VideoCrafter2, whose signal was rescaled in training, and of T2V-Turbo, distilled from it."""

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    LCMScheduler,
    SchedulerMixin,  # noqa: F401  what diffusers looks for at load
)
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor


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


class T2VTurboScheduler(LCMScheduler):
    """LCM on the timesteps of T2V-Turbo (`scheduler/t2v_turbo_scheduler.py` of Ji4chenLi/t2v-turbo).

    Of the `original_inference_steps` (50 of T2V-Turbo, 200 of v2) that the model was distilled on, it takes every k-th
    from the noisiest on, k = original // steps; diffusers' LCM spaces them as evenly as possible instead (4 of 50: 999,
    759, 519, 279 here, 999, 759, 499, 259 there). The step is LCM's.

    Args:
        **config: as in `LCMScheduler`; by default VideoCrafter2's betas.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        original_inference_steps: int = 50,
        clip_sample: bool = False,
        set_alpha_to_one: bool = True,
        prediction_type: str = "epsilon",
        timestep_scaling: float = 10.0,
    ) -> None:
        super().__init__(
            num_train_timesteps,
            beta_start,
            beta_end,
            beta_schedule,
            original_inference_steps=original_inference_steps,
            clip_sample=clip_sample,
            set_alpha_to_one=set_alpha_to_one,
            prediction_type=prediction_type,
            timestep_scaling=timestep_scaling,
        )

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        original_inference_steps: int | None = None,
        timesteps: list[int] | None = None,
        strength: float = 1.0,
    ) -> None:
        """As in `LCMScheduler`, on the published timesteps."""
        super().set_timesteps(num_inference_steps, device, original_inference_steps, timesteps, strength)
        if timesteps is not None or num_inference_steps is None:
            return
        original = original_inference_steps or self.config.original_inference_steps
        every = self.config.num_train_timesteps // original
        steps = torch.arange(original, 0, -(original // num_inference_steps))[:num_inference_steps]
        self.timesteps = (steps * every - 1).to(device=device, dtype=torch.long)
