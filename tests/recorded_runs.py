"""What the recorded runs of the published code were made of: their draws of noise, and Open-Sora Plan's transformer."""

import inspect

import torch
from diffusers import LatteTransformer3DModel
from torch import Tensor

from fifo_diffusion.method import QueueLayout
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.testing import golden


class VideoCrafterNoise:
    """The draws of a recorded run of VideoCrafter, by frame and level."""

    def __init__(self, tensors: dict[str, Tensor], layout: QueueLayout) -> None:
        self.tensors, self.layout = tensors, layout
        self.first = layout.frames - layout.slots  # frame number of slot 0 at the start

    def __call__(self, frame: int, level: int, use: str) -> Tensor:
        layout, slot = self.layout, frame - self.first
        if level == layout.levels:
            if slot < layout.slots:
                return self.tensors["init_noise"][0, :, slot + layout.context]
            return self.tensors["tail_noise"][0, :, slot - layout.slots]
        iteration = slot - level
        padded = level + layout.context
        block = next(k for k, w in enumerate(layout.windows) if padded in w.writes)
        order = len(layout.windows) - 1 - block  # recorded noisiest first
        return self.tensors["step_noise"][0, :, iteration, order, padded - layout.windows[block].reads.start]


class OpenSoraNoise:
    """The draws of a recorded run of Open-Sora Plan, by frame and level. They were stored as they were used: per
    iteration, windows noisiest first, frames in order, none at timestep 0."""

    def __init__(self, tensors, layout, draws):
        self.tensors, self.layout, self.draws = tensors, layout, draws
        self.first = layout.frames - layout.slots
        read = [(w, p) for w in reversed(layout.windows) for p in w.reads if layout.slot_levels[p]]
        assert len(read) == draws
        self.order = {p: k for k, (w, p) in enumerate(read) if p in w.writes}

    def __call__(self, frame, level, use):
        layout, slot = self.layout, frame - self.first
        if level == layout.levels:
            if slot < layout.slots:
                return self.tensors["init_noise"][0, :, slot + layout.context]
            return self.tensors["tail_noise"][0, :, slot - layout.slots]
        if level == 0:
            return torch.zeros_like(self.tensors["tail_noise"][0, :, 0])
        return self.tensors["step_noise"][0, :, (slot - level) * self.draws + self.order[level + layout.context]]


def recorded_transformer(video_length, kind=OpenSoraPlanTransformer):
    weights, meta = golden.load("latte")
    config = {k: v for k, v in meta["config"].items() if k in inspect.signature(kind).parameters}
    if kind is LatteTransformer3DModel:
        config["sample_size"] = config["sample_size"][0]
    transformer = kind(**config | {"video_length": video_length}).eval()
    del weights["caption_projection.y_embedding"]
    transformer.load_state_dict(weights)
    return transformer
