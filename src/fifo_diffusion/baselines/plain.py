"""Plain long sampling: the base model, as if it had been trained on videos of that length."""

from torch import Tensor

from fifo_diffusion.baselines.sampler import Sampler
from fifo_diffusion.baselines.settings import BaselineSettings


class Plain(Sampler):
    """All frames in one pass."""

    def part(self, made: int, memory: Tensor | None) -> tuple[Tensor, None]:
        return self.sample(range(self.count)), None

    @staticmethod
    def frames_per_step(settings: BaselineSettings) -> int:
        return settings.num_frames or 0
