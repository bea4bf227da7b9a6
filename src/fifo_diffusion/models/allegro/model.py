"""Allegro, text to video."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.tiles import TileDecoder
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.allegro.decoder import allegro_decoder, encode, tiled_sizes
from fifo_diffusion.models.shared.adaln_model import AdaLNModel
from fifo_diffusion.models.shared.arguments import caption_cleaning
from fifo_diffusion.models.shared.conditions import TextCondition


class AllegroModel(AdaLNModel):
    """`AllegroPipeline`. Captions are not cleaned unless `clean_caption=True` is passed on.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; else as many as the transformer's configuration says.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: patches of several latents.
    """

    family = "Allegro"
    flow = False
    text_width = "caption_channels"
    modulations = r"adaln_single"
    row_arguments = ("encoder_attention_mask",)

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        ratio = pipe.vae_scale_factor_temporal
        self.timing = LatentTiming(ratio, ratio)
        super().__init__(pipe, frames=frames, defaults=defaults)

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size_t != 1:
            raise ValueError("pipe.transformer joins several latents to one token, which no published Allegro does")

    def usual_frames(self) -> int:
        return self.pipe.transformer.config.sample_frames

    def usual(self) -> dict[str, Any]:
        config = self.pipe.transformer.config
        size = {"height": config.sample_height * self.factor, "width": config.sample_width * self.factor}
        return super().usual() | size | {"fps": 15}  # as diffusers' example of this pipeline writes its video

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        shape, near = super().latent_shape(height, width), tiled_sizes(self.pipe.vae, height, width)
        if near != (height, width):
            raise ValueError(
                f"height {height} and width {width}: the tiles of the autoencoder do not cover them: use {near[0]} and "
                f"{near[1]}"
            )
        return shape

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        return super().condition(prompts, **call | {"clean_caption": caption_cleaning(call.get("clean_caption"))})

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        name = self.text_argument  # (rows, 1, tokens, D) there
        return [record | {name: record[name].flatten(1, 2)} for record in super().captured(**call)]

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        rows, frames = len(latents_RCFHW), latents_RCFHW.shape[2]
        arguments = condition.arguments | condition.row_arguments(rows)
        tables, places = arguments["image_rotary_emb"]
        tokens = frames * self.tokens_per_frame(latents_RCFHW)
        if frames <= self.frames:  # made for f frames: a shorter window has the first of them
            places = tuple(place[:, :tokens] for place in places)
        else:
            size = latents_RCFHW.shape[3] * self.factor, latents_RCFHW.shape[4] * self.factor
            tables, places = self.pipe._prepare_rotary_positional_embeddings(rows, *size, frames, latents_RCFHW.device)
        arguments["image_rotary_emb"] = (tables, places)
        with self.per_frame(latents_RCFHW, 0):
            return self.pipe.transformer(latents_RCFHW, condition.rows(rows), timestep_RF.flatten(), **arguments)[0]

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, self.timing.further, vae.spatial_compression_ratio, vae.kernel, vae.stride

    def decoder(self) -> TileDecoder:
        return allegro_decoder(self.pipe.vae, self.timing)

    @property
    def decoder_latency(self) -> int:
        return self.decoder().latency

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)
