"""Four ways to a long video. Each is ordinary sampling (`sample_clip`) with other noise or another prediction.

On one window, a video of f frames, all four are the base model's own sampling.

Legend: B videos, C channels, F frames, H and W latent height and width, f frames of a window.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fifo_diffusion.baselines.freenoise import FusedAttention, FusedPass, check_fused, rescheduled
from fifo_diffusion.baselines.windows import sliding
from fifo_diffusion.method import Noise, NoiseLevels, sample_clip
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.streaming.prompts import PromptTrack

if TYPE_CHECKING:
    from fifo_diffusion.baselines.settings import BaselineSettings


@dataclass(frozen=True)
class Sampling:
    """What a method works with.

    Attributes:
        settings: completed arguments.
        noise: used for "clip", as by the clip that opens a video of FIFO; for "queue" with known frames.
        like: a tensor (B, C, 1, H, W) on the model's device.
    """

    model: VideoModel
    settings: "BaselineSettings"
    levels: NoiseLevels
    prompts: PromptTrack
    noise: Noise
    like: Tensor

    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
        """The base model's prediction; see `method.Predict`."""
        return self.model.predict(latents_BCFHW, timestep_BF, self.prompts.condition(frames, 0))

    def sample(self, frames: range, predict: Callable[..., Tensor] | None = None) -> Tensor:
        """Clean latents of these frames, all of them at one level at a time."""
        like = self.like.expand(-1, -1, len(frames), -1, -1)
        steps = sample_clip(self.levels, predict or self.predict, self.noise, frames, like)
        return deque(steps, maxlen=1)[0]


def plain(sampling: Sampling) -> Iterator[Tensor]:
    """All frames in one pass, as if the model had been trained on videos of that length."""
    yield sampling.sample(range(sampling.settings.num_frames or 0))


def freenoise(sampling: Sampling) -> Iterator[Tensor]:
    """FreeNoise (Qiu et al., arXiv 2310.15169): the noise of later frames repeats that of the first window, shuffled
    in stretches of `stride`; temporal attention looks at sliding windows, whose results are fused."""
    settings = sampling.settings
    count = settings.num_frames or 0
    noise = rescheduled(
        sampling.noise, len(sampling.levels), count, settings.window, settings.stride, settings.seeds[0]
    )
    attention = FusedAttention(sliding(count, settings.window, settings.stride))

    def predict(latents: Tensor, timestep: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
        condition = sampling.prompts.condition(frames, 0)  # runs the U-Net on other frames: not inside
        with FusedPass(sampling.model.pipe.unet, attention):
            return sampling.model.predict(latents, timestep, condition)

    yield replace(sampling, noise=noise).sample(range(count), predict)


def genl(sampling: Sampling) -> Iterator[Tensor]:
    """Gen-L-Video (Wang et al., arXiv 2305.18264): sliding windows are denoised side by side, and in each step a frame
    takes the mean over the windows that hold it.

    The mean is taken of predictions. That is the mean of what the windows step to, because a step is linear in the
    prediction (but where the scheduler clips the clean latent).
    """
    settings = sampling.settings
    count = settings.num_frames or 0
    windows = sliding(count, settings.window, settings.stride)

    def predict(latents: Tensor, timestep: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
        total, times = torch.zeros_like(latents), torch.zeros(count, device=latents.device)
        for w in windows:
            part = slice(w.start, w.stop)
            total[:, :, part] += sampling.predict(latents[:, :, part], timestep[:, part], [frames[0][part]])
            times[part] += 1
        return total / times[:, None, None]

    yield sampling.sample(range(count), predict)


def chunked(sampling: Sampling) -> Iterator[Tensor]:
    """Chunk after chunk, each beginning with the last `overlap` frames of the one before.

    Nothing is trained for it: in every step these known frames are noised anew to the level of the others
    (replacement; Ho et al., arXiv 2204.03458, section 3.1). In the paper LaVie with SEINE, which are trained models,
    have this place.
    """
    settings = sampling.settings
    clean = sampling.sample(range(settings.window))
    yield clean
    made = settings.window
    while settings.num_frames is None or made < settings.num_frames:
        frames = range(made - settings.overlap, made - settings.overlap + settings.window)
        clean = sampling.sample(frames, _seeing(sampling, clean[:, :, -settings.overlap :], frames))
        yield clean[:, :, settings.overlap :]
        made = frames.stop


def _seeing(sampling: Sampling, known_BCKHW: Tensor, frames: range) -> Callable[..., Tensor]:
    """A prediction in which the first frames are known ones, at the level that all others are at."""
    given = known_BCKHW.shape[2]
    coming = iter(reversed(range(len(sampling.levels))))

    def predict(latents: Tensor, timestep: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
        index = next(coming)
        draws = torch.stack([sampling.noise(frame, index) for frame in frames[:given]], -3).to(known_BCKHW)
        seen = sampling.levels.renoise(known_BCKHW, draws, torch.full((1, given), index))
        return sampling.predict(torch.cat([seen, latents[:, :, given:]], 2), timestep, windows)

    return predict


def _whole(settings: "BaselineSettings") -> int:
    return settings.num_frames or 0


def _by_windows(settings: "BaselineSettings") -> int:
    return settings.window * len(sliding(settings.num_frames or 0, settings.window, settings.stride))


def _by_chunks(settings: "BaselineSettings") -> int:
    more = max(0, (settings.num_frames or 0) - settings.window)
    return settings.window * (1 - (-more // (settings.window - settings.overlap)))


@dataclass(frozen=True)
class Baseline:
    """A method.

    Attributes:
        title: its name for people.
        latents: clean latents (B, C, F, H, W), in one or more parts.
        frames_per_step: frames that are sent through the model in each step of a whole video.
        options: which of stride and overlap it takes.
        streams: whether frames come before the whole video is computed.
        eta: published fresh noise per step; None: the model's own.
        check: refuses base models that it cannot use (ValueError).
    """

    title: str
    latents: Callable[[Sampling], Iterator[Tensor]]
    frames_per_step: Callable[["BaselineSettings"], int]
    options: tuple[str, ...] = ()
    streams: bool = False
    eta: float | None = None
    check: Callable[[VideoModel], None] = lambda model: None


BASELINES = {
    "freenoise": Baseline("FreeNoise", freenoise, _whole, ("stride",), eta=0.0, check=check_fused),
    "genl": Baseline("Gen-L-Video", genl, _by_windows, ("stride",), eta=0.0),
    "chunked": Baseline("chunked autoregression", chunked, _by_chunks, ("overlap",), streams=True),
    "plain": Baseline("plain long sampling", plain, _whole),
}
