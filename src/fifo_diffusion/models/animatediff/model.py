"""The AnimateDiff family: image U-Nets of Stable Diffusion 1.5 and XL with motion modules between their layers.

`UNetMotionModel` repeats its time embedding for every frame as `UNet3DConditionModel` does, so the hooks are the same.
It differs in its further conditioning: its pipelines give it the text once per frame, XL a pooled text and sizes
besides, which are added to the time embedding, and IP-adapters pictures.

The motion modules know a frame by its place in the window, not in the video: they need nothing special, but can tell
no more frames apart than they have places.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (passes x windows x videos), F frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fifo_diffusion.decoding.frames import FrameDecoder
from fifo_diffusion.models.shared.conditions import TextCondition, mixed, rows_of
from fifo_diffusion.models.unet3d.model import UNet3DModel


@dataclass(frozen=True)
class MotionCondition(TextCondition):
    """What `UNetMotionModel` receives besides latents and time.

    Attributes:
        pooled: Stable Diffusion XL's other embedding of the text, (G, B, P), or with one text per frame (G, B, F, P).
        sizes: XL's numbers about size and crop, (G, B, 6).
        guidance: embedding of the guidance scale, (G, B, D), for distilled U-Nets that are conditioned on it.
        pictures: of each IP-adapter the embedded pictures, (G, B, ...). They belong to the clip: all frames, and all
            texts of a schedule, have the same.
    """

    pooled: Tensor | None = None
    sizes: Tensor | None = None
    guidance: Tensor | None = None
    pictures: tuple[Tensor, ...] = ()

    def of_frames(self, part: slice) -> "MotionCondition":
        found = super().of_frames(part)
        pooled = self.pooled[:, :, part] if self.per_frame and self.pooled is not None else self.pooled
        return replace(found, pooled=pooled)

    def halves(self) -> list["MotionCondition"]:
        def cut(value: Tensor | None, g: int) -> Tensor | None:
            return None if value is None else value[g : g + 1]

        return [
            replace(
                half,
                pooled=cut(self.pooled, g),
                sizes=cut(self.sizes, g),
                guidance=cut(self.guidance, g),
                pictures=tuple(picture[g : g + 1] for picture in self.pictures),
            )
            for g, half in enumerate(super().halves())
        ]


class AnimateDiffModel(UNet3DModel):
    """`AnimateDiffPipeline`.

    Args:
        pipe: loaded pipeline; used as it is (motion adapter, LoRA, motion LoRA, IP-adapter, textual inversion, ...).
        frames: f, at most the number of places that the motion modules have.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: FreeNoise or FreeInit is enabled on the pipeline. Also from `condition`, if it was enabled later.
    """

    family = "AnimateDiff"
    other_shapes = True

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        _refuse_other_methods(pipe)
        most = pipe.unet.config.motion_max_seq_length
        super().__init__(pipe, frames=min(frames or self.usual_frames(), most), defaults=defaults)

    @property
    def most_frames(self) -> int:
        return self.pipe.unet.config.motion_max_seq_length

    def follow(self) -> None:
        _refuse_other_methods(self.pipe)
        super().follow()

    def condition(self, prompts: Sequence[str], **call: Any) -> MotionCondition:
        pictures = ("ip_adapter_image", "ip_adapter_image_embeds")
        adapted = self.pipe.unet.config.encoder_hid_dim_type == "ip_image_proj"
        if adapted and not any(call.get(name) is not None for name in pictures):
            raise ValueError(
                "an IP-adapter is loaded and there is no picture for it: give ip_adapter_image=, or call "
                "pipe.unload_ip_adapter()"
            )
        with _as_transformers_4(self.pipe.text_encoder):
            plain = super().condition(prompts, **call)
        arguments, groups = dict(plain.arguments), plain.text.shape[:2]

        def of_videos(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.unflatten(0, groups)

        added = arguments.pop("added_cond_kwargs", None) or {}
        return MotionCondition(
            plain.text,
            plain.guidance_scale,
            arguments,
            pooled=of_videos(added.get("text_embeds")),
            sizes=of_videos(added.get("time_ids")),
            guidance=of_videos(arguments.pop("timestep_cond", None)),
            pictures=tuple(of_videos(picture) for picture in added.get("image_embeds", ())),
        )

    def mix(self, conditions: Sequence[MotionCondition], weight_WFP: Tensor) -> MotionCondition:
        condition = super().mix(conditions, weight_WFP)
        if condition.pooled is None:
            return condition
        return replace(condition, pooled=mixed([c.pooled for c in conditions], weight_WFP))

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: MotionCondition) -> Tensor:
        rows, frames = timestep_RF.shape

        def of_frames(value: Tensor, per_frame: bool = False) -> Tensor:
            """(R F, ...): everything that meets the time embedding, or a block, has a row for each frame."""
            value = rows_of(value, rows)
            return value.flatten(0, 1) if per_frame else value.repeat_interleave(frames, 0)

        added: dict[str, Any] = {}
        if condition.pooled is not None:
            added["text_embeds"] = of_frames(condition.pooled, condition.per_frame)
            added["time_ids"] = of_frames(condition.sizes)
        if condition.pictures:  # the U-Net itself repeats these for every frame
            added["image_embeds"] = [rows_of(picture, rows) for picture in condition.pictures]
        with self.hooks.active(timestep_RF):
            return self.pipe.unet(
                latents_RCFHW,
                timestep_RF[:, 0],
                encoder_hidden_states=of_frames(condition.text, condition.per_frame),
                timestep_cond=None if condition.guidance is None else of_frames(condition.guidance),
                added_cond_kwargs=added,
                **condition.arguments,
            )[0]

    def parts(self) -> dict[str, Any]:
        others = {"text_2": "text_encoder_2", "image": "image_encoder"}
        found = {name: getattr(self.pipe, attribute, None) for name, attribute in others.items()}
        return super().parts() | {name: part for name, part in found.items() if part is not None}


class AnimateDiffXLModel(AnimateDiffModel):
    """`AnimateDiffSDXLPipeline`. Its autoencoder overflows in float16: it works in float32, as in the pipeline."""

    family = "AnimateDiff XL"
    no_effect = ("guidance_rescale", "denoising_end", "timesteps", "sigmas")

    def decoder(self) -> FrameDecoder:
        return WideFrameDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        with _wide(self.pipe.vae):
            return super().encode(frames_FHWC)


class WideFrameDecoder(FrameDecoder):
    """A `FrameDecoder` whose autoencoder works in float32 where it says that float16 is too narrow for it."""

    def push(self, latents_BCFHW: Tensor) -> Tensor:
        with _wide(self.vae):
            return super().push(latents_BCFHW)


@contextmanager
def _wide(vae: nn.Module) -> Iterator[None]:
    narrow = vae.dtype == torch.float16 and vae.config.force_upcast
    if narrow:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if narrow:
            vae.to(dtype=torch.float16)


@contextmanager
def _as_transformers_4(text_encoder: nn.Module | None) -> Iterator[None]:
    """With `clip_skip` the pipeline looks for a part of the text encoder where transformers 5 has it no longer."""
    moved = hasattr(text_encoder, "final_layer_norm") and not hasattr(text_encoder, "text_model")
    if moved:
        vars(text_encoder)["text_model"] = text_encoder  # not as a submodule, which would contain itself
    try:
        yield
    finally:
        if moved:
            del vars(text_encoder)["text_model"]


def _refuse_other_methods(pipe: Any) -> None:
    """FreeNoise widens the motion modules' view, FreeInit samples a clip several times over: neither fits a queue."""
    for name, method in (("free_noise", "FreeNoise"), ("free_init", "FreeInit")):
        if getattr(pipe, f"{name}_enabled", False):
            raise ValueError(f"{method} is enabled on this pipeline, which FIFO cannot use: call pipe.disable_{name}()")
