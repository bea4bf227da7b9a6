"""Streaming decoder and encoder of `AutoencoderKLLTXVideo` and `AutoencoderKLLTX2Video`, whose decoders look both ways
in time, or only back.

All its layers but the convolutions along time work on single frames. So a stream of latents goes through the layers,
with a memory in front of every convolution of the frames that it needs again. A convolution that looks ahead waits for
the frames that follow: what comes out is the decoding of the whole video, later, and each frame is computed once.
"""

from collections import deque
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fifo_diffusion.decoding.causal import bring_to_device
from fifo_diffusion.decoding.frames import to_unit_range
from fifo_diffusion.decoding.spatial_tiles import tiles_of
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.method import to_device


class Convolution:
    """Along time, frame by frame: repeats the first frame before a video, and the last one after it.

    Args:
        module: an `LTXVideoCausalConv3d`.
        causal: whether it looks back only.
    """

    def __init__(self, module: Any, causal: bool) -> None:
        self.module, taps = module, module.kernel_size[0] - 1
        self.back = taps if causal else taps // 2
        self.ahead = taps - self.back
        self.kept: Tensor | None = None

    def push(self, x_BCFHW: Tensor, last: bool) -> Tensor:
        """Further frames, maybe none, to those that are ready; `last`: none will follow."""
        x, taps = x_BCFHW, self.back + self.ahead
        if x.shape[2] or self.kept is not None:
            before = x[:, :, :1].expand(-1, -1, self.back, -1, -1) if self.kept is None else self.kept
            x = torch.cat([before, x], 2)
            if last:
                x = torch.cat([x, x[:, :, -1:].expand(-1, -1, self.ahead, -1, -1)], 2)
            self.kept = x[:, :, -taps:] if taps else x[:, :, :0]
        if x.shape[2] <= taps:
            self.kept = x if self.kept is not None else None
            return x.new_empty(len(x), self.module.conv.out_channels, 0, *x.shape[3:])
        return self.module.conv(x)

    def ready(self, frames: int) -> int:
        """How many frames come out once `frames` went in."""
        return max(0, frames - self.ahead)


class Block:
    """A residual block: its own input waits until what two convolutions make of it is there.

    Args:
        module: an `LTXVideoResnetBlock3d`.
        causal: whether its convolutions look back only.
        noise: draws noise for one frame like this tensor (1, H, W); for blocks that add some.
        embedder: what embeds the time that the decoder is told, where it is told one.
    """

    def __init__(self, module: Any, causal: bool, noise: Callable[[Tensor], Tensor], embedder: Any = None) -> None:
        self.module, self.noise, self.embedder = module, noise, embedder
        self.first, self.second = Convolution(module.conv1, causal), Convolution(module.conv2, causal)
        self.inputs: Tensor | None = None
        self.drawn: tuple[Tensor, ...] = ()

    def push(self, x_BCFHW: Tensor, last: bool) -> Tensor:
        module, x = self.module, x_BCFHW
        shift_1, scale_1, shift_2, scale_2 = _modulations(module, self.embedder, x.dtype) or (0.0,) * 4
        self.inputs = x if self.inputs is None else torch.cat([self.inputs, x], 2)
        h = module.nonlinearity(_normed(module.norm1, x) * (1 + scale_1) + shift_1)
        h = self._noisy(self.first.push(h, last), module.per_channel_scale1, 0)
        h = module.nonlinearity(_normed(module.norm2, h) * (1 + scale_2) + shift_2)
        h = self._noisy(self.second.push(h, last), module.per_channel_scale2, 1)
        inputs, self.inputs = self.inputs.tensor_split([h.shape[2]], 2)
        if module.norm3 is not None:
            inputs = _normed(module.norm3, inputs)
        if module.conv_shortcut is not None:  # of one frame
            inputs = getattr(module.conv_shortcut, "conv", module.conv_shortcut)(inputs) if inputs.shape[2] else h
        return h + inputs

    def _noisy(self, x: Tensor, scale: Tensor | None, which: int) -> Tensor:
        """All frames of a video have the same noise."""
        if scale is None or not x.shape[2]:
            return x
        if len(self.drawn) == which:
            self.drawn = (*self.drawn, self.noise(x[0, :1, 0]))
        return x + (self.drawn[which] * scale)[None, :, None]

    def ready(self, frames: int) -> int:
        return self.second.ready(self.first.ready(frames))


