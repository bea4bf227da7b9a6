"""One running video of a baseline: the same iterator of frames as `FrameStream`."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.baselines import sampler_of
from fifo_diffusion.baselines.sampler import Sampler
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.following_decoder import FollowingDecoder
from fifo_diffusion.streaming.outlet import Outlet, at_work, picture
from fifo_diffusion.streaming.prompts import PromptTrack, parse_prompt, ways_of
from fifo_diffusion.streaming.schedule import Schedule
from fifo_diffusion.streaming.steps import levels_of


class BaselineStream(Iterator[np.ndarray]):
    """Frames of one video, or of a batch, made by `baseline_stream`. An iterator and a context manager.

    Attributes:
        frame_index: frames handed out so far.
        fps: frames per second at which the base model's clips play.
        seed: of the first video.
        settings: all arguments, completed.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler, self._model, self.settings = sampler, sampler.model, sampler.settings
        self.fps: float = self._model.defaults["fps"]
        self.seed = self.settings.seeds[0]
        self.frame_index = 0
        self._outlet = Outlet(FollowingDecoder(self._model), shows=True)
        self._made = 0  # frames whose latents were sampled
        self._memory: Tensor | None = None  # of the sampler
        self._busy, self._closed = threading.Lock(), False

    def __iter__(self) -> "BaselineStream":
        return self

    def __next__(self) -> np.ndarray:
        """The next frame: uint8 (height, width, 3), or (videos, height, width, 3) for a batch of prompts.

        After an error, or Ctrl-C, the next call goes on from what was sampled: no frame is lost.

        Raises:
            FloatingPointError: the frame is not finite.
        """
        if self._closed or self.frame_index == self.settings.num_frames:
            raise StopIteration
        try:
            with at_work(self._busy):
                shown = picture(self._next_frame(), self.frame_index, self._model, batch=self.settings.batch)
                self._outlet.ready.popleft()
                self.frame_index += 1
        finally:
            if self._closed and not self._busy.locked():
                self._free()
        return shown

    @torch.no_grad()
    def _next_frame(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]; it waits in the outlet until it is handed out."""
        out, count = self._outlet, self.settings.num_frames
        while not out.ready:
            if out.latents:
                out.decode()
            elif count is None or self._made < count:
                out.latents.extend(self._next_part().split(1, 2))
            else:
                out.flush()
        return out.ready[0]

    def _next_part(self) -> Tensor:
        """The next clean latents (B, C, F, H, W)."""
        part, self._memory = self._sampler.part(self._made, self._memory)
        self._made += part.shape[2]
        return part

    def close(self) -> None:
        """End the stream and free its memory."""
        if not self._closed:
            self._closed = True
            if not self._busy.locked():  # else whoever computes a frame now does it then
                self._free()

    def _free(self) -> None:
        self._memory = None
        self._outlet.clear()
        self._model.free()

    def __enter__(self) -> "BaselineStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def baseline_stream(
    model: VideoModel, method: str, prompt: str | Sequence[str] | Mapping[int, str], **arguments: Any
) -> BaselineStream:
    """Frames of a long video by one of the baselines that FIFO-Diffusion is compared with.

    The noise of the first f frames is that of `FIFO.stream` with the same seed, so that on one window (num_frames=f)
    all baselines, and `FIFO.stream` with as many steps, give the same video.

    Args:
        model: `fifo.model`.
        method: a name in `BASELINES`: "freenoise", "genl", "chunked" or "plain".
        prompt: a text; a list of texts for a batch of videos; or {frame: text} with key 0.
        **arguments: num_frames (needed but for "chunked"), num_inference_steps (default 50, or as many as timesteps or
            sigmas are given), stride ("freenoise", "genl"; default 4), overlap ("chunked"; default 1), and as in
            `FIFO.stream`: seed, window, timesteps, sigmas, eta (default 0 for "freenoise" and "genl"), guidance_scale,
            negative_prompt, height, width, scheduler_exact, pipeline_arguments (a dictionary).

    Raises:
        ValueError, TypeError: arguments that do not fit; nothing has been computed then.
    """
    keys, batch = parse_prompt(prompt)
    if ways_of(prompt):
        raise ValueError(f"{method} has no queue: give the texts of the schedule without a way to change")
    settings = BaselineSettings.collect(model, method, videos=len(keys[min(keys)]), batch=batch, **arguments)
    levels = levels_of(model, settings)
    shape = model.latent_shape(settings.height, settings.width)
    sampler = sampler_of(method)(
        model,
        settings,
        levels,
        PromptTrack(model, Schedule.of({frame: (texts, None) for frame, texts in keys.items()}, "tail"), settings.call),
        SeededNoise(settings.seeds, shape, len(levels)),
        torch.empty((len(settings.seeds), shape[0], 1, *shape[1:]), device=model.device),
    )
    return BaselineStream(sampler)
