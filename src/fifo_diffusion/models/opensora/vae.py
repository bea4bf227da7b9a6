"""The causal video autoencoder of Open-Sora Plan v1.1.0 (4x in time, 8x8 in space), inference only.

Attributes of the modules are the published names, so that a published state dict fits as it is. A clip of 4 k + 1
frames makes k + 1 latents: the first frame one, every four others one.

It is causal in its convolutions only. The group norms of 3D layers take their statistics over time too, and the
upsampling in time looks one frame ahead; so the beginning of a clip decoded alone is not what it is in the whole clip.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from fifo_diffusion.models.opensora.tiles import in_chunks, in_tiles

KINDS = {
    "q_conv": "CausalConv3d",
    "encoder_conv_in": "Conv2d",
    "encoder_conv_out": "CausalConv3d",
    "encoder_attention": "AttnBlock3DFix",
    "encoder_mid_resnet": "ResnetBlock3D",
    "decoder_conv_in": "CausalConv3d",
    "decoder_conv_out": "CausalConv3d",
    "decoder_attention": "AttnBlock3DFix",
    "decoder_mid_resnet": "ResnetBlock3D",
}
"""What a published configuration calls the layers that are the same in every v1.1.0 autoencoder."""
KINDS_OF_LEVELS = {
    "encoder_resnet_blocks": ("ResnetBlock2D", "ResnetBlock3D"),
    "encoder_spatial_downsample": ("Downsample", ""),
    "encoder_temporal_downsample": ("TimeDownsampleRes2x", ""),
    "decoder_resnet_blocks": ("ResnetBlock3D",),
    "decoder_spatial_upsample": ("SpatialUpsample2x", ""),
    "decoder_temporal_upsample": ("TimeUpsampleRes2x", ""),
}
"""And those that a configuration lists level by level; the first name is what `True` below stands for."""


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class CausalConv3d(nn.Module):
    """A convolution that sees the past only: the first frame stands for what was before it."""

    def __init__(self, channels: int, out: int, size: int | tuple[int, int, int] = 3) -> None:
        super().__init__()
        size = (size,) * 3 if isinstance(size, int) else size
        self.before = size[0] - 1
        self.conv = nn.Conv3d(channels, out, size, padding=(0, size[1] // 2, size[2] // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(first_repeated(x, self.before))


def first_repeated(x: Tensor, times: int) -> Tensor:
    """A clip with its first frame repeated in front of it `times` more times."""
    return torch.cat([x[:, :, :1].expand(-1, -1, times, -1, -1), x], 2) if times else x


def by_frame(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of images (B, C, H, W), frame by frame of a clip (B, C, F, H, W)."""
    return function(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, on clips, or frame by frame (`flat`)."""

    def __init__(self, channels: int, out: int, *, flat: bool = False) -> None:
        super().__init__()
        self.flat = flat

        def conv(a: int, b: int, size: int) -> nn.Module:
            return nn.Conv2d(a, b, size, padding=size // 2) if flat else CausalConv3d(a, b, size)

        self.norm1, self.conv1 = norm(channels), conv(channels, out, 3)
        self.norm2, self.conv2 = norm(out), conv(out, out, 3)
        if channels != out:
            self.nin_shortcut = conv(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return by_frame(self._forward, x) if self.flat else self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class FrameAttention(nn.Module):
    """One head over the positions of a frame; frame by frame but for its norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (CausalConv3d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).permute(0, 2, 3, 4, 1).flatten(2, 3) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)  # (B, F, C, H W)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return by_frame(lambda image: self.conv(F.pad(image, (0, 1, 0, 1))), x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=(1, 2, 2)))