class Upsampler:
    """Makes several frames of one, but of the first of a video one.

    Args:
        module: an `LTXVideoUpsampler3d`.
        causal: whether its convolution looks back only.
    """

    def __init__(self, module: Any, causal: bool) -> None:
        self.module, self.convolution = module, Convolution(module.conv, causal)
        self.inputs: Tensor | None = None
        self.begun = False

    def push(self, x_BCFHW: Tensor, last: bool) -> Tensor:
        module, x = self.module, x_BCFHW
        y = self._finer(self.convolution.push(x, last))
        if module.residual:
            self.inputs = x if self.inputs is None else torch.cat([self.inputs, x], 2)
            inputs, self.inputs = self.inputs.tensor_split([y.shape[2] // module.stride[0]], 2)
            same = self._finer(inputs)
            y = y + same.repeat(1, y.shape[1] // same.shape[1], 1, 1, 1)
        if y.shape[2] and not self.begun:
            y, self.begun = y[:, :, module.stride[0] - 1 :], True
        return y

    def _finer(self, x_BCFHW: Tensor) -> Tensor:
        """Channels to frames, rows and columns."""
        videos, channels, frames, height, width = x_BCFHW.shape
        s, t, u = self.module.stride
        x = x_BCFHW.reshape(videos, channels // (s * t * u), s, t, u, frames, height, width)
        return x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def ready(self, frames: int) -> int:
        found = self.convolution.ready(frames) * self.module.stride[0]
        return max(0, found - self.module.stride[0] + 1)


Layer = Convolution | Block | Upsampler


class LTXDecoder:
    """Exactly what decoding the whole video gives. Where the autoencoder looks ahead (`decoder_causal=False`, as the
    published ones of LTX-Video do) its frames come `latency` latents later.

    An autoencoder that is told a time (`timestep_conditioning`) is told 0, as by the pipeline unless `decode_timestep`
    says otherwise. One that adds noise of its own draws it once for a video, by a seed of 0.

    Args:
        vae: an `AutoencoderKLLTXVideo` or `AutoencoderKLLTX2Video`, with its tiling over height and width as it is now.
            Videos are decoded together, also where its slicing is on.
    """

    exact = tiling = True

    def __init__(self, vae: Any) -> None:
        self.vae, self.timing, self._tiles = vae, LatentTiming(1, vae.temporal_compression_ratio), tiles_of(vae)
        self._layers = self._fresh()  # as they are counted
        self._of_tiles: list[list[Layer]] = []  # as they work, once there are latents
        self.latency = next(n for n in range(1000) if self.ready(64 + n) >= self.timing.frames(64))
        self._past: deque[Tensor] = deque(maxlen=self._reach() + self.latency + 1)
        self._count = 0
        self._stale = False

    def ready(self, latents: int) -> int:
        """Frames that are there when so many latents were pushed."""
        for layer in self._layers:
            latents = layer.ready(latents)
        return latents

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        past = list(self._past), self._count
        try:
            if self._stale:
                self._of_tiles = []
                for latent in self._past:
                    self._through(latent)
                self._stale = False
            frames = []
            for latent in latents_BCFHW.split(1, 2):
                frames.append(self._through(latent))
                self._past.append(latent)
                self._count += 1
        except BaseException:  # out of memory, say: these latents may be given again
            self._past.clear()
            self._past.extend(past[0])
            self._count, self._stale = past[1], True
            raise
        return torch.cat(frames, 1)

    def skip(self, latents_BCFHW: Tensor) -> int:
        before = self.ready(self._count)
        self._past.extend(latents_BCFHW.split(1, 2))
        self._count += latents_BCFHW.shape[2]
        self._stale = True
        return self.ready(self._count) - before

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The frames still held back. The decoder stays as it was."""
        if not self._past:
            return torch.empty(0)
        before, self._of_tiles = self._of_tiles, []
        try:
            for latent in self._past:
                self._through(latent)
            return self._through(self._past[-1][:, :, :0], last=True)
        finally:
            self._of_tiles = before

    def state(self) -> dict[str, Tensor]:
        return {"past": torch.cat([*self._past], 2), "count": torch.tensor(self._count)} if self._past else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._past.clear()
        self._count, self._stale = 0, bool(state)
        if state:
            self._past.extend(state["past"].split(1, 2))
            self._count = int(state["count"])

    # ------------------------------------------------------------------ inside

    def _through(self, latents_BCFHW: Tensor, *, last: bool = False) -> Tensor:
        """Latents through all layers, (B, F', 3, H, W) in [0, 1]."""
        bring_to_device(self.vae)
        z = denormalized(self.vae, latents_BCFHW)
        places = [[(slice(None), slice(None))]] if self._tiles is None else self._tiles.places(z)
        if not self._of_tiles:
            self._of_tiles = [self._fresh() for row in places for _ in row]
        layers = iter(self._of_tiles)
        rows = [[self._tile(next(layers), z[..., down, right], last) for down, right in row] for row in places]
        frames = rows[0][0] if self._tiles is None else self._tiles.joined(rows, z)
        return to_unit_range(frames.float().transpose(1, 2))

    def _tile(self, layers: list[Layer], x: Tensor, last: bool) -> Tensor:
        """Of latents as the autoencoder has them, (B, 3, F', H, W) in [-1, 1]."""
        decoder = self.vae.decoder
        for layer in layers[:-1]:
            x = layer.push(x, last)
        x = _normed(decoder.norm_out, x)
        shift, scale = _modulations(decoder, decoder.time_embedder, x.dtype) or (0.0, 0.0)
        x = layers[-1].push(decoder.conv_act(x * (1 + scale) + shift), last)
        p = decoder.patch_size
        videos, channels, frames, height, width = x.shape
        x = x.reshape(videos, channels // p**2, p, p, frames, height, width)
        return x.permute(0, 1, 4, 5, 3, 6, 2).reshape(videos, channels // p**2, frames, height * p, width * p)

    def _fresh(self) -> list[Layer]:
        """All layers with a convolution along time in their order, remembering nothing."""
        generator = torch.Generator().manual_seed(0)

        def noise(like: Tensor) -> Tensor:
            return to_device(torch.randn(like.shape[1:], generator=generator).to(like.dtype), like.device)[None]

        return list(_layers(self.vae.decoder, self.vae.config.decoder_causal, noise))

    def _reach(self) -> int:
        """How many latents before its own a frame depends on; one more, as the oldest is decoded as if it began a
        video."""
        reach, rate = 0.0, 1
        for layer in self._layers:
            parts = [layer.first, layer.second] if isinstance(layer, Block) else [layer]
            for part in parts:
                reach += (part.convolution if isinstance(part, Upsampler) else part).back / rate
            rate *= layer.module.stride[0] if isinstance(layer, Upsampler) else 1
        return ceil(reach) + 1


def _layers(decoder: Any, causal: bool, noise: Callable[[Tensor], Tensor]) -> Iterator[Layer]:
    yield Convolution(decoder.conv_in, causal)
    for block in (decoder.mid_block, *decoder.up_blocks):
        if getattr(block, "conv_in", None) is not None:
            yield Block(block.conv_in, causal, noise)
        for upsampler in getattr(block, "upsamplers", None) or ():
            yield Upsampler(upsampler, causal)
        for resnet in block.resnets:
            yield Block(resnet, causal, noise, block.time_embedder)
    yield Convolution(decoder.conv_out, causal)


def _modulations(module: Any, embedder: Any, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
    """Shifts and scales of a module that is told the time 0, (1, C, 1, 1, 1) each."""
    if embedder is None:
        return None
    table = module.scale_shift_table[None, ..., None, None, None]
    zero = torch.zeros(1, device=table.device)
    time = embedder(timestep=zero, resolution=None, aspect_ratio=None, batch_size=1, hidden_dtype=dtype)
    return (time.view(1, table.shape[1], -1, 1, 1, 1) + table).unbind(1)


def _normed(norm: nn.Module, x_BCFHW: Tensor) -> Tensor:
    """Over channels."""
    if type(norm).__name__ == "PerChannelRMSNorm":  # LTX-2's
        return norm(x_BCFHW)
    return norm(x_BCFHW.movedim(1, -1)).movedim(-1, 1)


def denormalized(vae: Any, latents_BCFHW: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those of the transformer; in the autoencoder's precision."""
    mean, std = _statistics(vae, latents_BCFHW)
    return (latents_BCFHW * std / vae.config.scaling_factor + mean).to(vae.dtype)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then `temporal_compression_ratio` for each further latent, to the mean latents,
    (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode().float()
    mean, std = _statistics(vae, latents)
    return (latents - mean) * vae.config.scaling_factor / std


def _statistics(vae: Any, like_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel."""
    mean, std = (value.view(1, -1, 1, 1, 1).to(like_BCFHW) for value in (vae.latents_mean, vae.latents_std))
    return mean, std
