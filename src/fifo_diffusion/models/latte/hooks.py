"""One timestep per frame for `LatteTransformer3DModel`, through forward hooks.

Tensor names: N rows of frames (passes x windows x videos x F, frame by frame), P patches of a frame, D width.
"""

import inspect
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place, bare, while_running


class LatteHooks(DenoiserHooks):
    """Hooks on a Latte transformer (and relatives with its blocks); inert outside `active()`.

    Inside, the transformer is called with every frame as a clip of one frame, at that frame's own timestep and with its
    own text: the whole stock forward then works frame by frame. What is left are the temporal blocks. Everything in
    them but attention treats each token alone, so they go through frame by frame too, in the layout of the spatial
    blocks, (N, P, D), where one row of modulation per frame suffices; only around attention the tokens are brought
    together as (rows P, F, D). Nothing is computed outside the stock modules, but that the table of temporal positions,
    which the stock forward leaves out for clips of one frame, is added here.
    """

    _frames: int | None = None
    _modulation_NE: Tensor | None = None

    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        spatial, temporal = denoiser.transformer_blocks, denoiser.temporal_transformer_blocks
        self._transformer = weakref.ref(denoiser)
        self._order = {
            name: k for k, name in enumerate(inspect.signature(type(bare(spatial[0])).forward).parameters, -1)
        }
        yield Place(denoiser.adaln_single, "after", self._after_embedding)
        for block in spatial:
            yield Place(block, "before", self._on_block, told=True)
        for index, block in enumerate(temporal):
            on_block = self._on_first_temporal_block if index == 0 else self._on_temporal_block
            yield Place(block, "before", on_block, told=True)
            yield Place(block.attn1, "before", self._before_attention)
            yield Place(block.attn1, "after", self._after_attention)
            yield Place(block, "after", self._after_temporal_block)

    def active(self, frames: int) -> AbstractContextManager[None]:
        """Within, the transformer takes (N, C, 1, H, W), of which `frames` in a row are a window."""
        return self.running(_frames=frames, _modulation_NE=None)

    @while_running
    def _after_embedding(self, _module: nn.Module, _args: Any, output: tuple[Tensor, Tensor]) -> Any:
        """Keep the rows of modulation; the stock forward would copy each of them once per patch."""
        self.seen_begin()
        self._modulation_NE = output[0]
        return output[0][:1], output[1]

    @while_running
    def _on_block(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._given(args, kwargs, timestep=self._modulation_NE)

    @while_running
    def _on_temporal_block(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        hidden = hidden.reshape(len(self._modulation_NE), -1, hidden.shape[-1])
        return self._given(args, kwargs, hidden_states=hidden, timestep=self._modulation_NE)

    @while_running
    def _on_first_temporal_block(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = self._on_temporal_block(module, args, kwargs)
        if self._frames == 1:
            return args, kwargs
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        places = self._transformer().temp_pos_embed[:, : self._frames, None].to(hidden.device, hidden.dtype)
        hidden = (hidden.unflatten(0, (-1, self._frames)) + places).flatten(0, 1)
        return self._given(args, kwargs, hidden_states=hidden)

    @while_running
    def _before_attention(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].unflatten(0, (-1, self._frames)).transpose(1, 2).flatten(0, 1), *args[1:])

    @while_running
    def _after_attention(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        self.seen_end()
        patches = len(output) * self._frames // len(self._modulation_NE)
        return output.unflatten(0, (-1, patches)).transpose(1, 2).flatten(0, 1)

    @while_running
    def _after_temporal_block(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output.flatten(0, 1)[:, None]

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any], **changes: Tensor) -> tuple[tuple, dict[str, Any]]:
        """A block's arguments, some of them others."""
        args, kwargs = list(args), dict(kwargs)
        for name, value in changes.items():
            if name in kwargs:
                kwargs[name] = value
            else:
                args[self._order[name]] = value
        return tuple(args), kwargs
