"""Gen-L-Video (Wang et al., arXiv 2305.18264)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fifo_diffusion.baselines.sampler import Sampler
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.baselines.windows import sliding


class GenLVideo(Sampler):
    """Sliding windows are denoised side by side, and in each step a frame takes the mean over the windows that hold it.

    The mean is taken of predictions. That is the mean of what the windows step to, because a step is linear in the
    prediction (but where the scheduler clips the clean latent).
    """

    def part(self, made: int, memory: Tensor | None) -> tuple[Tensor, None]:
        windows = sliding(self.count, self.settings.window, self.settings.stride)

        def predict(latents: Tensor, timestep: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
            total, times = torch.zeros_like(latents), torch.zeros(self.count, device=latents.device)
            for w in windows:
                part = slice(w.start, w.stop)
                total[:, :, part] += self.predict(latents[:, :, part], timestep[:, part], [frames[0][part]])
                times[part] += 1
            return total / times[:, None, None]

        return self.sample(range(self.count), predict), None

    @staticmethod
    def frames_per_step(settings: BaselineSettings) -> int:
        return settings.window * len(sliding(settings.num_frames or 0, settings.window, settings.stride))
