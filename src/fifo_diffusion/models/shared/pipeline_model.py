"""The one base of all families around a diffusers pipeline, U-Nets and transformers alike.

Tensor names end in their axes: G passes (2 with guidance), B videos, R rows (passes x windows x videos), F latent
frames.
"""

import inspect
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fifo_diffusion.decoding.frames import FrameDecoder, encode_frames, pixels_per_latent
from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.method import Guidance, NoiseLevels, to_device
from fifo_diffusion.models.shared.capture import capture
from fifo_diffusion.models.shared.conditions import TextCondition, mixed
from fifo_diffusion.models.shared.few_steps import is_marked, marked_sigmas
from fifo_diffusion.models.shared.fingerprint import surroundings
from fifo_diffusion.models.shared.modular import guidance_of
from fifo_diffusion.models.shared.modules import dtype_of, text_tokenizer
from fifo_diffusion.models.shared.offload import make_room, text_encoders
from fifo_diffusion.models.shared.pipeline_calls import call_arguments, latent_size, output_class
from fifo_diffusion.models.shared.scheduler_choice import by_size
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.models.shared.step_rules import has_few_steps
from fifo_diffusion.models.shared.texts import Prompt, unseen
from fifo_diffusion.models.shared.wrapped_pipeline import WrappedPipeline

logger = logging.getLogger(__name__)


