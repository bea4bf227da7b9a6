"""One running video of a baseline: the same iterator of frames as `FrameStream`."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.baselines.methods import BASELINES, Sampling
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.method import SeededNoise
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.following_decoder import FollowingDecoder
from fifo_diffusion.streaming.prompts import PromptTrack, parse_prompt


class BaselineStream(Iterator[np.ndarray]):
    """Frames of one video, or of a batch, made by `baseline_stream`. An iterator and a context manager.

    Attributes:
        frame_index: frames handed out so far.
        fps: frames per second at which the base model's clips play.
        seed: of the first video.
        settings: all arguments, completed.
    """

    def __init__(self, model: VideoModel, settings: BaselineSettings, sampling: Sampling) -> None:
        self.settings, self.fps, self.seed = settings, model.defaults["fps"], settings.seeds[0]
        self.frame_index, self._closed = 0, False
        self._decoder = FollowingDecoder(model)
        self._parts = BASELINES[settings.method].latents(sampling)
        self._latents: deque[Tensor] = deque()  # clean, one frame each
        self._ready: deque[Tensor] = deque()  # decoded: (B, 3, H, W) in [0, 1]

    def __iter__(self) -> "BaselineStream":
        return self

    def __next__(self) -> np.ndarray:
        """The next frame: uint8 (height, width, 3), or (videos, height, width, 3) for a batch of prompts."""
        if self._closed or self.frame_index == self.settings.num_frames:
            raise StopIteration
        while not self._ready:
            self._decode_more()
        self.frame_index += 1
        pictures = to_uint8(self._ready.popleft())
        return pictures if self.settings.batch else pictures[0]

    @torch.no_grad()
    def _decode_more(self) -> None:
        if not self._latents:
            part = next(self._parts, None)
            if part is None:
                self._ready.extend(self._decoder.flush().unbind(1))
                return
            self._latents.extend(part.split(1, 2))
        self._ready.extend(self._decoder.push(self._latents.popleft()).unbind(1))

    def close(self) -> None:
        """End the stream and free its memory."""
        self._parts = iter(())
        self._latents.clear()
        self._ready.clear()
        self._closed = True

    def __enter__(self) -> "BaselineStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def baseline_stream(
    model: VideoModel, method: str, prompt: str | Sequence[str] | Mapping[int, str], **arguments: Any
) -> BaselineStream:
    """Frames of a long video by one of the baselines that FIFO-Diffusion is compared with.

    The noise of the first f frames is that of `FIFO.stream` with the same seed, so that on one window (num_frames=f)
    all methods, and `FIFO.stream` with as many steps, give the same video.

    Args:
        model: `fifo.model`.
        method: "freenoise", "genl", "chunked" or "plain".
        prompt: a text; a list of texts for a batch of videos; or {frame: text} with key 0.
        **arguments: num_frames (needed but for "chunked"), num_inference_steps (default 50), stride ("freenoise",
            "genl"; default 4), overlap ("chunked"; default 1), and as in `FIFO.stream`: seed, window, eta (default 0
            for "freenoise" and "genl"), guidance_scale, negative_prompt, height, width, scheduler_exact,
            pipeline_arguments (a dictionary).

    Raises:
        ValueError, TypeError: arguments that do not fit; nothing has been computed then.
    """
    keys, batch = parse_prompt(prompt)
    settings = BaselineSettings.collect(model, method, videos=len(keys[min(keys)]), batch=batch, **arguments)
    levels = model.levels(settings.num_inference_steps, eta=settings.eta, scheduler_exact=settings.scheduler_exact)
    shape = model.latent_shape(settings.height, settings.width)
    sampling = Sampling(
        model,
        settings,
        levels,
        PromptTrack(model, keys, "tail", settings.call),
        SeededNoise(settings.seeds, shape, len(levels)),
        torch.empty((len(settings.seeds), shape[0], 1, *shape[1:]), device=model.device),
    )
    return BaselineStream(model, settings, sampling)
