"""What a baseline's video costs, in frame-forwards as `jobs.cost.Cost` has it for FIFO."""

from dataclasses import dataclass, replace

from fifo_diffusion.baselines import BASELINES, sampler_of
from fifo_diffusion.baselines.settings import BaselineSettings


@dataclass(frozen=True)
class BaselineCost:
    """The work of one video."""

    settings: BaselineSettings

    @property
    def passes(self) -> int:
        """2 with classifier-free guidance, else 1."""
        return 2 if self.settings.guidance_scale > 1 else 1

    def until(self, frames: int) -> float:
        """Frame-forwards that have been computed once this number of frames is there."""
        method, settings = self.settings.method, self.settings
        if frames < 1:
            return 0
        if BASELINES[method].streams:
            settings = replace(settings, num_frames=frames)
        return sampler_of(method).frames_per_step(settings) * settings.num_inference_steps * self.passes
