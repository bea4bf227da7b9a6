"""One timestep per frame for diffusion transformers whose norms are modulated by an embedding of time (adaLN).

Such a transformer makes of the embedding, by a linear layer for each block, shifts, scales and gates for all tokens of
a video: `linear(silu(time)).chunk(6, dim=1)`, and then `norm(tokens) * (1 + scale[:, None]) + shift[:, None]`. Here it
is called with B F timesteps for B videos, and what those layers give is wrapped: to the code of the transformer it
looks as if it had a row per video, and where it meets tokens, each has the modulation of its own frame.

Legend: B videos, F frames, N tokens of a frame, S = F N tokens of the video (frame by frame), T of the text, D width.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place, while_running

TextOrder = Literal["first", "last"]
TextLevel = Literal["mean", "cleanest", "noisiest"]


@dataclass(frozen=True)
class TokenLayout:
    """How the tokens of a transformer lie.

    Attributes:
        frames: F.
        video: S; frame by frame, each with as many.
        text: T; 0 where no text is modulated.
        order: where the text stands in sequences of both.
        text_level: whose noise level the text has, which all frames share.
    """

    frames: int
    video: int
    text: int = 0
    order: TextOrder = "first"
    text_level: TextLevel = "mean"

    def __post_init__(self) -> None:
        if self.video % self.frames:
            raise ValueError(f"{self.video} tokens are not the same number for each of {self.frames} frames")
        if self.video == self.text:
            raise ValueError(
                f"text and video have {self.text} tokens each and cannot be told apart: use another height, width, "
                "window or max_sequence_length"
            )

    def of_text(self, value_BF: Tensor) -> Tensor:
        """What the text has of something that every frame has."""
        match self.text_level:
            case "mean":
                return value_BF.mean(1)
            case "cleanest":
                return value_BF[:, 0]
            case "noisiest":
                return value_BF[:, -1]
        raise ValueError(f'text_level must be "mean", "cleanest" or "noisiest", not {self.text_level!r}')


class PerFrame:
    """A modulation for each frame that stands for one for each video: (B, F, ...) looks like (B, ...).

    Knows what adaLN transformers do with modulations, and raises at anything else.
    """

    def __init__(self, value_BF: Tensor, layout: TokenLayout) -> None:
        self._value, self._layout = value_BF, layout

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self._value), *self._value.shape[2:]])

    @property
    def dtype(self) -> torch.dtype:
        return self._value.dtype

    @property
    def device(self) -> torch.device:
        return self._value.device

    def _like(self, value_BF: Tensor) -> "PerFrame":
        return PerFrame(value_BF, self._layout)

    # -- looks of one video ---------------------------------------------------------------------

    def _axis(self, axis: int) -> int:
        """Of the value, for one as it looks."""
        if axis == 0:
            raise TypeError("a modulation per frame cannot be taken apart by videos")
        return axis + 1 if axis > 0 else axis

    def chunk(self, chunks: int, dim: int = 0) -> tuple["PerFrame", ...]:
        return tuple(map(self._like, self._value.chunk(chunks, self._axis(dim))))

    def unsqueeze(self, dim: int) -> "PerFrame":
        return self._like(self._value.unsqueeze(self._axis(dim)))

    def reshape(self, *shape: int) -> "PerFrame":
        return self._like(self._value.reshape(*self._value.shape[:2], *shape[1:]))

    view = reshape

    def __getitem__(self, index: Any) -> "PerFrame":
        first, *others = index if isinstance(index, tuple) else (index,)
        if first != slice(None):
            raise TypeError("a modulation per frame cannot be taken apart by videos")
        return self._like(self._value[(first, slice(None), *others)])

    # -- elementwise ----------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> "PerFrame":
        return self._like(self._value.to(*args, **kwargs))

    def float(self) -> "PerFrame":
        return self.to(torch.float32)

    def type_as(self, other: Tensor) -> "PerFrame":
        return self.to(other.dtype)

    def __add__(self, other: Any) -> Any:
        return self._with(other, operator.add)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, operator.mul)

    __radd__, __rmul__ = __add__, __mul__

    def _with(self, other: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """`combine` commutes."""
        if isinstance(other, PerFrame):
            return self._like(combine(self._value, other._value))
        if not isinstance(other, Tensor) or other.dim() == 0:
            return self._like(combine(self._value, other))
        layout = self._layout
        if other.dim() == 3 and self._value.dim() == 4 and self._value.shape[2] == 1:
            if other.shape[1] == layout.video:
                return self._with_video(other, combine)
            if other.shape[1] == layout.text:
                return self._with_text(other, combine)
            if other.shape[1] == layout.video + layout.text:
                return self._with_both(other, combine)
            if other.shape[1] == 2 * layout.video:  # twice the video, where decoding blocks look at encoding ones
                return torch.cat([self._with_video(tokens, combine) for tokens in other.chunk(2, 1)], 1)
        if other.dim() == 5 and self._value.dim() == 6 and other.shape[1] == layout.frames:
            return combine(other, self._value[:, :, 0])  # tokens that lie as they do in the frame
        one_each = other.dim() == self._value.dim() - 1
        if one_each and (len(other) == 1 or (other.dim() == 2 and len(other) == len(self._value))):
            return self._like(combine(self._value, other.unsqueeze(1)))  # the same for all frames: a table, pooled text
        raise TypeError(
            f"a modulation per frame of shape {tuple(self.shape)} meets {tuple(other.shape)}, which are no tokens of "
            f"{layout}"
        )

    def _with_video(self, tokens_BSD: Tensor, combine: Callable[[Any, Any], Any]) -> Tensor:
        return combine(tokens_BSD.unflatten(1, (self._layout.frames, -1)), self._value).flatten(1, 2)

    def _with_text(self, tokens_BTD: Tensor, combine: Callable[[Any, Any], Any]) -> Tensor:
        return combine(tokens_BTD, self._layout.of_text(self._value))

    def _with_both(self, tokens: Tensor, combine: Callable[[Any, Any], Any]) -> Tensor:
        layout = self._layout
        if layout.order == "first":
            text, video = tokens.split([layout.text, layout.video], 1)
            return torch.cat([self._with_text(text, combine), self._with_video(video, combine)], 1)
        video, text = tokens.split([layout.video, layout.text], 1)
        return torch.cat([self._with_video(video, combine), self._with_text(text, combine)], 1)

    @classmethod
    def __torch_function__(
        cls, function: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What PyTorch is asked to do with one of these among its arguments."""
        name, (first, *others) = function.__name__, args
        if name in ("add", "mul") and len(others) == 1 and not kwargs:
            one, other = args if isinstance(first, cls) else args[::-1]
            return one._with(other, operator.add if name == "add" else operator.mul)
        if name == "chunk" and isinstance(first, cls):
            return first.chunk(*others, **kwargs or {})
        if name in ("tanh", "silu", "linear") and isinstance(
            first, cls
        ):  # along the last axis, or each number by itself
            return first._like(function(first._value, *others, **kwargs or {}))
        raise TypeError(f"{name} of a modulation per frame is not known here: this transformer needs hooks of its own")


