"""The Wan family (Wan 2.1, Wan 2.2 TI2V-5B) and SkyReels-V2 diffusion forcing, which is built on it.

Tensor names end in their axes: R rows (windows x videos), F latent frames, S tokens of all frames, N of one.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.method import to_device
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place, while_running
from fifo_diffusion.models.shared.offload import make_room, offloads, on_gpu
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.wan.decoder import WanDecoder, encode_causal


@dataclass(frozen=True)
class WanCondition(TextCondition):
    """What Wan's transformers receive besides latents and time.

    Attributes:
        guidance_scale_2: weight of guidance for the second transformer; None: as the first.
        expert: which of two transformers works.
        only: frames of this one are computed, all others are zero; None: all frames are.
    """

    guidance_scale_2: float | None = None
    expert: int = 0
    only: int | None = None

    def of(self, index_R: Tensor, rows: int) -> "WanCondition":
        """The condition of some of so many rows (windows x videos), in which none is repeated."""
        text = self.text.repeat(1, rows // self.text.shape[1], *[1] * (self.text.dim() - 2))
        return replace(self, text=text.index_select(1, index_R))


class WithWanAutoencoder(PipelineModel):
    """A pipeline with Wan's autoencoder."""

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_scale_factor_temporal)
        super().__init__(pipe, frames=frames, defaults=defaults)

    def autoencoder_kind(self) -> Any:
        config = self.pipe.vae.config
        factors = config.get("scale_factor_temporal"), config.get("scale_factor_spatial")
        return config.get("z_dim"), factors, config.get("patch_size")

    def decoder(self) -> WanDecoder:
        return WanDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode_causal(self.pipe.vae, frames_FHWC[-used:], self.device)


class WanModel(WithWanAutoencoder):
    """`WanPipeline`: text to video.

    With two transformers (Wan 2.2 A14B) every frame gets the prediction of the one that is meant for its noise level. A
    window with frames of both kinds goes through both.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; 21 otherwise (81 frames of the video).
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: one of the two transformers is missing.
    """

    family = "Wan"
    flow = True
    other_shapes = True
    unguided_first = False
    text_width = "text_dim"

    def install_hooks(self, denoiser: nn.Module) -> "FrameRows":
        return FrameRows(*self.denoisers.values())

    @property
    def denoisers(self) -> dict[str, Any]:
        second = getattr(self.pipe, "transformer_2", None)
        return super().denoisers | ({} if second is None else {"transformer_2": second})

    @property
    def clean_start(self) -> bool:  # type: ignore[override]
        """Of TI2V-5B, by its own image-to-video pipeline."""
        return bool(self.pipe.config.get("expand_timesteps"))

    @property
    def _boundary(self) -> float | None:
        """The timestep below which the second transformer works; None: there is no second."""
        ratio = self.pipe.config.get("boundary_ratio")
        return None if ratio is None else ratio * self.pipe.scheduler.config.num_train_timesteps

    def check_denoisers(self) -> None:
        self.check_experts()
        super().check_denoisers()

    def check_experts(self) -> None:
        """Whether there are both of two transformers, and the pipeline says which works when.

        Raises:
            ValueError: one is missing, or that; one line.
        """
        second, ratio = getattr(self.pipe, "transformer_2", None), self.pipe.config.get("boundary_ratio")
        if second is not None and ratio is None:
            raise ValueError(
                "this Wan pipeline has two transformers and no boundary_ratio to say where the second takes over: load "
                "it with boundary_ratio=0.875 (Wan 2.2 A14B)"
            )
        if self.pipe.transformer is None or (second is None and ratio is not None):
            raise ValueError("this Wan pipeline has one of its two transformers only: load it with both")
        if ratio is not None and not (isinstance(ratio, int | float) and 0 <= ratio <= 1):
            raise ValueError(f"boundary_ratio must lie between 0 and 1, not {ratio}: load the pipeline with another")

    def condition(self, prompts: Sequence[str], **call: Any) -> "WanCondition":
        try:
            plain = super().condition(prompts, **call)
        except NameError as error:  # diffusers does without the package at import, and fails at the first text
            if error.name != "ftfy":
                raise
            raise ValueError(f"{type(self.pipe).__name__} needs the package ftfy: pip install ftfy") from error
        second = call.get("guidance_scale_2")
        if second is None and plain.guidance_scale == self.defaults["guidance_scale"]:
            second = self.defaults.get("guidance_scale_2")
        return WanCondition(plain.text, plain.guidance_scale, plain.arguments, guidance_scale_2=second)

    def guidance(self, condition: "WanCondition", timestep_RF: Tensor) -> float | Tensor:
        if self._boundary is None or condition.guidance_scale_2 is None:
            return condition.guidance_scale
        first, second = condition.guidance_scale, condition.guidance_scale_2
        return torch.where(timestep_RF < self._boundary, second, first)[:, None, :, None, None]

    def stages(self) -> Sequence[int]:
        transformers = list(self.denoisers.values())
        if len(transformers) == 1 or not offloads(*transformers):
            return ()
        return (1, 0) if on_gpu(transformers[1]) else (0, 1)  # first the one that is there

    def of_stage(self, condition: "WanCondition", stage: int) -> "WanCondition":
        return replace(condition, only=stage)

    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: "WanCondition") -> Tensor:
        if self._boundary is None:
            return super().prediction(latents_BCFHW, timestep_BF, condition)
        low_BF = timestep_BF.cpu() < self._boundary  # on the host, or a GPU would have to be waited for
        output = torch.zeros_like(latents_BCFHW, dtype=torch.float32)
        for number, its_BF in enumerate((~low_BF, low_BF)):
            rows = its_BF.any(1).nonzero()[:, 0]
            if condition.only not in (None, number) or not len(rows):
                continue
            index, mask = (to_device(x, output.device) for x in (rows, its_BF[rows][:, None, :, None, None]))
            part = replace(condition.of(index, len(latents_BCFHW)), expert=number)
            found = super().prediction(latents_BCFHW.index_select(0, index), timestep_BF[rows], part)
            output.index_copy_(0, index, torch.where(mask, found, output.index_select(0, index)))
        return output

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: "WanCondition") -> Tensor:
        transformer = self.pipe.transformer_2 if condition.expert else self.pipe.transformer
        make_room(self.pipe, transformer)
        text = condition.rows(len(latents_RCFHW))
        text = text.flatten(0, 1) if condition.per_frame else text
        with self.hooks.active(timestep_RF.shape[1], condition.per_frame):
            return transformer(latents_RCFHW, timestep_RF.flatten(), text, **condition.arguments)[0]


