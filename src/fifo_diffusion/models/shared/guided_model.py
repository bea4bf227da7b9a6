"""Diffusion transformers of pipelines whose guidance is a part of its own, which are also told of a picture (here that
there is none) in channels beside the latents."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.capture import capture
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.modular import weight_of
from fifo_diffusion.models.shared.offload import make_room


class GuidedModel(AdaLNModel):
    """Guidance has the weight of `pipe.guider` when a stream begins, or the one that is given as `guidance_scale`.

    Raises:
        ValueError: a guider that guides in another way than by one weight for all steps.
    """

    unguided_first = False

    @property
    def guider_weight(self) -> float:
        """That of `pipe.guider` now; 1 where it is off."""
        change = "pipe.guider = ClassifierFreeGuidance(guidance_scale=5.0)"
        return weight_of("pipe.guider", self.pipe.guider, change)

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return super().defaults | {"guidance_scale": self.guider_weight}

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self._defaults = defaults

    def check_denoisers(self) -> None:
        _ = self.guider_weight  # whether it has one
        super().check_denoisers()

    @property
    def told_channels(self) -> int:  # type: ignore[override]
        """A picture, of as many channels as the latents, and a mask."""
        return (self.denoiser.config.in_channels - 1) // 2 + 1

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        scale, pipe = call.pop("guidance_scale"), copy.copy(self.pipe)
        guider = vars(pipe)["guider"] = copy.copy(self.pipe.guider)
        guider.guidance_scale, guider.use_original_formulation, guider._enabled = scale, False, True
        with self.lock:
            self.follow()
            make_room(self.pipe)
            return capture(pipe, *self.denoisers.values(), **call).calls

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        return super().condition(prompts, **{**call, "guidance_scale": max(scale, 1.0)})

    def without_picture(self, latents_RCFHW: Tensor) -> Tensor:
        """The latents as the denoiser takes them."""
        return torch.cat([latents_RCFHW, torch.zeros_like(latents_RCFHW), torch.zeros_like(latents_RCFHW[:, :1])], 1)
