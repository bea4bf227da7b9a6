"""SANA-Video, text to video."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.ltx.decoder import LTXDecoder, encode
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.pipeline_calls import call_arguments
from fifo_diffusion.models.shared.shared_text import SharedTextModel
from fifo_diffusion.models.wan.decoder import WanDecoder, encode_causal


class SanaVideoModel(SharedTextModel):
    """`SanaVideoPipeline`, with the autoencoder of Wan or of LTX-2. Its transformer takes a timestep for every token.
    Videos have the size that is asked for; the pipeline would round it to one of its own (`use_resolution_binning`).

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the pipeline samples by default.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: patches of several latents, or an autoencoder of single pictures.
    """

    family = "SANA-Video"
    flow = True
    other_shapes = True
    text_width = "caption_channels"
    outputs_per_input = (1, 2)
    row_arguments = ("encoder_attention_mask",)
    text_tokens = 300

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.timing = LatentTiming(1, pipe.vae_scale_factor_temporal)
        super().__init__(pipe, frames=frames, defaults=defaults)

    def usual_frames(self) -> int:
        return self.timing.latents(call_arguments(self.pipe)["frames"])

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size[0] != 1:
            raise ValueError("pipe.transformer joins several latents to one token, which no published SANA-Video does")

    def check_autoencoder(self) -> None:
        kind = type(self.pipe.vae).__name__
        if kind not in ("AutoencoderKLWan", "AutoencoderKLLTX2Video"):
            raise ValueError(f"pipe.vae is an {kind}: load a SANA-Video with the autoencoder of Wan or LTX-2")

    def clip_length(self) -> dict[str, int]:
        return {"frames": self.timing.frames(self.frames)}

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        return super().condition(prompts, **{"use_resolution_binning": False} | call)

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows, patch = len(latents_RCFHW), self.pipe.transformer.config.patch_size
        tokens = (latents_RCFHW.shape[3] // patch[1]) * (latents_RCFHW.shape[4] // patch[2])
        output = self.pipe.transformer(
            latents_RCFHW,
            condition.rows(rows),
            timestep_RF.repeat_interleave(tokens, 1),
            **condition.arguments | condition.row_arguments(rows),
        )[0]
        return output[:, : latents_RCFHW.shape[1]]  # without the variance that some checkpoints predict

    def autoencoder_kind(self) -> Any:
        config = self.pipe.vae.config
        kind = type(self.pipe.vae).__name__
        return kind, config.get("z_dim", config.get("latent_channels")), self.timing.further, self.factor

    def decoder(self) -> WanDecoder | LTXDecoder:
        vae = self.pipe.vae
        return WanDecoder(vae) if type(vae).__name__ == "AutoencoderKLWan" else LTXDecoder(vae)

    @property
    def decoder_latency(self) -> int:
        return self.decoder().latency

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        encoder = encode_causal if type(self.pipe.vae).__name__ == "AutoencoderKLWan" else encode
        return encoder(self.pipe.vae, frames_FHWC[-used:], self.device)
