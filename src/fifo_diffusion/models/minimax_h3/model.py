"""MiniMax-H3, text to video, without its sound (diffusers' `modular_pipelines/minimax_h3`).

Tensor names end in their axes: R rows (windows x videos), F groups of latent frames, S rows of the packed sequence.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from diffusers import MiniMaxH3Scheduler
from diffusers.utils import BaseOutput
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.method import NoiseLevels, to_device
from fifo_diffusion.models.minimax_h3.decoder import MiniMaxH3Decoder, apart, encode, together
from fifo_diffusion.models.shared.modular import call_inputs, check_loaded
from fifo_diffusion.models.shared.offload import make_room
from fifo_diffusion.models.shared.pipeline_model import PipelineModel
from fifo_diffusion.models.shared.spacing import Spacing, StepCountError, numbers_of
from fifo_diffusion.models.shared.step_rules import changed_methods
from fifo_diffusion.models.shared.words import WordsCondition, mean, side_by_side

_TAKEN = ("prompt", "height", "width", "num_frames", "num_inference_steps", "attention_kwargs")
"""Inputs of the pipeline that mean something here; the others are pictures, sounds and noise."""


@dataclass
class MiniMaxH3Output(BaseOutput):
    """What a whole video comes as: the pipeline itself returns its state.

    Attributes:
        frames: as `videos` of the pipeline.
    """

    frames: Any


class MiniMaxH3Model(PipelineModel):
    """`MiniMaxH3ModularPipeline`, its workflow of texts alone (t2va).

    Its transformer has text, sound and video in one sequence, with a timestep for every row, counted from 0 (noise) to
    1 (clean), and predicts the way to the clean latents. Here it gets no rows of sound, and the prediction is turned
    round. The text has the mean level of the window. Guidance is distilled into the weights: there is one pass.

    The autoencoder makes five latents of 17 frames, and the transformer places five latents unevenly in time, so that a
    window begins with the first of five. So five latents are one here, of five times as many channels, and share a
    timestep.

    Texts have as many tokens as words; in a window of several prompts each token is the mean over the prompts that have
    so many. The rows of a batch are computed one by one, as the transformer takes one set of timesteps for all of them.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in groups, where the checkpoint is known; else as many as its usual clip of 124 frames fills.
        defaults: of the checkpoint, where it is known.

    Raises:
        ValueError: parts are missing.
    """

    family = "MiniMax-H3"
    flow = True
    other_shapes = True

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        check_loaded(pipe)
        self.timing = LatentTiming(*[pipe.vae_frames_per_chunk] * 2)
        super().__init__(pipe, frames=frames, defaults=defaults)

    def call_arguments(self) -> Mapping[str, Any]:
        inputs = call_inputs(self.pipe)
        return {name: inputs.get(name) for name in _TAKEN}

    def usual_frames(self) -> int:
        return self.timing.latents(self.call_arguments()["num_frames"])

    def usual(self) -> dict[str, Any]:
        """As the pipeline's layout step has them: 16:9, its short edge and area by its configuration."""
        from diffusers.modular_pipelines.minimax_h3.modular_pipeline import resolve_canvas_size

        pipe, config = self.pipe, self.pipe.config
        size = resolve_canvas_size(16, 9, pipe.canvas_multiple, config.canvas_short_edge, config.canvas_max_pixels)
        return {"guidance_scale": 1.0, "height": size[0], "width": size[1], "fps": pipe.fps}

    @property
    def stacked(self) -> int:  # type: ignore[override]
        """Latents of a group."""
        return self.pipe.vae_latents_per_chunk

    @property
    def factor(self) -> int:
        return self.pipe.vae_spatial_compression_ratio

    @property
    def size_multiple(self) -> int:
        return self.pipe.canvas_multiple

    @property
    def decoder_latency(self) -> int:  # type: ignore[override]
        return MiniMaxH3Decoder.latency

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.transformer.config.patch_size[0] != 1:
            raise ValueError("pipe.transformer joins several latents to one token, which no published model does")

    def check_autoencoder(self) -> None:
        vae = self.pipe.vae
        if vae.tokens_chunk_size != 5 or vae.token_overlap >= 5 or vae.config.token_drop == 0:
            raise ValueError(
                "pipe.vae makes no groups of five latents that overlap, which the published one does and the pipeline "
                "counts on"
            )

    # ------------------------------------------------------------------ levels

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False, **steps: Any
    ) -> NoiseLevels:
        """The pipeline's grid for one step more, as it counts its end too."""
        if published:
            return super().levels(count, published=True)
        scheduler = copy.deepcopy(self.pipe.scheduler)
        kind = type(scheduler)
        if not isinstance(scheduler, MiniMaxH3Scheduler) or changed_methods(scheduler, MiniMaxH3Scheduler):
            raise ValueError(f"{kind.__name__} does not go with MiniMax-H3: leave its MiniMaxH3Scheduler in place")
        if eta:
            raise ArgumentError("eta", eta, "MiniMaxH3Scheduler adds no noise: leave it out")
        if steps.get("timesteps") is not None:
            what = ("MiniMaxH3Scheduler takes no timesteps: give ", Setting("sigmas"), ", or leave them out")
            raise ArgumentError("timesteps", steps["timesteps"], *what)
        given = numbers_of("sigmas", steps.get("sigmas"))
        if given is None:
            scheduler.set_timesteps(count + 1)
        else:
            try:
                scheduler.set_timesteps(sigmas=[*given, 0.0] if given[-1] else list(given))
            except ValueError as error:
                raise ArgumentError("sigmas", given, f"MiniMaxH3Scheduler does not take them: {error}") from error
        if len(scheduler.timesteps) != count:
            if given is not None:
                raise StepCountError("sigmas", given, len(scheduler.timesteps), count)
            raise Spacing(count).not_distinct(scheduler)
        sigmas = scheduler.sigmas.double().cpu().flip(0)
        return NoiseLevels.flow(scheduler.timesteps.cpu().flip(0), sigmas[1:], sigmas[:-1])

    # ------------------------------------------------------------------ texts

    def condition(self, prompts: Sequence[str], **call: Any) -> WordsCondition:
        scale = call.get("guidance_scale", 1.0)
        if scale != 1:
            raise ArgumentError("guidance_scale", scale, "MiniMax-H3 is guided without a second pass: leave it out")
        if call.get("negative_prompt"):
            raise ArgumentError("negative_prompt", call["negative_prompt"], "MiniMax-H3 takes none: leave it out")
        with self.lock, torch.no_grad():
            self.follow()
            make_room(self.pipe)
            texts = [self._encoded(prompt) for prompt in prompts]
        arguments = {"attention_kwargs": call.get("attention_kwargs"), "return_dict": False}
        return side_by_side([WordsCondition(t[None], 1.0, arguments, {}, ((t.shape[1],),)) for t in texts])

    def _encoded(self, prompt: str) -> Tensor:
        """(1, tokens, D), as the pipeline's text step has it: the words alone, without a template."""
        from diffusers.modular_pipelines.minimax_h3.encoders import get_qwen3vl_prompt_embeds

        pipe = self.pipe
        words = pipe.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if not words:
            raise ValueError("the prompt is empty: MiniMax-H3 needs a text")
        return get_qwen3vl_prompt_embeds(
            pipe.text_encoder,
            _OnlyText(),
            words,
            text_encoder_layer=pipe.text_encoder_layer,
            device=self.device,
            dtype=pipe.text_encoder.dtype,
        )

    def unseen_words(self, text: str, call: Mapping[str, Any]) -> str:
        return ""  # a text may be of any length

    def mix(self, conditions: Sequence[WordsCondition], weight_WFP: Tensor) -> WordsCondition:  # type: ignore[override]
        return mean(conditions, weight_WFP)

    # ------------------------------------------------------------------ predictions

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: WordsCondition) -> Tensor:
        rows = len(latents_RCFHW)
        texts, lengths = condition.rows(rows), condition.lengths_of_rows(rows)
        outputs = [
            self._row(
                apart(latents_RCFHW[row : row + 1], self.stacked),
                timestep_RF[row],
                texts[row : row + 1, : lengths[row]],
                condition.arguments,
            )
            for row in range(rows)
        ]
        return together(torch.cat(outputs), self.stacked)

    def _row(self, latents_BCFHW: Tensor, timestep_F: Tensor, text: Tensor, arguments: dict[str, Any]) -> Tensor:
        """One video; latents apart, timesteps of groups."""
        pipe, (frames, height, width) = self.pipe, latents_BCFHW.shape[2:]
        tokens, patch = text.shape[1], tuple(pipe.transformer.config.patch_size)
        layout = {
            name: to_device(value, latents_BCFHW.device)
            for name, value in _layout(tokens, frames, height, width, patch, pipe.text_tag, self.stacked).items()
        }
        latents, levels = _patches(latents_BCFHW, patch), timestep_F.float()
        output = pipe.transformer(
            hidden_states=latents,
            audio_hidden_states=latents.new_zeros(1, 0, pipe.transformer.config.audio_in_channels),
            encoder_hidden_states=text,
            timestep=torch.cat([levels, levels.mean(0, keepdim=True)]),
            **layout,
            **arguments,
        )[0]
        if output.shape != latents.shape:
            self.checked(output, latents)
        return -_unpatched(output, frames, height, width, patch)

    # ------------------------------------------------------------------ frames

    def autoencoder_kind(self) -> Any:
        vae = self.pipe.vae
        return vae.config.latent_channels, vae.config.clip_length, vae.spatial_compression_ratio

    def decoder(self) -> MiniMaxH3Decoder:
        return MiniMaxH3Decoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        used = self.timing.frames(self.timing.whole_latents(len(frames_FHWC)))
        return encode(self.pipe.vae, frames_FHWC[-used:], self.device)

    def output(self, frames_BFCHW: Tensor, output_type: str) -> MiniMaxH3Output:
        if output_type == "latent":  # (B, 5 C, F, H, W) here
            return MiniMaxH3Output(frames=apart(frames_BFCHW, self.stacked))
        video = frames_BFCHW.transpose(1, 2)  # its processor is set up for pixels from 0 to 1
        return MiniMaxH3Output(frames=self.pipe.video_processor.postprocess_video(video, output_type=output_type))


