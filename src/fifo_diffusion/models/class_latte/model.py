"""The model of class-conditional Latte pipelines: a class for a prompt, one timestep per frame by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.offload import make_room
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.shared.replaced import modules_state
from fifo_diffusion.models.shared.texts import Prompt


class ClassLatteModel(PipelineModel):
    """`ClassLattePipeline`. Prompts are numbers of classes; a mixture of classes is one of their embeddings.

    Args:
        pipe, defaults: as in `PipelineModel`.
        frames: f; None: what the transformer has places for, which is also the most it can take.
    """

    family = "Latte, class-conditional"
    flow = False
    text_width = "hidden_size"
    outputs_per_input = (1, 2)

    def usual_frames(self) -> int:
        return self.most_frames

    @property
    def most_frames(self) -> int:
        return self.pipe.transformer.config.num_frames

    def usual(self) -> dict[str, Any]:
        side = self.pipe.transformer.config.input_size * self.factor
        return {"guidance_scale": 7.0, "height": side, "width": side, "fps": 8}

    def text_state(self) -> Any:
        return [super().text_state(), modules_state(self.pipe.transformer.y_embedder)]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); the model has positions for one size only."""
        config = self.pipe.transformer.config
        side = config.input_size * self.factor
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

    def passes_together(self, latents_BCFHW: Tensor) -> bool:
        return True

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        classes = condition.rows(len(latents_RCFHW))[..., 0, :]  # (R, D), or (R, F, D)
        output = self.pipe.transformer(latents_RCFHW, timestep_RF, classes)
        return output[:, : latents_RCFHW.shape[1]]  # the rest is a learned variance
