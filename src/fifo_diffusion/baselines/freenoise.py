"""FreeNoise (Qiu et al., ICLR 2024, arXiv 2310.15169).

Legend: R rows (videos x pixels), F frames, D inner width.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from fifo_diffusion.baselines.sampler import Sampler
from fifo_diffusion.baselines.settings import BaselineSettings
from fifo_diffusion.baselines.windows import sliding
from fifo_diffusion.method import Noise
from fifo_diffusion.models.banded.passes import attention_of, is_plain, shadow, temporal_blocks
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.models.videocrafter.unet import RelativeAttention


def noise_order(count: int, window: int, stride: int, seed: int) -> list[int]:
    """For each of `count` frames the frame of the first window whose noise it has.

    The first window has its own. After that, stretches of `stride` frames have the noise of those that lie a window
    earlier, in another order.
    """
    order, rng = list(range(min(window, count))), np.random.default_rng(seed)
    while len(order) < count:
        order += rng.permutation(order[-window : len(order) - window + stride]).tolist()
    return order[:count]


def rescheduled(noise: Noise, top: int, count: int, window: int, stride: int, seed: int) -> Noise:
    """The same noise, but that what frames begin with (level `top`) is repeated and shuffled."""
    order = noise_order(count, window, stride, seed)
    return lambda frame, level, use="queue": noise(order[frame] if level == top else frame, level, use)


def fusion_weights(windows: Sequence[range]) -> list[Tensor]:
    """What each window counts for each of its frames: the nearer to its middle the more, and 1 over all windows."""
    count = windows[-1].stop
    ramps = [torch.arange(1.0, len(w) + 1) for w in windows]
    ramps = [torch.minimum(ramp, ramp.flip(0)) for ramp in ramps]
    total = torch.zeros(count)
    for window, ramp in zip(windows, ramps, strict=True):
        total[window.start : window.stop] += ramp
    return [ramp / total[window.start : window.stop] for window, ramp in zip(windows, ramps, strict=True)]


class FusedAttention:
    """A processor for the self-attention of temporal layers, rows (R, F, D): attention within every window, and for
    each frame the weighted mean over the windows that hold it.

    Args:
        windows: of frames, together all F.
    """

    def __init__(self, windows: Sequence[range]) -> None:
        self._parts = [slice(w.start, w.stop) for w in windows]
        self._weights = fusion_weights(windows)

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        query, key, value = (
            layer(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        fused = torch.zeros_like(query)
        for part, weight in zip(self._parts, self._weights, strict=True):
            mixed = F.scaled_dot_product_attention(query[:, :, part], key[:, :, part], value[:, :, part])
            fused[:, :, part] += mixed * weight[:, None].to(mixed)
        return attn.to_out[1](attn.to_out[0](fused.transpose(1, 2).flatten(2)))


@contextmanager
def fused(unet: nn.Module, attention: FusedAttention) -> Iterator[None]:
    """Within it a U-Net's temporal attention is fused over windows. All other layers see all frames."""
    with ExitStack() as stack:
        for block in temporal_blocks(unet):
            for layer in attention_of(block):
                shadow(stack, layer, "processor", attention)
        yield


class FreeNoise(Sampler):
    """The noise of later frames repeats that of the first window, shuffled in stretches of `stride`; temporal attention
    looks at sliding windows, whose results are fused."""

    def part(self, made: int, memory: Tensor | None) -> tuple[Tensor, None]:
        window, stride, seed = self.settings.window, self.settings.stride, self.settings.seeds[0]
        noise = rescheduled(self.noise, len(self.levels), self.count, window, stride, seed)
        attention = FusedAttention(sliding(self.count, window, stride))

        def predict(latents: Tensor, timestep: Tensor, frames: Sequence[Sequence[int]]) -> Tensor:
            condition = self.prompts.condition(frames, 0)  # runs the U-Net on other frames: not inside
            with fused(self.model.pipe.unet, attention):
                return self.model.predict(latents, timestep, condition)

        return self.sample(range(self.count), predict, noise), None

    @staticmethod
    def frames_per_step(settings: BaselineSettings) -> int:
        return settings.num_frames or 0

    @classmethod
    def check(cls, model: VideoModel) -> None:
        """Raises ValueError for a model whose temporal attention cannot be fused over windows."""
        instead = "cannot do FreeNoise: use another baseline"
        if not isinstance(model, UNet3DModel):
            raise ValueError(f"{model.family} models {instead}")
        for block in temporal_blocks(model.pipe.unet):
            layers = attention_of(block)
            if block.pos_embed is not None or any(isinstance(layer, RelativeAttention) for layer in layers):
                raise ValueError(f"a U-Net with temporal positions {instead}")
            if not all(map(is_plain, layers)):
                raise ValueError(f"a U-Net with this kind of temporal attention {instead}")