class _OnlyText:
    """In place of the text encoder's processor, which is asked only where pictures are among the words."""

    def create_mm_token_type_ids(self, input_ids: list[list[int]]) -> list[list[int]]:
        return [[0] * len(words) for words in input_ids]


@lru_cache(maxsize=16)
def _layout(
    tokens: int, frames: int, height: int, width: int, patch: tuple[int, int, int], text_tag: int, group: int
) -> dict[str, Tensor]:
    """What the transformer is told of the rows of its sequence, text and then video without sound, by the pipeline's
    own layout step; and which of its timesteps each has: that of its group, the text the last one."""
    from diffusers.modular_pipelines.minimax_h3 import modular_pipeline as tags
    from diffusers.modular_pipelines.minimax_h3.before_denoise import MiniMaxH3PrepareLayoutStep

    text_tags = torch.full((tokens,), text_tag, dtype=torch.long)
    of_sound = {"audio_channels": tags.MINIMAX_H3_AUDIO_CHANNELS, "audio_tag": tags.MINIMAX_H3_AUDIO_TAG}
    built = MiniMaxH3PrepareLayoutStep.build_packed_sequence(
        text_tags, frames, height, width, 0, patch, video_tag=tags.MINIMAX_H3_VIDEO_TAG, **of_sound
    )
    names = ("position_ids", "token_tags", "video_indices", "audio_indices", "text_indices")
    layout = dict(zip(names, built, strict=False))
    layout["position_ids"] = layout["position_ids"].float()  # as the transformer makes them first
    rows = (height // patch[1]) * (width // patch[2])
    groups = torch.arange(frames).div(group, rounding_mode="floor").repeat_interleave(rows)
    text = torch.full((tokens,), frames // group, dtype=torch.long)
    return layout | {"timestep_indices": torch.cat([text, groups])}


def _patches(latents_BCFHW: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Latents of one video as rows of the sequence, (1, S, D)."""
    from diffusers.modular_pipelines.minimax_h3.before_denoise import patchify_video_latents

    return patchify_video_latents(latents_BCFHW, patch)[None]


def _unpatched(rows_BSD: Tensor, frames: int, height: int, width: int, patch: tuple[int, int, int]) -> Tensor:
    """Back from `_patches`."""
    _, high, wide = patch
    grid = rows_BSD.reshape(len(rows_BSD), frames, height // high, width // wide, -1, high, wide)
    return grid.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
