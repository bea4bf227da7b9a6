"""One pass of a 3D U-Net over more frames than a window, in which every frame sees only its band of f frames.

In `UNet3DConditionModel` and `UNetMotionModel` all but three kinds of layers look at one frame at a time. Those three
get the mask of who sees whom: temporal attention, convolutions over time, and the group norms that pool over time.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from diffusers import UNet3DConditionModel, UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.models.banded.layers import (
    BandedAttention,
    BandedNormsAndConvolutions,
    PlacedBandedAttention,
    RelativeBandedAttention,
)
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.videocrafter.unet import RelativeAttention

TEMPORAL = (TransformerTemporalModel, AnimateDiffTransformer3D)


class BandedPass(ExitStack):
    """A context within which a U-Net's forward is banded, for latents of the table's own frames. Nothing stays behind.

    The user's own attention processors of the temporal layers are put aside meanwhile; all their projections (with
    adapters, offloading hooks and so on) are called as usual.

    Args:
        unet: `UNet3DConditionModel` or `UNetMotionModel`, or a class derived from them, that `check` lets pass.
        table: for each frame the frames that it may see, on the device of the latents.
        chunks: how many chunks the rows of residual and transformer blocks are taken in. These layers do not look
            across their rows (frames in spatial layers, pixels in temporal ones), so the result is the same.
    """

    def __init__(self, unet: nn.Module, table: BandTable, chunks: int = 1) -> None:
        super().__init__()
        self._unet, self._table, self._chunks = unet, table, chunks

    def __enter__(self) -> "BandedPass":
        super().__enter__()
        attention, device = BandedAttention(self._table), self._table.starts.device
        for block in temporal_blocks(self._unet):
            for layer in attention_of(block):
                if isinstance(layer, RelativeAttention):
                    shadow(self, layer, "forward", RelativeBandedAttention(self._table, layer))
                elif block.pos_embed is None:
                    shadow(self, layer, "processor", attention)
                else:
                    places = block.pos_embed(torch.zeros(1, self._table.frames, layer.query_dim, device=device))
                    shadow(self, layer, "processor", PlacedBandedAttention(self._table, places[0]))
            if block.pos_embed is not None:
                shadow(self, block.pos_embed, "forward", lambda hidden_states: hidden_states)
        if self._chunks > 1:
            for block in self._unet.modules():
                if isinstance(block, ResnetBlock2D | BasicTransformerBlock):
                    shadow(self, block, "forward", _InChunks(block.forward, self._chunks))
        self.enter_context(BandedNormsAndConvolutions(self._table))
        return self

    @staticmethod
    def check(unet: nn.Module) -> None:
        """Whether all layers of this U-Net that look across frames are known here.

        Raises:
            ValueError: they are not.
        """
        instead = "; use ", Setting("lookahead", True), ", at twice the cost"
        unet = getattr(unet, "_orig_mod", unet)
        if not isinstance(unet, UNet3DConditionModel | UNetMotionModel):
            raise ArgumentError("lookahead", "banded", f"{type(unet).__name__} cannot do it", *instead)
        for block in temporal_blocks(unet):
            if not isinstance(block.pos_embed, SinusoidalPositionalEmbedding | None):
                raise ArgumentError("lookahead", "banded", "temporal positions of this kind cannot do it", *instead)
            if not all(map(is_plain, attention_of(block))):
                raise ArgumentError("lookahead", "banded", "temporal attention of this kind cannot do it", *instead)


def shadow(stack: ExitStack, module: nn.Module, name: str, value: Any) -> None:
    """Replace an attribute of a module until the stack is left."""
    missing = object()
    before = vars(module).get(name, missing)

    def restore() -> None:
        if before is missing:
            delattr(module, name)
        else:
            setattr(module, name, before)

    setattr(module, name, value)
    stack.callback(restore)


class _InChunks:
    """A layer's forward that takes its rows in chunks."""

    def __init__(self, forward: Callable[..., Tensor], chunks: int) -> None:
        self._forward, self._chunks = forward, chunks

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        rows = len(args[0] if args else kwargs.get("hidden_states", kwargs.get("input_tensor")))
        size = -(-rows // self._chunks)

        def chunk(value: Any, start: int) -> Any:
            own = isinstance(value, Tensor) and value.dim() and len(value) == rows
            return value[start : start + size] if own else value

        results = [
            self._forward(
                *(chunk(value, start) for value in args),
                **{name: chunk(value, start) for name, value in kwargs.items()},
            )
            for start in range(0, rows, size)
        ]
        return torch.cat(results)


def temporal_blocks(unet: nn.Module) -> list[BasicTransformerBlock]:
    """The transformer blocks that look across frames."""
    return [block for m in unet.modules() if isinstance(m, TEMPORAL) for block in m.transformer_blocks]


def attention_of(block: BasicTransformerBlock) -> list[Attention]:
    """Its attention layers."""
    return [m for m in block.modules() if isinstance(m, Attention)]


def is_plain(attention: Attention) -> bool:
    """Whether it does no more than a stock processor does in `UNet3DConditionModel`, which is what is replaced, or is
    one whose own way is known here."""
    if type(attention) is RelativeAttention:
        return True
    stock = type(attention) is Attention and type(attention.processor).__module__.startswith("diffusers.")
    extras = (attention.group_norm, attention.spatial_norm, attention.norm_q, attention.norm_k)
    plain = stock and not attention.is_cross_attention and all(extra is None for extra in extras)
    return plain and not attention.residual_connection and attention.rescale_output_factor == 1
