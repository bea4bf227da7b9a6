"""The transformer of Open-Sora Plan v1.1.0: Latte's blocks, with its own tables of positions."""

from collections.abc import Sequence

import torch
from diffusers import LatteTransformer3DModel, ModelMixin  # noqa: F401  the second is what diffusers looks for at load
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid


class OpenSoraPlanTransformer(LatteTransformer3DModel):
    """`LatteTransformer3DModel` with the positions of Open-Sora Plan. Weights have the same names in both.

    Args:
        sample_size: height and width of the training clips, in latents.
        video_length: latents of a clip: 17 (65 frames) or 56 (221 frames).
        interpolation_scale_1d: what positions in time are divided by; None: so that a clip has about 16 of them.
        others: as in `LatteTransformer3DModel`.

    Raises:
        ValueError: sizes that are not square; no published version has them.
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int = 8,
        num_layers: int = 28,
        dropout: float = 0.0,
        cross_attention_dim: int | None = 1152,
        attention_bias: bool = True,
        sample_size: int | Sequence[int] = (64, 64),
        patch_size: int = 2,
        activation_fn: str = "gelu-approximate",
        num_embeds_ada_norm: int | None = 1000,
        norm_type: str = "ada_norm_single",
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-6,
        caption_channels: int = 4096,
        video_length: int = 17,
        interpolation_scale_1d: float | None = None,
    ) -> None:
        sides = (sample_size, sample_size) if isinstance(sample_size, int) else tuple(sample_size)
        if sides[0] != sides[1]:
            raise ValueError(
                f"sample_size {sides[0]}x{sides[1]} is not square: no version of Open-Sora Plan v1.1.0 is so"
            )
        super().__init__(
            num_attention_heads,
            attention_head_dim,
            in_channels,
            out_channels,
            num_layers,
            dropout,
            cross_attention_dim,
            attention_bias,
            sides[0],
            patch_size,
            activation_fn,
            num_embeds_ada_norm,
            norm_type,
            norm_elementwise_affine,
            norm_eps,
            caption_channels,
            video_length,
        )
        self.register_to_config(sample_size=list(sides))
        scale = interpolation_scale_1d or (video_length - video_length % 2) // 16
        places = torch.arange(video_length).unsqueeze(1) / max(scale, 1)
        table = get_1d_sincos_pos_embed_from_grid(num_attention_heads * attention_head_dim, places, output_type="pt")
        self.register_buffer("temp_pos_embed", table.float().unsqueeze(0), persistent=False)