class SkyReelsModel(WanModel):
    """`SkyReelsV2Pipeline`: Wan's pipeline around a transformer of the same build."""

    family = "SkyReels-V2"

    def usual(self) -> dict[str, Any]:
        return super().usual() | {"fps": 24}


class SkyReelsForcingModel(SkyReelsModel):
    """`SkyReelsV2DiffusionForcingPipeline`: trained with a noise level of its own for every latent frame."""

    family = "SkyReels-V2 diffusion forcing"
    no_effect = ("ar_step", "overlap_history", "addnoise_condition")

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        told_frame_rate = self.pipe.transformer.config.inject_sample_info
        if told_frame_rate and len(prompts) > 1:  # the pipeline takes one prompt at a time then
            negative = call.pop("negative_prompt", None) or [None] * len(prompts)
            pairs = zip(prompts, negative, strict=True)
            each = [self.condition([p], negative_prompt=None if n is None else [n], **call) for p, n in pairs]
            return replace(each[0], text=torch.cat([condition.text for condition in each], 1))
        plain = super().condition(prompts, **call)
        # One row of latents per frame: diffusion forcing without its own way to say so.
        told = {"enable_diffusion_forcing": False, "fps": plain.arguments["fps"][:1]}
        return replace(plain, arguments=plain.arguments | told)


class FrameRows(DenoiserHooks):
    """Hooks on Wan's transformer that let its blocks see every frame as a row of its own, but for the attention across
    frames.

    A block adds a row's embedding of time to its tokens, so that each frame gets its own. (The transformer also takes a
    timestep for every token, but then makes six embeddings of every token in every block.) Text attention sees the
    frames of a video together, as in the stock transformer, unless every frame has a text of its own.
    """

    _frames: int = 0
    _texts = False

    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        yield Place(denoiser.blocks[0], "before", self._begin)
        for block in denoiser.blocks:
            for attention in (block.attn1, block.attn2):
                yield Place(attention, "before", self._join)
                yield Place(attention, "after", self._split)

    def active(self, frames: int, texts: bool) -> AbstractContextManager[None]:
        """Within, the transformer takes (R F) timesteps for R rows of F frames; with `texts` also R F rows of text."""
        return self.running(_frames=frames, _texts=texts)

    @while_running
    def _begin(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """(R, S, D) -> (R F, N, D). It stays so to the end, where it is reshaped to frames anyway."""
        self.seen_begin()
        return (args[0].unflatten(1, (self._frames, -1)).flatten(0, 1), *args[1:])

    def _apart(self, args: tuple[Any, ...]) -> bool:
        """Whether the attention is called frame by frame: to a text for each."""
        return self._texts and args[1] is not None

    @while_running
    def _join(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._apart(args):
            return None
        return (args[0].unflatten(0, (-1, self._frames)).flatten(1, 2), *args[1:])

    @while_running
    def _split(self, _module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._apart(args):
            return None
        self.seen_end()
        return output.unflatten(1, (self._frames, -1)).flatten(0, 1)
