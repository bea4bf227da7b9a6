"""EasyAnimate, text to video."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.easyanimate.decoder import EasyAnimateDecoder, encode
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.conditions import TextCondition


class EasyAnimateModel(AdaLNModel):
    """`EasyAnimatePipeline`. A negative prompt that is left out is an empty one, without which the pipeline cannot
    guide.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.
    """

    family = "EasyAnimate"
    flow = True
    other_shapes = True
    text_width = "text_embed_dim"
    outputs_per_input = (1, 2)
    modulations = r"transformer_blocks\.\d+\.norm[12]\.linear|norm_out\.linear"
    no_effect = ("guidance_rescale",)
    text_tokens = 256

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_temporal_compression_ratio)
        super().__init__(pipe, frames=frames, defaults=defaults)

    @property
    def factor(self) -> int:
        return self.pipe.vae_spatial_compression_ratio

    @property
    def size_multiple(self) -> int:
        return self.factor * self.pipe.transformer.config.patch_size

    def usual(self) -> dict[str, Any]:
        return super().usual() | {"fps": 8}

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        return {"mu": 1.0}

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        negatives = call.pop("negative_prompt", None) or ""
        negatives = [negatives] * len(prompts) if isinstance(negatives, str) else negatives
        return super().condition(prompts, negative_prompt=[n or "" for n in negatives], **call)

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        text = condition.rows(len(latents_RCFHW))
        with self.per_frame(latents_RCFHW, text.shape[1]):
            output = self.pipe.transformer(
                latents_RCFHW, timestep_RF.flatten(), encoder_hidden_states=text, **condition.arguments
            )[0]
        return output[:, : latents_RCFHW.shape[1]]

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.temporal_compression_ratio, vae.spatial_compression_ratio

    def decoder(self) -> EasyAnimateDecoder:
        return EasyAnimateDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)