class TimeDownsample(nn.Module):
    """2 k + 1 frames to k + 1: a learned mix of mean and convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x, share = first_repeated(x, 2), self.mix_factor.sigmoid()
        return share * F.avg_pool3d(x, (3, 1, 1), stride=(2, 1, 1)) + (1 - share) * self.conv(x)


class TimeUpsample(nn.Module):
    """k + 1 frames to 2 k + 1: the first stays, the others are interpolated; then a learned mix with a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, 3)
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        share = self.mix_factor.sigmoid()
        if x.shape[2] > 1:
            further = F.interpolate(x[:, :, 1:], scale_factor=(2, 1, 1), mode="trilinear")
            x = torch.cat([x[:, :, :1], further], 2)
        return share * x + (1 - share) * self.conv(x)


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = (
            ResBlock(channels, channels),
            FrameAttention(channels),
            ResBlock(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """Residual blocks of one size, then the change of size in space, then in time."""

    def __init__(self, blocks: Sequence[nn.Module], **resize: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.resize = [name for name, module in resize.items() if module is not None]
        for name in self.resize:
            self.add_module(name, resize[name])

    def forward(self, x: Tensor) -> Tensor:
        for layer in [*self.block, *(getattr(self, name) for name in self.resize)]:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Pixels (B, 3, 4 k + 1, 8 h, 8 w) to moments (B, 2 C, k + 1, h, w)."""

    def __init__(self, widths: Sequence[int], blocks: int, latent: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, config["hidden_size"], 3, padding=1)
        self.down, channels = nn.ModuleList(), config["hidden_size"]
        for level, width in enumerate(widths):
            flat = config["encoder_resnet_blocks"][level] == "ResnetBlock2D"
            layers = [ResBlock(channels if k == 0 else width, width, flat=flat) for k in range(blocks)]
            space, time = (config[f"encoder_{kind}_downsample"][level] for kind in ("spatial", "temporal"))
            self.down.append(
                Level(
                    layers,
                    downsample=Downsample(width) if space else None,
                    time_downsample=TimeDownsample(width) if time else None,
                )
            )
            channels = width
        self.mid, self.norm_out = Middle(channels), norm(channels)
        self.conv_out = CausalConv3d(channels, 2 * latent)

    def forward(self, x: Tensor) -> Tensor:
        x = by_frame(self.conv_in, x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents (B, C, k + 1, h, w) to pixels (B, 3, 4 k + 1, 8 h, 8 w)."""

    def __init__(self, widths: Sequence[int], blocks: int, latent: int, config: dict[str, Any]) -> None:
        super().__init__()
        channels, levels = widths[-1], []
        self.conv_in, self.mid = CausalConv3d(latent, channels), Middle(channels)
        for level, width in reversed([*enumerate(widths)]):
            layers = [ResBlock(channels if k == 0 else width, width) for k in range(blocks + 1)]
            space, time = (config[f"decoder_{kind}_upsample"][level] for kind in ("spatial", "temporal"))
            levels.append(
                Level(
                    layers,
                    upsample=Upsample(width) if space else None,
                    time_upsample=TimeUpsample(width) if time else None,
                )
            )
            channels = width
        self.up = nn.ModuleList(reversed(levels))  # numbered as in the encoder
        self.norm_out, self.conv_out = norm(channels), CausalConv3d(channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class CausalVideoAutoencoder(ModelMixin, ConfigMixin):
    """Arguments are those of a published config.json; what else such a file holds (losses, sizes of training data) has
    no meaning here.

    Attributes:
        use_tiling: large clips go through in tiles, as the publishers' own scripts do it: less memory, other pixels.
        tile_sample_min_size, tile_latent_min_size: side of a tile, in pixels and in latents.
        tile_sample_min_size_t, tile_latent_min_size_t: length of a chunk, in frames and in latents.
        tile_overlap_factor: how much of a tile is blended into its neighbours.

    Raises:
        ValueError: kinds of layers that v1.1.0 does not have.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        hidden_size: int = 128,
        z_channels: int = 4,
        embed_dim: int = 4,
        hidden_size_mult: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        encoder_resnet_blocks: Sequence[str] = ("ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"),
        encoder_spatial_downsample: Sequence[str] = ("Downsample", "Downsample", "Downsample", ""),
        encoder_temporal_downsample: Sequence[str] = ("", "TimeDownsampleRes2x", "TimeDownsampleRes2x", ""),
        decoder_resnet_blocks: Sequence[str] = ("ResnetBlock3D",) * 4,
        decoder_spatial_upsample: Sequence[str] = ("", "SpatialUpsample2x", "SpatialUpsample2x", "SpatialUpsample2x"),
        decoder_temporal_upsample: Sequence[str] = ("", "", "TimeUpsampleRes2x", "TimeUpsampleRes2x"),
        attn_resolutions: Sequence[int] = (),
        q_conv: str = "CausalConv3d",
        encoder_conv_in: str = "Conv2d",
        encoder_conv_out: str = "CausalConv3d",
        encoder_attention: str = "AttnBlock3DFix",
        encoder_mid_resnet: str = "ResnetBlock3D",
        decoder_conv_in: str = "CausalConv3d",
        decoder_conv_out: str = "CausalConv3d",
        decoder_attention: str = "AttnBlock3DFix",
        decoder_mid_resnet: str = "ResnetBlock3D",
    ) -> None:
        super().__init__()
        config = dict(self.config)
        _check_kinds(config)
        widths = [hidden_size * mult for mult in hidden_size_mult]
        self.encoder = Encoder(widths, num_res_blocks, z_channels, config)
        self.decoder = Decoder(widths, num_res_blocks, z_channels, config)
        self.quant_conv = CausalConv3d(2 * z_channels, 2 * embed_dim, 1)
        self.post_quant_conv = CausalConv3d(embed_dim, z_channels, 1)
        self.use_tiling = False
        self.tile_sample_min_size, self.tile_latent_min_size = 256, 32
        self.tile_sample_min_size_t, self.tile_latent_min_size_t = 65, 17
        self.tile_overlap_factor = 0.25

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent, along each side."""
        return 2 ** sum(map(bool, self.config.decoder_spatial_upsample))

    @property
    def temporal_factor(self) -> int:
        """Frames per latent, but for the first."""
        return 2 ** sum(map(bool, self.config.decoder_temporal_upsample))

    def enable_tiling(self, use_tiling: bool = True) -> None:
        """Let large clips go through in tiles."""
        self.use_tiling = use_tiling

    def disable_tiling(self) -> None:
        """Every clip at once."""
        self.enable_tiling(False)

    @apply_forward_hook  # offloading brings the weights here, as before `forward`
    def decode(self, z: Tensor) -> Tensor:
        """Latents as the encoder gave them, not scaled, (B, C, k + 1, h, w) to pixels (B, 3, 4 k + 1, 8 h, 8 w) around
        -1 to 1, not clamped."""

        def whole(z: Tensor) -> Tensor:
            return self.decoder(self.post_quant_conv(z))

        side, length = self.tile_latent_min_size, self.tile_latent_min_size_t
        if not self._tiles(z, side, length):
            return whole(z)
        ramp = int(self.tile_sample_min_size * self.tile_overlap_factor)
        kept = self.tile_sample_min_size - ramp

        def tiled(z: Tensor) -> Tensor:
            return in_tiles(whole, z, side, self._stride(side), ramp, kept)

        return in_chunks(tiled, z, length)

    @apply_forward_hook
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels in -1 to 1, (B, 3, 4 k + 1, 8 h, 8 w), to the mean and log variance of their latents, (B, C, k + 1, h,
        w), not scaled."""

        def whole(x: Tensor) -> Tensor:
            return self.quant_conv(self.encoder(x))

        side, length = self.tile_sample_min_size, self.tile_sample_min_size_t
        if self._tiles(pixels, side, length):
            ramp = int(self.tile_latent_min_size * self.tile_overlap_factor)
            kept = self.tile_latent_min_size - ramp
            moments = in_chunks(lambda x: in_tiles(whole, x, side, self._stride(side), ramp, kept), pixels, length)
        else:
            moments = whole(pixels)
        mean, logvar = moments.chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def _tiles(self, x: Tensor, side: int, length: int) -> bool:
        return self.use_tiling and (x.shape[2] > length or max(x.shape[-2:]) > side)

    def _stride(self, side: int) -> int:
        return int(side * (1 - self.tile_overlap_factor))


def _check_kinds(config: dict[str, Any]) -> None:
    for name, kind in KINDS.items():
        if config[name] != kind:
            raise ValueError(f"Open-Sora Plan autoencoder: {name} {config[name]!r} is not supported, only {kind}")
    for name, kinds in KINDS_OF_LEVELS.items():
        for kind in config[name]:
            if kind not in kinds:
                raise ValueError(f"Open-Sora Plan autoencoder: {name} {kind!r} is not supported, only {kinds[0]}")
        if len(config[name]) != len(config["hidden_size_mult"]):
            raise ValueError(
                f"Open-Sora Plan autoencoder: {name} names {len(config[name])} levels, hidden_size_mult "
                f"{len(config['hidden_size_mult'])}"
            )
    if config["attn_resolutions"]:
        raise ValueError("Open-Sora Plan autoencoder: attention at other levels than the last is not supported")
