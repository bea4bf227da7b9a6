"""One pass of a 3D U-Net over more frames than a window, in which every frame sees only its band of f frames.

In `UNet3DConditionModel` and `UNetMotionModel` all but three kinds of layers look at one frame at a time. Those three
are told who may see whom: temporal attention, convolutions over time, and the group norms that pool over time.

Attention that knows places keeps to those of a window: where a frame's place in the window is added to what attends
(AnimateDiff), each frame sees its band as if that were a window; distances between frames (VideoCrafter1) are what
they are. Both come down to one table of places that a score and a value have besides the frame's own.

Legend: R rows (videos, or videos x pixels), F frames, f frames of a band, C channels, D inner width, G norm groups,
H and W height and width, N blocks of q queries and k keys, M places.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet3DConditionModel, UNetMotionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fifo_diffusion.method import Bands
from fifo_diffusion.models.videocrafter_unet import RelativeAttention

TEMPORAL = (TransformerTemporalModel, AnimateDiffTransformer3D)
MOST_ROWS = 65_535
"""Sequences given to an attention kernel at once: the limit of a CUDA grid in its second and third dimension."""


class BandTable:
    """Bands as index tensors on a device.

    Args:
        bands: for each of F frames the f frames that it may see, in ascending order of their starts.

    Attributes:
        frames: f.
        starts: (F,) the first frame that each frame may see.
        seen: (F, f) the frames that each frame may see.
        runs: lengths of the stretches between which no frame sees across: convolutions are cut there.
        queries, keys, mask: attention in blocks of neighbouring frames, so that nothing far outside the bands is
            computed: indices of a block's queries (N, q) and of its keys (N, k), and which of these each query may see
            (N, q, k), or None for all. The last block may repeat the last frame.
    """

    def __init__(self, bands: Bands, device: torch.device) -> None:
        self._bands = bands
        self.frames = len(bands[0])
        self.starts = torch.tensor([band.start for band in bands], device=device)
        self.seen = torch.tensor([list(band) for band in bands], device=device)
        cuts = [k for k, (before, after) in enumerate(pairwise(bands), 1) if after.start >= before.stop]
        self.runs = [after - before for before, after in pairwise([0, *cuts, len(bands)])]
        self.queries, self.keys, self.mask = (
            x if x is None else torch.tensor([*map(list, x)], device=device) for x in self._blocks()
        )

    @property
    def in_band(self) -> Tensor:
        """(N, q, k) at which place of a query's band a key stands; 0 for those that it does not see."""
        return (self.keys[:, None] - self.starts[self.queries][..., None]).clamp(0, self.frames - 1)

    @property
    def own_place(self) -> Tensor:
        """(F,) at which place of its own band each frame stands."""
        return torch.arange(len(self.starts), device=self.starts.device) - self.starts

    @property
    def distance(self) -> Tensor:
        """(N, q, k) by how many frames a key comes after a query."""
        return self.keys[:, None] - self.queries[..., None]

    def _blocks(self) -> tuple[list[list[int]], list[range], list[list[list[bool]]] | None]:
        last = len(self._bands) - 1
        # Blocks of one and a half windows are fastest: of short ones the bands overlap more, and kernels idle.
        count = max(1, 2 * len(self._bands) // (3 * len(self._bands[0])))
        q = -(-len(self._bands) // count)
        queries = [[min(p, last) for p in range(first, first + q)] for first in range(0, last + 1, q)]
        spans = [range(self._bands[block[0]].start, self._bands[block[-1]].stop) for block in queries]
        k = max(map(len, spans))
        keys = [range(start, start + k) for start in (min(span.start, last + 1 - k) for span in spans)]
        mask = [[[j in self._bands[p] for j in own] for p in block] for block, own in zip(queries, keys, strict=True)]
        everything = all(all(row) for block in mask for row in block)
        return queries, keys, None if everything else mask


class BandedPass(ExitStack):
    """A context within which a U-Net's forward is banded, for latents of len(bands) frames. Nothing stays behind.

    The user's own attention processors of the temporal layers are put aside meanwhile; all their projections (with
    adapters, offloading hooks and so on) are called as usual.

    Args:
        unet: `UNet3DConditionModel` or `UNetMotionModel`, or a class derived from them, that `check` lets pass.
        bands: for each frame the frames that it may see.
        device: of the latents.
        pieces: how many pieces the rows of residual and transformer blocks are taken in. These layers do not look
            across their rows (frames in spatial layers, pixels in temporal ones), so the result is the same.
    """

    def __init__(self, unet: nn.Module, bands: Bands, device: torch.device, pieces: int = 1) -> None:
        super().__init__()
        self._unet, self._table, self._pieces = unet, BandTable(bands, device), pieces

    def __enter__(self) -> "BandedPass":
        super().__enter__()
        attention, device = BandedAttention(self._table), self._table.starts.device
        for block in _temporal_blocks(self._unet):
            for layer in _attention_of(block):
                if isinstance(layer, RelativeAttention):
                    self._replace(layer, "forward", RelativeBandedAttention(self._table, layer))
                elif block.pos_embed is None:
                    self._replace(layer, "processor", attention)
                else:
                    places = block.pos_embed(torch.zeros(1, self._table.frames, layer.query_dim, device=device))
                    self._replace(layer, "processor", PlacedBandedAttention(self._table, places[0]))
            if block.pos_embed is not None:
                self._replace(block.pos_embed, "forward", lambda hidden_states: hidden_states)
        if self._pieces > 1:
            for block in self._unet.modules():
                if isinstance(block, ResnetBlock2D | BasicTransformerBlock):
                    self._replace(block, "forward", _InPieces(block.forward, self._pieces))
        self.enter_context(BandedNormsAndConvolutions(self._table))
        return self

    def _replace(self, module: nn.Module, name: str, value: Any) -> None:
        """Shadow an attribute until the end of the context."""
        missing = object()
        before = vars(module).get(name, missing)

        def restore() -> None:
            if before is missing:
                delattr(module, name)
            else:
                setattr(module, name, before)

        setattr(module, name, value)
        self.callback(restore)

    @staticmethod
    def check(unet: nn.Module) -> None:
        """Whether all layers of this U-Net that look across frames are known here.

        Raises:
            ValueError: they are not.
        """
        instead = 'cannot do lookahead="banded": use lookahead=True, at twice the cost'
        unet = getattr(unet, "_orig_mod", unet)
        if not isinstance(unet, UNet3DConditionModel | UNetMotionModel):
            raise ValueError(f"{type(unet).__name__} {instead}")
        for block in _temporal_blocks(unet):
            if not isinstance(block.pos_embed, SinusoidalPositionalEmbedding | None):
                raise ValueError(f"a U-Net with this kind of temporal positions {instead}")
            if not all(map(_is_plain, _attention_of(block))):
                raise ValueError(f"a U-Net with this kind of temporal attention {instead}")


class BandedAttention:
    """A processor for the self-attention of temporal layers, rows (R, F, D) with R = videos x pixels."""

    def __init__(self, table: BandTable) -> None:
        self._table = table

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        parts = hidden_states.split(MOST_ROWS // len(self._table.queries))
        mixed = torch.cat([self._attend(attn, part) for part in parts])
        return attn.to_out[1](attn.to_out[0](mixed))

    def _attend(self, attn: Attention, hidden_RFD: Tensor) -> Tensor:
        table, (rows, frames, _) = self._table, hidden_RFD.shape
        query = _blocks(attn.to_q(self._asking(hidden_RFD)), table.queries, attn.heads)
        key, value = (_blocks(layer(hidden_RFD), table.keys, attn.heads) for layer in (attn.to_k, attn.to_v))
        mask = table.mask
        if mask is not None:  # the same for all pixels and heads
            mask = mask[:, None].repeat(rows, 1, 1, 1)
        mixed = self._mix(attn, query, key, value, mask).transpose(1, 2).flatten(2)
        return mixed.reshape(rows, table.queries.numel(), -1)[:, :frames]

    def _asking(self, hidden_RFD: Tensor) -> Tensor:
        """What queries are made of."""
        return hidden_RFD

    def _mix(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Queries (R N, heads, q, D / heads), keys and values (R N, heads, k, D / heads) to the shape of `query`."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class PlacedBandedAttention(BandedAttention):
    """The same where the layer was to be given each frame with its place in the window added to it.

    A frame then has another place in the band of each frame that sees it. Keys and values are linear in what they are
    made of: so they are made of the frames alone and of the places alone, and added up where they meet.

    Args:
        table: the bands.
        places: (f, D) what the places of a window would have added.
    """

    def __init__(self, table: BandTable, places: Tensor) -> None:
        super().__init__(table)
        self._places = places

    def _asking(self, hidden_RFD: Tensor) -> Tensor:
        return hidden_RFD + self._places[self._table.own_place].to(hidden_RFD.dtype)

    def _mix(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        places = self._places[None].to(query.dtype)
        tables = (
            (layer(places) - layer(torch.zeros_like(places)))[0].unflatten(1, (attn.heads, -1)).transpose(0, 1)
            for layer in (attn.to_k, attn.to_v)
        )
        return attend_with_places(query, key, value, mask, attn.scale, self._table.in_band, *tables)


class RelativeBandedAttention(BandedAttention):
    """Stands for the forward of a `RelativeAttention`."""

    def __init__(self, table: BandTable, attn: RelativeAttention) -> None:
        super().__init__(table)
        self._attn = attn

    def __call__(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return super().__call__(self._attn, hidden_states)

    def _mix(self, attn: RelativeAttention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        most = attn.relative_position_k.most
        index = self._table.distance.clamp(-most, most) + most
        # The same for all heads.
        tables = (x.all_distances()[None] for x in (attn.relative_position_k, attn.relative_position_v))
        return attend_with_places(query, key, value, mask, attn.scale, index, *tables)


def attend_with_places(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    index: Tensor,
    key_of_place: Tensor,
    value_of_place: Tensor,
) -> Tensor:
    """Attention in which each pair of query and key also has a place, with a key and a value of its own.

    Args:
        query, key, value: (R N, heads, q or k, D / heads).
        mask: (R N, 1, q, k), or None.
        scale: of the scores.
        index: (N, q, k) places.
        key_of_place, value_of_place: (heads or 1, M, D / heads).

    Returns:
        a tensor like `query`.
    """
    near = query @ key_of_place.mT  # (R N, heads, q, M)
    index = index[:, None].repeat(len(query) // len(index), 1, 1, 1).expand(-1, query.shape[1], -1, -1)
    scores = (query @ key.mT + near.gather(-1, index)).float() * scale
    if mask is not None:
        scores = scores.masked_fill_(~mask, float("-inf"))
    weights = scores.softmax(-1).to(value.dtype)
    return weights @ value + torch.zeros_like(near).scatter_add_(-1, index, weights) @ value_of_place


class BandedNormsAndConvolutions(TorchFunctionMode):
    """Within, group norms of (R, C, F, H, W) take their statistics over each frame's band, and convolutions of such
    tensors stop where no frame sees across.

    Functions are replaced rather than modules, because whoever moves weights about (offloading, casting) hooks into
    the modules: these run as ever, and call this with weights that are in place.
    """

    def __init__(self, table: BandTable) -> None:
        super().__init__()
        self._table = table

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.group_norm and args[0].dim() == 5:
            return banded_group_norm(self._table.seen, *args, **kwargs)
        if func is F.conv3d and len(self._table.runs) > 1:
            runs = args[0].split(self._table.runs, 2)
            return torch.cat([func(run, *args[1:], **kwargs) for run in runs], 2)
        return func(*args, **kwargs)


def banded_group_norm(
    seen: Tensor,
    hidden_RCFHW: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group norm whose mean and variance are, for each frame, those of the frames that it sees.

    Args:
        seen: (F, f) the frames that each frame sees; of equal size, so that their mean is the mean over all pixels.
        hidden_RCFHW: (R, C, F, H, W).

    Returns:
        a tensor of the same shape and type.
    """
    hidden = hidden_RCFHW.float().contiguous()
    mean = hidden.mean((3, 4))  # (R, C, F), of single maps: many times faster than variances over several axes
    centred = hidden - mean[..., None, None]
    square = torch.linalg.vector_norm(centred, dim=(3, 4)).square() / hidden[0, 0, 0].numel()

    # Variance of a union: mean of the variances, and variance of the means. First over the maps of a group, then over
    # the frames of a band.
    means, squares = (x.unflatten(1, (num_groups, -1)) for x in (mean, square))
    variances, means = squares.mean(2) + _variance(means, 2), means.mean(2)  # (R, G, F)
    banded = means[..., seen]  # (R, G, F, f)
    scale = (variances[..., seen].mean(-1) + _variance(banded, -1) + eps).rsqrt()
    channels = mean.shape[1] // num_groups
    scale, middle = (x.repeat_interleave(channels, 1) for x in (scale, banded.mean(-1)))  # (R, C, F)
    shift = (mean - middle) * scale
    if weight is not None:
        scale, shift = scale * weight.float()[:, None], shift * weight.float()[:, None]
    if bias is not None:
        shift = shift + bias.float()[:, None]
    return centred.mul_(scale[..., None, None]).add_(shift[..., None, None]).to(hidden_RCFHW.dtype)


def _variance(values: Tensor, axis: int) -> Tensor:
    return (values - values.mean(axis, keepdim=True)).square().mean(axis)


class _InPieces:
    """A layer's forward that takes its rows in pieces."""

    def __init__(self, forward: Callable[..., Tensor], pieces: int) -> None:
        self._forward, self._pieces = forward, pieces

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        rows = len(args[0] if args else kwargs.get("hidden_states", kwargs.get("input_tensor")))
        size = -(-rows // self._pieces)

        def piece(value: Any, start: int) -> Any:
            own = isinstance(value, Tensor) and value.dim() and len(value) == rows
            return value[start : start + size] if own else value

        results = [
            self._forward(
                *(piece(value, start) for value in args),
                **{name: piece(value, start) for name, value in kwargs.items()},
            )
            for start in range(0, rows, size)
        ]
        return torch.cat(results)


def _temporal_blocks(unet: nn.Module) -> list[BasicTransformerBlock]:
    return [block for m in unet.modules() if isinstance(m, TEMPORAL) for block in m.transformer_blocks]


def _attention_of(block: BasicTransformerBlock) -> list[Attention]:
    return [m for m in block.modules() if isinstance(m, Attention)]


def _is_plain(attention: Attention) -> bool:
    """Whether it does no more than a stock processor does in `UNet3DConditionModel`, which is what is replaced, or is
    one whose own way is known here."""
    if type(attention) is RelativeAttention:
        return True
    stock = type(attention) is Attention and type(attention.processor).__module__.startswith("diffusers.")
    extras = (attention.group_norm, attention.spatial_norm, attention.norm_q, attention.norm_k)
    plain = stock and not attention.is_cross_attention and all(extra is None for extra in extras)
    return plain and not attention.residual_connection and attention.rescale_output_factor == 1


def _blocks(hidden_RFD: Tensor, index: Tensor, heads: int) -> Tensor:
    """(R, F, D) gathered by (N, m) into (R N, heads, m, D / heads)."""
    if index.numel() != hidden_RFD.shape[1]:  # else blocks that follow each other as they are
        hidden_RFD = hidden_RFD.index_select(1, index.flatten())
    return hidden_RFD.reshape(-1, index.shape[1], heads, hidden_RFD.shape[2] // heads).transpose(1, 2)