class PerFrameModulation(DenoiserHooks):
    """Hooks on the layers of a transformer that make its modulations of an embedding of time; within `active`, it may
    be called with B F timesteps for B videos.

    Args:
        denoiser: the transformer.
        modulations: a regular expression for the whole names of those layers: their outputs (all tensors of a tuple)
            have one row for each timestep, and are then modulations per frame. Best are the last linear layers,
            `norm1.linear` say; where something is added in between (a pooled text), the layer that embeds time.
        text_times: the same for layers that embed time for the text alone (in a refiner): they give one row per video.
    """

    _layout: TokenLayout

    def __init__(self, denoiser: nn.Module, modulations: str, text_times: str = "(?!)") -> None:
        self._modulations, self._text_times = re.compile(modulations), re.compile(text_times)
        super().__init__(denoiser)

    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        found = [module for name, module in denoiser.named_modules() if self._modulations.fullmatch(name)]
        yield Place(found[0], "before", self._on_begin)
        for module in found:
            yield Place(module, "after", self._on_modulation)
        yield Place(found[-1], "after", self._on_end)
        for name, module in denoiser.named_modules():
            if self._text_times.fullmatch(name):
                yield Place(module, "after", self._on_text_time)

    def active(self, layout: TokenLayout) -> AbstractContextManager[None]:
        """Within, each token of the layout is modulated by the time of its frame."""
        return self.running(_layout=layout)

    @while_running
    def _on_begin(self, _module: nn.Module, _args: Any) -> None:
        self.seen_begin()

    @while_running
    def _on_modulation(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return tuple(map(self._per_frame, output))
        return self._per_frame(output)

    @while_running
    def _on_end(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self.seen_end()

    @while_running
    def _on_text_time(self, _module: nn.Module, _args: Any, time_RD: Tensor) -> Tensor:
        return self._layout.of_text(time_RD.unflatten(0, (-1, self._layout.frames)))

    def _per_frame(self, modulation_RD: Tensor) -> PerFrame:
        return PerFrame(modulation_RD.unflatten(0, (-1, self._layout.frames)), self._layout)