class PipelineModel(WrappedPipeline):
    """A loaded text-to-video pipeline whose denoiser predicts from `TextCondition`s.

    What a family must say: `family`, how its denoiser is called (`denoise`), and how it gets one timestep per frame
    (`install_hooks`, unless it takes them by itself). What it may say: the names of its denoiser's arguments, its
    sizes (`usual`), and how its autoencoder treats time (`timing`, `decoder`, `encode`).

    Args:
        pipe: loaded pipeline; used as it is (device, precision, offloading, LoRA, attention backend), and never changed
            but for inert hooks.
        frames: f in latents, where the checkpoint is known; None: `usual_frames`.
        defaults: of the checkpoint, where it is known; they go before `usual`.

    Raises:
        ValueError: a denoiser or autoencoder that FIFO cannot use, or more frames than the denoiser has places for.
    """

    flow: bool | None = None
    """Whether the model was trained by flow matching; None: not known. Says which schedulers go with it."""
    latent_argument = "hidden_states"
    time_argument = "timestep"
    text_argument = "encoder_hidden_states"
    row_arguments: tuple[str, ...] = ()
    """Further arguments of which every row of latents has its own: masks of texts, pooled texts."""
    unguided_first = True
    """Order of the passes in the pipeline: without the prompt first, or with it first."""
    one_call = False
    """Whether the first call of the denoiser says all: where it returns more than latents, or is called for more."""
    no_effect: tuple[str, ...] = ()
    """Arguments of the pipeline's call that act where FIFO has taken over: refused."""

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.pipe = pipe
        self.frames = frames or self.usual_frames()
        if self.most_frames is not None and self.frames > self.most_frames:
            raise ValueError(
                f"{self.frames} frames: this {type(self.denoiser).__name__} has places for {self.most_frames}"
            )
        self.defaults = {"eta": 0.0} | self.usual() | (defaults or {})
        self.set_up()

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the checkpoint; the weight of guidance is that of the guider, where the pipeline has one."""
        return self._defaults | guidance_of(self.pipe)

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self._defaults = defaults

    def usual_frames(self) -> int:
        """f of a checkpoint that is not known, in latents: as many as the pipeline samples by default."""
        return self.timing.latents(call_arguments(self.pipe)["num_frames"])

    def usual(self) -> dict[str, Any]:
        """guidance_scale, height, width and fps of a checkpoint that is not known: as in the pipeline's own call."""
        call = call_arguments(self.pipe)
        return {name: call[name] for name in ("guidance_scale", "height", "width")} | {"fps": 16}

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side."""
        spatial = getattr(self.pipe, "vae_scale_factor_spatial", None)
        return pixels_per_latent(self.pipe.vae) if spatial is None else spatial

    @property
    def size_multiple(self) -> int:
        """What height and width must be multiples of: one patch of the denoiser."""
        patch = self.denoiser.config.get("patch_size", 1)
        return self.factor * (patch if isinstance(patch, int) else patch[-1])

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W); height and width must be multiples of `size_multiple`."""
        channels = self.stacked * self.denoiser.config.in_channels - self.told_channels
        return channels, *latent_size(height, width, self.size_multiple, self.factor)

    @property
    def few_steps(self) -> bool:  # type: ignore[override]
        return has_few_steps(self.pipe.scheduler) or is_marked(self.pipe)

    @property
    def few_step_sigmas(self) -> tuple[float, ...] | None:  # type: ignore[override]
        return marked_sigmas(self.pipe)

    @property
    def told_guidance(self) -> bool:  # type: ignore[override]
        config = self.denoiser.config
        return bool(config.get("time_cond_proj_dim") or config.get("guidance_embeds"))

    # ------------------------------------------------------------------ conditions

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        scale = call.get("guidance_scale", self.defaults["guidance_scale"])
        text, arguments = self.recorded(prompts, **{"guidance_scale": scale, **call})
        of_rows = {name: arguments.pop(name) for name in self.row_arguments if arguments.get(name) is not None}
        return TextCondition(text, scale, arguments, of_rows)

    def recorded(self, prompts: Sequence[Any], **call: Any) -> tuple[Tensor, dict[str, Any]]:
        """What the pipeline gives its denoiser in its first step: text (G, B, tokens, D), without the prompt first, and
        all other arguments but latents and timesteps; `row_arguments` as the text, (G, B, ...). Guidance may be one
        batched call or two.

        Raises:
            ValueError: an argument that would have no effect.
            RuntimeError: the pipeline called its denoiser in a way that is not known here.
        """
        for name in self.no_effect:
            if hasattr(value := call.get(name), "shape") or value:
                raise ValueError(f"{name} would have no effect here: leave it out")
        call |= {"prompt": list(prompts), "output_type": "latent"} | self.clip_length()
        calls = self.captured(**call)
        count = len(prompts)
        rows = sum(len(record[self.latent_argument]) for record in calls)
        if rows not in (count, 2 * count):
            raise RuntimeError(
                f"{type(self.pipe).__name__} gave its {type(self.denoiser).__name__} {rows} rows for {count} prompts"
            )

        def of_rows(name: str) -> Tensor:
            """One row per video, or as many alike as it has frames."""
            values = torch.cat([record[name] for record in (calls if self.unguided_first else calls[::-1])])
            return values.unflatten(0, (rows // count, count, -1))[:, :, 0].contiguous()

        arguments = {k: v for k, v in calls[0].items() if k not in (self.latent_argument, self.time_argument)}
        each = {k: of_rows(k) for k in self.row_arguments if arguments.get(k) is not None}
        del arguments[self.text_argument]
        return of_rows(self.text_argument), arguments | each | {"return_dict": False}

    def clip_length(self) -> dict[str, int]:
        """The length of the clip that is captured, as the pipeline's call names it."""
        return {"num_frames": self.timing.frames(self.frames)}

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        """The calls of the denoisers, as named arguments, that the pipeline would make in its first step; see
        `capture`."""
        with self.lock:
            self.follow()
            make_room(self.pipe)
            return capture(self.pipe, *self.denoisers.values(), first_only=self.one_call, **call).calls

    def mix(self, conditions: Sequence[TextCondition], weight_WFP: Tensor) -> TextCondition:
        return replace(conditions[0], text=mixed([c.text for c in conditions], weight_WFP))

    def passes(self, condition: TextCondition) -> Sequence[TextCondition]:
        return condition.halves()

    def guided_by(self, condition: TextCondition, rule: Guidance) -> TextCondition:
        return replace(condition, rule=rule)

    # ------------------------------------------------------------------ predictions

    @torch.no_grad()
    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any) -> Tensor:
        with self.working(latents_BCFHW, condition):
            return self.prediction(latents_BCFHW, timestep_BF, condition)

    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any) -> Tensor:
        """`predict`, within `working`: the passes in one batch or one after the other, then guidance."""
        latents, passes = latents_BCFHW.to(dtype_of(self.denoiser)), condition.passes
        timestep = to_device(timestep_BF, latents.device)
        if self.passes_together(latents):
            rows = latents.repeat(passes, 1, 1, 1, 1), timestep.repeat(passes, 1)
            outputs = self._pass(*rows, condition).split(len(latents))
        else:
            outputs = [self._pass(latents, timestep, half) for half in self.passes(condition)]
        return self.guided(outputs, timestep, condition)

    def passes_together(self, latents_BCFHW: Tensor) -> bool:
        """Whether the CFG passes are one batch. Unless a family says otherwise they come one after the other,
        which takes half the memory."""
        return False

    def _pass(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: Any) -> Tensor:
        return self.checked(self.denoise(latents_RCFHW, timestep_RF, condition), latents_RCFHW).float()

    @abstractmethod
    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: Any) -> Tensor:
        """One call of the denoiser, of the latents' shape.

        Args:
            latents_RCFHW: in the denoiser's precision; R rows are passes x windows x videos, in this order.
            timestep_RF: on their device.
            condition: of these passes; `condition.rows(R)` are its texts, one for each row.
        """

    def guided(self, outputs: Sequence[Tensor], timestep_BF: Tensor, condition: TextCondition) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        without, with_text = outputs
        weight = self.guidance(condition, timestep_BF.to(without.device))
        if condition.rule is not None:
            return condition.rule.combined(without, with_text, weight, timestep_BF)
        return without + weight * (with_text - without)

    def guidance(self, condition: TextCondition, timestep_BF: Tensor) -> float | Tensor:
        """Weight of classifier-free guidance, where it is not one number also (B, 1, F, 1, 1)."""
        return condition.guidance_scale

    def checked(self, output: Tensor, latents: Tensor) -> Tensor:
        """The output, if it has the latents' shape: some models take a wrong timestep silently.

        Raises:
            RuntimeError: it has another.
        """
        if output.shape == latents.shape:
            return output
        raise RuntimeError(
            f"{type(self.denoiser).__name__} returned {tuple(output.shape)} for latents {tuple(latents.shape)}: it "
            "does not take one timestep per frame"
        )

    # ------------------------------------------------------------------ texts

    def check_prompt(self, prompt: Prompt, call: Mapping[str, Any]) -> None:
        names, encoders = self.call_arguments() or {}, text_encoders(self.pipe)
        guided = call.get("guidance_scale", 0) > 1
        if isinstance(prompt, str):
            if not encoders:
                raise ValueError("this pipeline has no text encoder: give prompt_embeds= instead of a text")
            return
        if "prompt_embeds" not in names:
            super().check_prompt(prompt, call)
        for name in prompt.shapes():
            if name not in names:
                raise ValueError(f"this pipeline's call does not take {name}: leave it out")
        pooled = "pooled_prompt_embeds"
        if pooled in names and pooled not in prompt.tensors:
            raise ValueError(f"{pooled} belongs to prompt_embeds with this pipeline: give it too")
        mask = "prompt_attention_mask"
        if mask in names and call.get(mask) is None:
            raise ValueError(f"{mask} belongs to prompt_embeds with this pipeline: give it too")
        negatives = call.get("negative_prompt") or [""]
        if guided and not encoders and prompt.negative is None and isinstance(negatives[0], str):
            what = "this pipeline has no text encoder: give negative_prompt_embeds= too, or "
            raise ValueError(Message(what, Setting("guidance_scale", 1)))

    text_tokens: int | None = None
    """How many tokens of a text the pipeline looks at; None: as its call says, or its tokenizers."""

    def unseen_words(self, text: str, call: Mapping[str, Any]) -> str:
        name, found = "max_sequence_length", ""
        of_call = call.get(name) or (self.call_arguments() or {}).get(name)
        for part in ("", "_2", "_3"):
            tokenizer = getattr(self.pipe, f"tokenizer{part}", None)
            if tokenizer is None or getattr(self.pipe, f"text_encoder{part}", None) is None:
                continue
            tokenizer = text_tokenizer(tokenizer)
            convert = getattr(self.pipe, "maybe_convert_prompt", None)  # a word may stand for several tokens
            whole = text if convert is None else convert(text, tokenizer)
            most = self.text_tokens or of_call or tokenizer.model_max_length
            found = max(found, unseen(tokenizer, whole, most), key=len)
        return found

    def call_arguments(self) -> Mapping[str, Any] | None:
        return call_arguments(self.pipe)

    def spacing(self, count: int, size: tuple[int, int, int]) -> dict[str, Any]:
        """What the pipeline gives its scheduler beside the number of steps: `sigmas` in descending order, `mu`.
        Nothing, unless a family says otherwise.

        Args:
            size: (latent frames, height, width) of a window; height and width in pixels.
        """
        return {}

    def scheduler_of_levels(self) -> Any:
        """What the noise levels are read from: the pipeline's scheduler, unless a family says otherwise."""
        return self.pipe.scheduler

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False, **steps: Any
    ) -> NoiseLevels:
        if published:
            known = "(only for VideoCrafter and Open-Sora Plan): leave it out"
            raise ArgumentError("compat", "published", f"there is no published FIFO code for {self.family} {known}")
        size = steps.pop("size", None) or (self.frames, self.defaults["height"], self.defaults["width"])
        scheduler = by_size(self.pipe, self.scheduler_of_levels(), *size[1:])
        taken = inspect.signature(scheduler.set_timesteps).parameters if hasattr(scheduler, "set_timesteps") else ()
        spacing = self.spacing(count, size)
        own = {name: value for name, value in spacing.items() if name in taken}
        config = getattr(scheduler, "config", None)
        dynamic = isinstance(config, Mapping) and config.get("use_dynamic_shifting")
        if not dynamic and not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            own.pop("mu", None)  # others refuse it
        if "sigmas" in spacing.keys() - own.keys() - steps.keys() and not self._told_of_spacing:
            self._told_of_spacing = True
            kind = type(scheduler).__name__
            logger.warning("%s has a spacing of its own, which is not that of %s", kind, type(self.pipe).__name__)
        if steps:
            own.pop("sigmas", None)
        exact = scheduler_exact and not own  # about the scheduler's own spacing
        return read_levels(scheduler, count, eta=eta, scheduler_exact=exact, flow=self.flow, **own | steps)

    # ------------------------------------------------------------------ frames

    def decoder(self) -> Any:
        """Of an autoencoder of single images, unless a family says otherwise."""
        return FrameDecoder(self.pipe.vae)

    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        return encode_frames(self.pipe.vae, frames_FHWC, self.device)

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        result = output_class(self.pipe)
        if output_type == "latent":
            return result(frames=frames_BFCHW)
        video = frames_BFCHW.transpose(1, 2) * 2 - 1
        return result(frames=self.pipe.video_processor.postprocess_video(video, output_type=output_type))

    def parts(self) -> dict[str, Any]:
        parts = {name: getattr(denoiser, "_orig_mod", denoiser) for name, denoiser in self.denoisers.items()}
        parts |= {
            "vae": self.pipe.vae,
            "scheduler": self.pipe.scheduler,
            "text": getattr(self.pipe, "text_encoder", None),
        }
        return {name: part for name, part in parts.items() if part is not None}

    def around(self, texts: Sequence[str]) -> dict[str, Any]:
        return surroundings(self.pipe, texts)
