"""Chunked autoregression: chunk after chunk, each beginning with the last frames of the one before.

Nothing is trained for it: in every step these known frames are noised anew to the level of the others (replacement; Ho
et al., arXiv 2204.03458, section 3.1). In the paper LaVie with SEINE, which are trained models, have this place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fifo_diffusion.baselines.sampler import Sampler
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.method.fifo import Predict


class Chunked(Sampler):
    """Chunks of f frames that share `overlap` frames with the one before."""

    def part(self, made: int, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Its memory is the last f frames, as they were shown: those that a chunk was given come out of its sampling as
        something else."""
        window, overlap = self.settings.window, self.settings.overlap
        if memory is None:
            new = memory = self.sample(range(window))
        else:
            frames = range(made - overlap, made - overlap + window)
            new = self.sample(frames, self._given(memory[:, :, -overlap:], frames))[:, :, overlap:]
            memory = torch.cat([memory, new], 2)[:, :, -window:]
        return new, memory

    def _given(self, known_BCKHW: Tensor, frames: range) -> Predict:
        """A prediction in which the first frames are known ones, at the level that all others are at."""
        given = known_BCKHW.shape[2]
        coming = iter(reversed(range(len(self.levels))))

        def predict(latents: Tensor, timestep: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
            index = next(coming)
            draws = torch.stack([self.noise(frame, index) for frame in frames[:given]], -3).to(known_BCKHW)
            seen = self.levels.renoise(known_BCKHW, draws, torch.full((1, given), index))
            return self.predict(torch.cat([seen, latents[:, :, given:]], 2), timestep, windows)

        return predict

    @staticmethod
    def frames_per_step(settings: BaselineSettings) -> int:
        more = max(0, (settings.num_frames or 0) - settings.window)
        return settings.window * (1 - (-more // (settings.window - settings.overlap)))
