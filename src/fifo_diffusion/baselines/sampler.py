"""What a baseline works with, and what it has to say: `Sampler`.

Each is ordinary sampling (`sample_clip`) with other noise or another prediction. On one window, a video of f frames,
all of them are the base model's own sampling.

Legend: B videos, C channels, F frames, H and W latent height and width, f frames of a window.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.method import Noise, NoiseLevels, sample_clip
from fifo_diffusion.method.fifo import Predict
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.streaming.prompts import PromptTrack


@dataclass(frozen=True)
class Sampler(ABC):
    """A baseline at work on one video.

    Attributes:
        settings: completed arguments.
        noise: used for "clip", as by the clip that opens a video of FIFO; for "queue" with known frames.
        like: a tensor (B, C, 1, H, W) on the model's device.
    """

    model: VideoModel
    settings: BaselineSettings
    levels: NoiseLevels
    prompts: PromptTrack
    noise: Noise
    like: Tensor

    @abstractmethod
    def part(self, made: int, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Clean latents (B, C, F, H, W) of the frames from number `made` on: of all, or, where the method streams, of
        some. Called again with the same arguments it gives the same, so that a stream goes on after an error.

        Args:
            made: number of frames that there are already; 0 unless the method streams.
            memory: of the call before; None for the first.

        Returns:
            the latents, and what the next call needs to know.
        """

    @staticmethod
    @abstractmethod
    def frames_per_step(settings: BaselineSettings) -> int:
        """How many frames are sent through the model for each denoising step of a video of `settings.num_frames`."""

    @classmethod  # noqa: B027
    def check(cls, model: VideoModel) -> None:
        """Raises ValueError for a base model that the method cannot use."""

    @property
    def count(self) -> int:
        """Frames of the video; it is not endless."""
        return self.settings.num_frames or 0

    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
        """The base model's prediction; see `method.Predict`."""
        return self.model.predict(latents_BCFHW, timestep_BF, self.prompts.condition(frames, 0))

    def sample(self, frames: range, predict: Predict | None = None, noise: Noise | None = None) -> Tensor:
        """Clean latents of these frames, all of them at one level at a time."""
        like = self.like.expand(-1, -1, len(frames), -1, -1)
        steps = sample_clip(self.levels, predict or self.predict, noise or self.noise, frames, like)
        return deque(steps, maxlen=1)[0]
