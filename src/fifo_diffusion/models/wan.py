"""The Wan family (Wan 2.1, Wan 2.2 TI2V-5B) and SkyReels-V2 diffusion forcing, which is built on it.

`WanTransformer3DModel` takes a timestep for every token, `SkyReelsV2Transformer3DModel` one for every latent frame, so
that nothing has to be changed in them; only texts that differ from frame to frame need a hook.

Tensor names end in their axes: R rows (windows x videos), F latent frames, S tokens of all frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fifo_diffusion.models.per_frame import reset_if_compiled
from fifo_diffusion.models.transformer import TransformerModel
from fifo_diffusion.models.unet3d import TextCondition
from fifo_diffusion.video.timing import LatentTiming
from fifo_diffusion.video.wan_decoder import WanDecoder, encode_causal


class WanModel(TransformerModel):
    """`WanPipeline`: text to video.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; 21 otherwise (81 frames of the video).
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: a pipeline with two transformers (Wan 2.2 A14B).
    """

    family = "Wan"
    unguided_first = False

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        if getattr(pipe, "transformer_2", None) is not None or pipe.transformer is None:
            raise ValueError(
                "this Wan pipeline has two transformers, one for high and one for low noise (Wan 2.2 A14B), but a "
                "window of the queue can hold both: use Wan 2.1, or Wan 2.2 TI2V-5B"
            )
        self.timing = LatentTiming(1, pipe.vae_scale_factor_temporal)
        super().__init__(pipe, frames=frames, defaults=defaults)
        self._texts = PerFrameText(pipe.transformer)
        reset_if_compiled(pipe.transformer)

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, text: Tensor, condition: TextCondition) -> Tensor:
        with self._texts.active(timestep_RF.shape[1] if condition.per_frame else None):
            text = text.flatten(0, 1) if condition.per_frame else text
            return self._pass(latents_RCFHW, timestep_RF, text, condition.arguments)

    def _pass(self, latents_RCFHW: Tensor, timestep_RF: Tensor, text: Tensor, arguments: dict[str, Any]) -> Tensor:
        _, high, wide = self.pipe.transformer.config.patch_size
        tokens = (latents_RCFHW.shape[-2] // high) * (latents_RCFHW.shape[-1] // wide)
        timestep_RS = timestep_RF.repeat_interleave(tokens, 1)
        return self.pipe.transformer(latents_RCFHW, timestep_RS, text, **arguments)[0]

    def decoder(self) -> WanDecoder:
        return WanDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode_causal(self.pipe.vae, frames_FHWC[-used:], self.device)

    def close(self) -> None:
        self._texts.remove()
        super().close()


class SkyReelsForcingModel(WanModel):
    """`SkyReelsV2DiffusionForcingPipeline`: trained with a noise level of its own for every latent frame."""

    family = "SkyReels-V2 diffusion forcing"
    no_effect = ("ar_step", "overlap_history", "addnoise_condition")

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        super().__init__(pipe, frames=frames, defaults={"fps": 24} | (defaults or {}))

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        if self._told_frame_rate and len(prompts) > 1:  # the pipeline takes one prompt at a time then
            negative = call.pop("negative_prompt", None) or [None] * len(prompts)
            pairs = zip(prompts, negative, strict=True)
            each = [self.condition([p], negative_prompt=None if n is None else [n], **call) for p, n in pairs]
            return replace(each[0], text=torch.cat([condition.text for condition in each], 1))
        try:
            return super().condition(prompts, **call)
        except NameError as error:  # diffusers does without the package at import, and fails at the first text
            if error.name != "ftfy":
                raise
            raise ValueError(f"{type(self.pipe).__name__} needs the package ftfy: pip install ftfy") from error

    @property
    def _told_frame_rate(self) -> bool:
        return self.pipe.transformer.config.inject_sample_info

    def _pass(self, latents_RCFHW: Tensor, timestep_RF: Tensor, text: Tensor, arguments: dict[str, Any]) -> Tensor:
        transformer, rows = self.pipe.transformer, len(latents_RCFHW)
        arguments = {k: v for k, v in arguments.items() if k != "fps"} | {"fps": arguments["fps"][:1]}
        if not self._told_frame_rate:
            return transformer(latents_RCFHW, timestep_RF, text, **arguments)[0]
        # Told the frame rate, the transformer takes one row at a time.
        each = zip(latents_RCFHW.split(1), timestep_RF.split(1), text.chunk(rows), strict=True)
        return torch.cat([transformer(*row, **arguments)[0] for row in each])


class PerFrameText:
    """Hooks on the text attention of Wan's blocks, which let every frame attend to a text of its own; inert outside
    `active()`. Install them before the transformer is compiled."""

    def __init__(self, transformer: nn.Module) -> None:
        self._frames: int | None = None
        attentions = [block.attn2 for block in transformer.blocks]
        self._handles = [attention.register_forward_pre_hook(self._split) for attention in attentions]
        self._handles += [attention.register_forward_hook(self._join) for attention in attentions]

    @contextmanager
    def active(self, frames: int | None) -> Iterator[None]:
        """Within, there is a row of text for each of so many frames of each row of latents; None: as always."""
        self._frames = frames
        try:
            yield
        finally:
            self._frames = None

    def remove(self) -> None:
        """Take all hooks off; the transformer is stock again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _split(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._frames is None:
            return None
        tokens_RSD, *others = args
        return (tokens_RSD.unflatten(1, (self._frames, -1)).flatten(0, 1), *others)

    def _join(self, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._frames is None:
            return None
        return output.unflatten(0, (-1, self._frames)).flatten(1, 2)
