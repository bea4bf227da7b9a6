"""What base models with a diffusion transformer have in common: all of a pipeline that is not its denoiser's own.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (windows x videos), F latent frames.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.pipeline_model import (
    PipelineModel,
    TextCondition,
    call_arguments,
    latent_size,
    mixed,
    rows_of,
)


class TransformerModel(PipelineModel):
    """A diffusers pipeline around `pipe.transformer`, with guidance in one batched call or in two.

    A family says what its denoiser's arguments are called, how it is told one timestep per frame (`install_hooks`,
    `denoise`), and how its autoencoder treats time (`timing`, `decoder`, `encode`).

    Args:
        pipe: loaded pipeline; used as it is and never changed but for inert hooks.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.
    """

    latent_argument = "hidden_states"
    time_argument = "timestep"
    text_argument = "encoder_hidden_states"
    unguided_first = True
    """Order of the passes: without the prompt first, or with it first."""
    no_effect: tuple[str, ...] = ()
    """Arguments of the pipeline's call that act where FIFO has taken over."""

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        call = call_arguments(pipe)
        self.frames = frames or self.timing.latents(call["num_frames"])
        usual = {name: call[name] for name in ("guidance_scale", "height", "width")}
        self.defaults = usual | {"fps": 16, "eta": 0.0} | (defaults or {})
        self.set_up()

    @property
    def size_multiple(self) -> int:
        """What height and width must be multiples of: one patch of the transformer."""
        patch = self.pipe.transformer.config.patch_size
        return self.pipe.vae_scale_factor_spatial * (patch if isinstance(patch, int) else patch[-1])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); height and width must be multiples of the autoencoder's factor times the patch size."""
        factor = self.pipe.vae_scale_factor_spatial
        return self.pipe.transformer.config.in_channels, *latent_size(height, width, self.size_multiple, factor)

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        for name in self.no_effect:
            if call.get(name):
                raise ValueError(f"{name} would have no effect here: leave it out")
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        call = {"guidance_scale": scale, **call}
        call["num_frames"] = self.timing.frames(self.frames)
        calls = self.captured(prompt=list(prompts), output_type="latent", **call)
        passes = [record.pop(self.text_argument) for record in calls]
        passes = passes if self.unguided_first else passes[::-1]
        rows = torch.cat(passes)
        if len(rows) not in (len(prompts), 2 * len(prompts)):
            raise RuntimeError(
                f"{type(self.pipe).__name__} gave its transformer {len(rows)} rows for {len(prompts)} prompts"
            )
        arguments = {k: v for k, v in calls[0].items() if k not in (self.latent_argument, self.time_argument)}
        text = rows.unflatten(0, (-1, len(prompts)))
        return TextCondition(text, scale, arguments | {"return_dict": False})

    def mix(self, conditions: Sequence[TextCondition], weight_WFP: Tensor) -> TextCondition:
        return replace(conditions[0], text=mixed([c.text for c in conditions], weight_WFP))

    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: TextCondition) -> Tensor:
        latents = latents_BCFHW.to(dtype_of(self.pipe.transformer))
        timestep, outputs = timestep_BF.to(latents.device), []
        for text in condition.text.split(1):
            output = self.denoise(latents, timestep, rows_of(text, len(latents)), condition)
            outputs.append(self.checked(output, latents).float())
        return self.guided(outputs, timestep, condition)

    @abstractmethod
    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, text: Tensor, condition: TextCondition) -> Tensor:
        """One pass of the transformer, of the latents' shape.

        Args:
            latents_RCFHW: in the transformer's precision.
            text: (R, tokens, D), or with `condition.per_frame` (R, F, tokens, D).
            condition: for its `arguments`.
        """
