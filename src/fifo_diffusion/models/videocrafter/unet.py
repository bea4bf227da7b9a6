"""VideoCrafter's U-Net: diffusers' ``UNet3DConditionModel`` with what that has no place for.

Both are the same network but for four things: VideoCrafter2 and VideoCrafter1 1024 are also told the frame rate;
T2V-Turbo, which is VideoCrafter2 distilled to few steps, the scale of guidance too, and with motion guidance its scale;
VideoCrafter1 has no temporal convolutions, and instead tells its attention in time how far frames are apart (relative
positions: arXiv 1803.02155, Eq. 3 and 4).

Axes in tensor names: N sequences (positions in the image x videos x heads), F frames, D width of a head, R rows of the
time embedding (videos, or videos x frames), W width of what is embedded.
"""

from typing import Any

import torch
from diffusers import ModelMixin, UNet3DConditionModel  # noqa: F401  the first is what diffusers looks for at load
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_timestep_embedding
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn


class VideoCrafterUNet(UNet3DConditionModel):
    """U-Net of VideoCrafter2, VideoCrafter1 and T2V-Turbo (text to video).

    Its `forward` is the stock one. Argument `timestep_cond` is what it is told, (1, k) or one row per row of the batch:
    the frame rate, the scale of guidance, and that of motion guidance, as far as it takes them; (n,) frame rates alone.

    Args:
        time_cond_proj_dim: width of the embedded scale of guidance; None: it is not told one.
        fps_condition: whether the model is conditioned on a frame rate.
        temporal_convolutions: whether residual blocks have them.
        relative_positions: the distance from which on frames count as equally far; 0: no relative positions.
        motion_cond_proj_dim: width of the embedded scale of motion guidance; None: it is not told one.
        **others: as in ``UNet3DConditionModel``.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
        up_block_types: tuple[str, ...] = ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        num_attention_heads: int | None = None,
        time_cond_proj_dim: int | None = None,
        fps_condition: bool = True,
        temporal_convolutions: bool = True,
        relative_positions: int = 0,
        motion_cond_proj_dim: int | None = None,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            downsample_padding=downsample_padding,
            mid_block_scale_factor=mid_block_scale_factor,
            act_fn=act_fn,
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            num_attention_heads=num_attention_heads,
            time_cond_proj_dim=time_cond_proj_dim,
        )
        if fps_condition:
            width = block_out_channels[0]
            self.time_embedding = TimeAndRateEmbedding(width, time_cond_proj_dim, motion_cond_proj_dim)
            if motion_cond_proj_dim is not None:
                self.time_proj = TimestepsAndMotion(width, True, 0)
        for module in list(self.modules()):
            if not temporal_convolutions and hasattr(module, "temp_convs"):
                module.temp_convs = nn.ModuleList(NoTemporalConvolution() for _ in module.temp_convs)
            if relative_positions and isinstance(module, TransformerTemporalModel):
                for block in module.transformer_blocks:
                    block.attn1 = RelativeAttention(block.attn1, relative_positions)
                    block.attn2 = RelativeAttention(block.attn2, relative_positions)

    @property
    def fps_embedding(self) -> TimestepEmbedding:
        """The embedding of the frame rate.

        Raises:
            AttributeError: this variant is not told one.
        """
        return self.time_embedding.fps_embedding


class TimeAndRateEmbedding(TimestepEmbedding):
    """The embedding of the timestep, with what else the model is told where that is given as `condition`.

    The frame rate is added after the layers that embed the timestep, the scale of guidance before. The latter is
    embedded as in latent consistency models (arXiv 2310.04378). The scale of motion guidance (T2V-Turbo-v2: arXiv
    2410.05677) is joined to it, and is 0 where there is little noise: `TimestepsAndMotion` says where.
    """

    def __init__(self, width: int, guidance_width: int | None = None, motion_width: int | None = None) -> None:
        super().__init__(width, 4 * width, cond_proj_dim=guidance_width)
        self.fps_embedding = TimestepEmbedding(width, 4 * width)
        self.motion_proj = self.combine_proj = None
        if motion_width is not None:
            self.motion_proj = nn.Linear(motion_width, width, bias=False)
            self.combine_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        noisy_R1 = None
        if self.motion_proj is not None:
            sample, noisy_R1 = sample[:, :-1], sample[:, -1:]
        told = None if condition is None else condition.reshape(len(condition), -1)
        if told is not None and self.cond_proj is not None:
            sample = sample + self._guidance(told, sample, noisy_R1)
        embedding = super().forward(sample)
        return embedding if told is None else with_rate(embedding, told[:, 0], self.fps_embedding)

    def _guidance(self, told: Tensor, sample_RD: Tensor, noisy_R1: Tensor | None) -> Tensor:
        """What is added to the sinusoid of the timestep.

        Raises:
            ValueError: too little is told.
        """
        wanted = 2 if noisy_R1 is None else 3
        if told.shape[1] != wanted:
            names = ("the frame rate", "the scale of guidance", "the scale of motion guidance")[:wanted]
            raise ValueError(f"timestep_cond must be (n, {wanted}): {', '.join(names)}")
        rows = len(sample_RD)
        guidance = self.cond_proj(embed_scale(told[:, 1], self.cond_proj.in_features).to(sample_RD.dtype))
        guidance = spread(guidance, rows).expand(rows, -1)
        if noisy_R1 is None:
            return guidance
        width = self.motion_proj.in_features
        motion = spread(embed_scale(told[:, 2], width), rows)
        none = embed_scale(torch.zeros_like(told[:1, 2]), width)
        motion = torch.where(noisy_R1 > 0.5, motion, none).to(sample_RD.dtype)
        return self.combine_proj(torch.cat([guidance, self.motion_proj(motion)], 1))


class TimestepsAndMotion(Timesteps):
    """The sinusoid of the timestep, and behind it 1 where the model's motion is guided: at the first 30 % of the
    timesteps from noise on, as the publishers sample T2V-Turbo-v2."""

    guided_from = 700

    def forward(self, timesteps: Tensor) -> Tensor:
        sinusoid = super().forward(timesteps)
        return torch.cat([sinusoid, (timesteps >= self.guided_from).to(sinusoid.dtype)[:, None]], 1)


def embed_scale(scale: Tensor, width: int) -> Tensor:
    """(n,) scales of guidance to (n, W): sine and cosine of a thousand times the scale, as in latent consistency
    models."""
    return get_timestep_embedding(scale.float() * 1000, width, flip_sin_to_cos=False, downscale_freq_shift=1)


def with_rate(embedding_RD: Tensor, fps: Tensor, embed: TimestepEmbedding) -> Tensor:
    """Rows of the time embedding with the embedded frame rates (one, or one per video).

    Raises:
        ValueError: the number of frame rates does not divide the number of rows.
    """
    rows, videos = len(embedding_RD), len(fps)
    if rows % videos:
        raise ValueError(f"fps has {videos} values, which does not divide the {rows} rows of the time embedding")
    sinusoid = get_timestep_embedding(fps, embed.linear_1.in_features, flip_sin_to_cos=True, downscale_freq_shift=0)
    return embedding_RD + spread(embed(sinusoid.to(embedding_RD.dtype)), rows)


def spread(values: Tensor, rows: int) -> Tensor:
    """One value for all rows as it is; one per video for each of the video's rows."""
    return values if len(values) == 1 else values.repeat_interleave(rows // len(values), dim=0)


class NoTemporalConvolution(nn.Module):
    """Stands where other variants have a temporal convolution."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        return hidden_states


class RelativePositions(nn.Module):
    """One learned vector for every distance from -`most` to `most` frames; what is farther counts as `most`."""

    def __init__(self, most: int, width: int) -> None:
        super().__init__()
        self.most = most
        self.embeddings_table = nn.Parameter(torch.empty(2 * most + 1, width))
        nn.init.xavier_uniform_(self.embeddings_table)

    def forward(self, frames: int) -> Tensor:
        """(F, F, D): row i, column j is the vector of j - i."""
        place = torch.arange(frames, device=self.embeddings_table.device)
        return self.embeddings_table[(place - place[:, None]).clamp(-self.most, self.most) + self.most]

    def all_distances(self) -> Tensor:
        """(2 most + 1, D): the vectors of -most ... most. By a call of the module, which offloading needs."""
        vectors = self(self.most + 1)
        return torch.cat([vectors[-1], vectors[0, 1:]])


class RelativeAttention(Attention):
    """Self-attention that knows how far apart two frames are: in its scores and in its values.

    Attention backends have no place for the second, so it is computed here, whatever processor is set.
    """

    def __init__(self, like: Attention, most: int) -> None:
        width = like.inner_dim // like.heads
        super().__init__(like.query_dim, heads=like.heads, dim_head=width, bias=like.to_q.bias is not None)
        self.relative_position_k = RelativePositions(most, width)
        self.relative_position_v = RelativePositions(most, width)

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """(sequences, F, channels) to the same shape."""

        def heads_first(x: Tensor) -> Tensor:
            return x.unflatten(2, (self.heads, -1)).transpose(1, 2).flatten(0, 1)

        query, key, value = (heads_first(to(hidden_states)) for to in (self.to_q, self.to_k, self.to_v))
        frames = hidden_states.shape[1]
        scores = query @ key.mT + torch.einsum("nid,ijd->nij", query, self.relative_position_k(frames))
        weights = (scores.float() * self.scale).softmax(-1).to(value.dtype)
        mixed = weights @ value + torch.einsum("nij,ijd->nid", weights, self.relative_position_v(frames))
        mixed = mixed.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)
        return self.to_out[1](self.to_out[0](mixed))
