"""The model of class-conditional Latte pipelines: a class for a prompt, one timestep per frame by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fifo_diffusion.models.latte.model import LatteModel
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.offload import make_room
from fifo_diffusion.models.shared.pipeline_model import TextCondition, mixed, rows_of
from fifo_diffusion.models.shared.replaced import modules_state
from fifo_diffusion.models.shared.texts import Prompt


class ClassLatteModel(LatteModel):
    """`ClassLattePipeline`. Prompts are numbers of classes; a mixture of classes is one of their embeddings.

    Args:
        pipe, frames, defaults: as in `LatteModel`.
    """

    family = "Latte, class-conditional"
    text_width = "hidden_size"

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.frames = frames or self.most_frames
        side = pipe.transformer.config.input_size * self._factor
        own = {"guidance_scale": 7.0, "height": side, "width": side, "fps": 8, "eta": 0.0}
        self.defaults = own | (defaults or {})
        self.set_up()

    def install_hooks(self, denoiser: nn.Module) -> None:
        """None are needed."""

    @property
    def most_frames(self) -> int:
        return self.pipe.transformer.config.num_frames

    def text_state(self) -> Any:
        return [super().text_state(), modules_state(self.pipe.transformer.y_embedder)]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); the model has positions for one size only."""
        config = self.pipe.transformer.config
        side = config.input_size * self._factor
        if (height, width) != (side, side):
            raise ValueError(f"height {height} and width {width}: this model makes {side} and {side} only")
        return config.in_channels, config.input_size, config.input_size

    def check_prompt(self, prompt: Prompt, call: Mapping[str, Any]) -> None:
        if not isinstance(prompt, str):
            raise ValueError(f"prompts of {self.family} models are numbers of classes: leave prompt_embeds out")
        self.pipe.embed([prompt], False)

    def unseen_words(self, text: str, call: Mapping[str, Any]) -> str:
        return ""

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        scale = call.pop("guidance_scale", self.defaults["guidance_scale"])
        negatives = call.pop("negative_prompt", None)
        negatives = [negatives] * len(prompts) if isinstance(negatives, str) else negatives
        for name in sorted(call.keys() - {"height", "width"}):
            raise ValueError(f"a class-conditional model does not take {name}: leave it out")
        with self.lock, torch.no_grad():
            self.follow()
            make_room(self.pipe)
            classes = self.pipe.embed(list(prompts), scale > 1, negatives)
        return TextCondition(classes[:, :, None], scale, {})

    def mix(self, conditions: Sequence[TextCondition], weight_WFP: Tensor) -> TextCondition:
        text = mixed([c.text for c in conditions], weight_WFP)
        return TextCondition(text, conditions[0].guidance_scale, {})

    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: TextCondition) -> Tensor:
        transformer, passes, rows = self.pipe.transformer, len(condition.text), len(latents_BCFHW)
        latents = latents_BCFHW.to(dtype_of(transformer)).repeat(passes, 1, 1, 1, 1)
        timestep = timestep_BF.to(latents.device).repeat(passes, 1)
        classes = rows_of(condition.text, passes * rows)[..., 0, :]  # (R, D), or (R, F, D)
        output = transformer(latents, timestep, classes)[:, : latents.shape[1]]
        return self.guided(self.checked(output, latents).float().split(rows), timestep_BF, condition)
