"""Motif-Video, text to video."""

from typing import Any

from torch import Tensor

from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.guided_model import GuidedModel
from fifo_diffusion.models.shared.pipeline_calls import call_arguments
from fifo_diffusion.models.shared.spacing import linear_sigmas, shift_by_length
from fifo_diffusion.models.wan.model import WithWanAutoencoder


class MotifVideoModel(WithWanAutoencoder, GuidedModel):
    """`MotifVideoPipeline`, with Wan's autoencoder.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: patches of several latents, or a guider that guides in another way than by one weight.
    """

    family = "Motif-Video"
    flow = True
    other_shapes = True
    text_width = "text_embed_dim"
    modulations = r"time_text_embed"
    text_order = "last"
    row_arguments = ("encoder_attention_mask",)

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size_t != 1:
            raise ValueError("pipe.transformer joins several latents to one token, which no published Motif-Video does")

    def usual(self) -> dict[str, Any]:
        call = call_arguments(self.pipe)
        return {"height": call["height"], "width": call["width"], "fps": 24}  # fps: of diffusers' example of it

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        frames, height, width = size
        tokens = frames * (height // self.size_multiple) * (width // self.size_multiple)
        return {"sigmas": linear_sigmas(count), "mu": shift_by_length(self.pipe.scheduler, tokens)}

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows, text = len(latents_RCFHW), condition.rows(len(latents_RCFHW))
        arguments = condition.arguments | condition.row_arguments(rows)
        with self.per_frame(latents_RCFHW, text.shape[1]):
            video = self.without_picture(latents_RCFHW)
            return self.pipe.transformer(video, timestep_RF.flatten(), text, **arguments)[0]
