"""The layers that look across frames, each frame seeing its band: attention, group norms and convolutions over time.

Attention that knows places keeps to those of a window: where a frame's place in the window is added to what attends
(AnimateDiff), each frame sees its band as if that were a window; distances between frames (VideoCrafter1) are what
they are. Both come down to one table of places that a score and a value have besides the frame's own.

Legend: R rows (videos, or videos x pixels), F frames, f frames of a band, C channels, D inner width, G norm groups,
H and W height and width, N blocks of q queries and k keys, M places.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.videocrafter.unet import RelativeAttention

MOST_ROWS = 65_535
"""Sequences given to an attention kernel at once: the limit of a CUDA grid in its second and third dimension."""


class BandedAttention:
    """A processor for the self-attention of temporal layers, rows (R, own frames, D) with R = videos x pixels."""

    def __init__(self, table: BandTable) -> None:
        self._table = table

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        reach, at_once = self._table.reach, MOST_ROWS // len(self._table.queries)
        seen = self._table.own.gather(hidden_states, 1)[:, reach.start : reach.stop]
        rows = zip(hidden_states.split(at_once), seen.split(at_once), strict=True)
        mixed = torch.cat([self._attend(attn, *parts) for parts in rows])
        return attn.to_out[1](attn.to_out[0](mixed))

    def _attend(self, attn: Attention, hidden_RFD: Tensor, seen_RFD: Tensor) -> Tensor:
        table, (rows, frames, _) = self._table, hidden_RFD.shape
        query = _blocks(attn.to_q(self._asking(hidden_RFD)), table.queries - table.own.range.start, attn.heads)
        keys = table.keys - table.reach.start
        key, value = (_blocks(layer(seen_RFD), keys, attn.heads) for layer in (attn.to_k, attn.to_v))
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
            return banded_group_norm(self._table, *args, **kwargs)
        if func is F.conv3d:
            return self._convolve(*args, **kwargs)
        return func(*args, **kwargs)

    def _convolve(self, hidden_RCFHW: Tensor, weight: Tensor, *others: Any, **named: Any) -> Tensor:
        table, halo = self._table, weight.shape[2] // 2
        around = table.own.halo(hidden_RCFHW, 2, halo)
        before, after = (x if joined else x[:, :, :0] for x, joined in zip(around, table.joined, strict=True))
        runs = [*table.runs]
        runs[0] += before.shape[2]
        runs[-1] += after.shape[2]
        hidden = torch.cat([before, hidden_RCFHW, after], 2)
        done = [F.conv3d(run, weight, *others, **named) for run in hidden.split(runs, 2)]
        return torch.cat(done, 2)[:, :, before.shape[2] : hidden.shape[2] - after.shape[2]]


def banded_group_norm(
    table: BandTable,
    hidden_RCFHW: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Group norm whose mean and variance are, for each frame, those of the frames that it sees.

    Args:
        table: which frames each frame sees; as many for each, so that their mean is the mean over all pixels.
        hidden_RCFHW: (R, C, own frames, H, W).

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
    single = torch.stack([squares.mean(2) + _variance(means, 2), means.mean(2)])  # (2, R, G, own frames)
    variances, banded = table.own.gather(single, 3)[..., table.seen]  # (R, G, own frames, f)
    scale = (variances.mean(-1) + _variance(banded, -1) + eps).rsqrt()
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


def _blocks(hidden_RFD: Tensor, index: Tensor, heads: int) -> Tensor:
    """(R, F, D) gathered by (N, m) into (R N, heads, m, D / heads)."""
    if index.numel() != hidden_RFD.shape[1]:  # else blocks that follow each other as they are
        hidden_RFD = hidden_RFD.index_select(1, index.flatten())
    return hidden_RFD.reshape(-1, index.shape[1], heads, hidden_RFD.shape[2] // heads).transpose(1, 2)
