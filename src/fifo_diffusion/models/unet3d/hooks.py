"""One timestep (and one text) per frame in U-Nets that know only one per clip, through forward hooks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place, while_running


class PerFrameHooks(DenoiserHooks):
    """Hooks on a diffusers 3D U-Net (`UNet3DConditionModel` and relatives); inert outside `active()`.

    The stock forward embeds one timestep per clip and repeats its row for every frame. Here the sinusoid sees all
    B F timesteps instead, so that the repetition makes F copies of every frame's row, one after the other; each block
    then takes every F-th row. Nothing is computed outside the U-Net's own forward, so offloading, casting and
    compilation see ordinary modules. Text is repeated per frame by the stock forward in the same way; where frames
    have texts of their own, the blocks are given those rows instead.
    """

    _timestep_BF: Tensor | None = None
    _text_BFLD: Tensor | None = None

    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        yield Place(denoiser.time_proj, "before", self._on_sinusoid)
        blocks = [*denoiser.down_blocks, *denoiser.up_blocks]
        if denoiser.mid_block is not None:
            blocks.append(denoiser.mid_block)
        for block in blocks:
            yield Place(block, "before", self._on_block, told=True)

    def active(self, timestep_BF: Tensor, text_BFLD: Tensor | None = None) -> AbstractContextManager[None]:
        """Within, the U-Net uses these timesteps in place of the one it is called with, and these texts."""
        return self.running(_timestep_BF=timestep_BF, _text_BFLD=text_BFLD)

    @while_running
    def _on_sinusoid(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.seen_begin()
        return (self._timestep_BF.reshape(-1), *args[1:])

    @while_running
    def _on_block(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict]:
        self.seen_end()
        every = self._timestep_BF.shape[1]
        kwargs = dict(kwargs)
        if "temb" in kwargs:
            kwargs["temb"] = kwargs["temb"][::every]
        else:  # the middle block is called with it as second positional argument
            args = (args[0], args[1][::every], *args[2:])
        if self._text_BFLD is not None and kwargs.get("encoder_hidden_states") is not None:
            kwargs["encoder_hidden_states"] = self._text_BFLD.flatten(0, 1)
        return args, kwargs
