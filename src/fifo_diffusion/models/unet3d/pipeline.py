"""Small text-to-video pipelines of our own for the `UNet3DConditionModel` family.

diffusers has put its `TextToVideoSDPipeline` (ModelScope, zeroscope, toybox) among the deprecated ones.
`TextToVideoPipeline` loads the same folders, takes the same main arguments and gives the same frames, so that the
family outlives the class. `VideoCrafterPipeline` is the same for VideoCrafter, which never had a class in diffusers.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet3DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fifo_diffusion.decoding.frames import pixels_per_latent
from fifo_diffusion.errors import ArgumentError


@dataclass
class TextToVideoOutput(BaseOutput):
    """`frames`: as asked by `output_type`; one entry per video."""

    frames: Any


class TextToVideoPipeline(DiffusionPipeline, TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin):
    """Text to a short clip with a 3D U-Net; see `__call__`."""

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.vae_scale_factor = pixels_per_latent(vae)
        self.video_processor = VideoProcessor(do_resize=False, vae_scale_factor=self.vae_scale_factor)

    def encode_text(self, texts: list[str], clip_skip: int | None = None) -> Tensor:
        """Texts to embeddings (B, tokens, D), padded and cut to the tokenizer's length."""
        texts = [self.maybe_convert_prompt(text, self.tokenizer) for text in texts]
        ids, mask = (tokens.to(self._execution_device) for tokens in self.tokenize(texts))
        if not getattr(self.text_encoder.config, "use_attention_mask", False):
            mask = None
        if clip_skip is None:
            return self.text_encoder(ids, attention_mask=mask).last_hidden_state
        hidden = self.text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        tower = getattr(self.text_encoder, "text_model", self.text_encoder)  # gone in transformers 5
        return tower.final_layer_norm(hidden[-(clip_skip + 1)])

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids (B, tokens), padded and cut to the tokenizer's length, and a mask that is 0 on padding."""
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return tokens.input_ids, tokens.attention_mask

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int = 16,
        num_inference_steps: int = 50,
        guidance_scale: float = 9.0,
        negative_prompt: str | list[str] | None = None,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        fps_condition: float | None = None,
        motion_scale: float | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
    ) -> TextToVideoOutput | tuple[Any]:
        """One short clip per prompt.

        Args:
            prompt: one text or several; or give `prompt_embeds` (B, tokens, D).
            height, width: pixels, multiples of 8; default: the U-Net's own size.
            num_frames: frames of the clip.
            num_inference_steps: denoising steps.
            guidance_scale: classifier-free guidance above 1; where the model is told the scale, in one pass.
            fps_condition: the frame-rate conditioning, where the model takes one.
            motion_scale: of motion guidance, where the model is told one (T2V-Turbo-v2); default: 0.
            output_type: "np", "pt", "pil" or "latent".

        Raises:
            ValueError: no prompt, a size that is not a multiple of 8, or a frame rate or a scale of motion guidance for
                a model that takes none.
        """
        size = self.unet.config.sample_size or 32
        own_height, own_width = (size, size) if isinstance(size, int) else size
        height, width = height or own_height * self.vae_scale_factor, width or own_width * self.vae_scale_factor
        if height % 8 or width % 8:
            raise ValueError(f"height and width must be multiples of 8, not {height} and {width}")
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        device, guided = self._execution_device, guidance_scale > 1 and not self.told_guidance
        told = self.told_arguments(fps_condition, guidance_scale, motion_scale)
        if prompt_embeds is None:
            prompts = [prompt] if isinstance(prompt, str) else list(prompt or [])
            prompt_embeds = self.encode_text(prompts, clip_skip)
        count = len(prompt_embeds)
        if guided and negative_prompt_embeds is None:
            negative = negative_prompt or ""
            negatives = [negative] * count if isinstance(negative, str) else list(negative)
            if len(negatives) != count:
                raise ValueError(f"{len(negatives)} negative prompts for {count} prompts: give one, or one for each")
            negative_prompt_embeds = self.encode_text(negatives)
        text = torch.cat([negative_prompt_embeds, prompt_embeds]) if guided else prompt_embeds
        text = text.to(device, self.unet.dtype)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        shape = (count, self.unet.config.in_channels, num_frames)
        shape += (height // self.vae_scale_factor, width // self.vae_scale_factor)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=text.dtype)
        latents = latents.to(device) * self.scheduler.init_noise_sigma
        extra = self._step_arguments(eta, generator)
        for index, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            inputs = self.scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            prediction = self.unet(
                inputs,
                t,
                encoder_hidden_states=text,
                cross_attention_kwargs=cross_attention_kwargs,
                return_dict=False,
                **told,
            )[0]
            if guided:
                without, with_text = prediction.chunk(2)
                prediction = without + guidance_scale * (with_text - without)
            # Frames join the batch, as in diffusers' pipeline: schedulers that draw noise then draw the same.
            flat = [x.transpose(1, 2).flatten(0, 1) for x in (prediction, latents)]
            stepped = self.scheduler.step(flat[0], t, flat[1], **extra).prev_sample
            latents = stepped.unflatten(0, (count, num_frames)).transpose(1, 2)
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, t, {"latents": latents}).get("latents", latents)
        frames = latents if output_type == "latent" else self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return TextToVideoOutput(frames=frames) if return_dict else (frames,)

    def decode(self, latents_BCFHW: Tensor, output_type: str) -> Any:
        """Latents to frames in the wanted form, frame by frame."""
        z = (latents_BCFHW / self.vae.config.scaling_factor).to(self.vae.dtype)
        video = torch.stack([self.vae.decode(frame, return_dict=False)[0].float() for frame in z.unbind(2)], 2)
        return self.video_processor.postprocess_video(video, output_type=output_type)

    told_guidance = False
    """Whether the U-Net is told the scale of guidance, instead of being guided by a second pass."""

    def told_arguments(
        self, fps_condition: float | None = None, guidance_scale: float = 1.0, motion_scale: float | None = None
    ) -> dict[str, Any]:
        """What the U-Net is given beside latents, timestep and text.

        Raises:
            ValueError: it takes no frame rate, or no scale of motion guidance.
        """
        what = f"{type(self).__name__} takes no"
        if fps_condition is not None:
            raise ArgumentError("fps_condition", fps_condition, f"{what} frame rate: leave it out")
        if motion_scale is not None:
            raise ArgumentError("motion_scale", motion_scale, f"{what} scale of motion guidance: leave it out")
        return {}

    def _step_arguments(self, eta: float, generator: Any) -> dict[str, Any]:
        accepted = inspect.signature(self.scheduler.step).parameters
        return {k: v for k, v in (("eta", eta), ("generator", generator)) if k in accepted}


class VideoCrafterPipeline(TextToVideoPipeline):
    """VideoCrafter2, VideoCrafter1 and T2V-Turbo, text to video.

    Args:
        vae, text_encoder, tokenizer, unet, scheduler: from an original checkpoint or a converted folder.
        fps_condition: the frame-rate conditioning where a call gives none; None where the model takes none.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: Any,
        fps_condition: float | None = None,
    ) -> None:
        super().__init__(vae, text_encoder, tokenizer, unet, scheduler)
        self.register_to_config(fps_condition=fps_condition)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """As in the base class, but padded with id 0, as the text tower was trained.

        The tokenizer cannot be told so: id 0 is an exclamation mark, and would be taken for padding in a prompt too.
        """
        ids, mask = super().tokenize(texts)
        return ids.masked_fill(mask == 0, 0), mask

    @property
    def told_guidance(self) -> bool:  # type: ignore[override]
        return self.unet.config.get("time_cond_proj_dim") is not None

    def told_arguments(
        self, fps_condition: float | None = None, guidance_scale: float = 1.0, motion_scale: float | None = None
    ) -> dict[str, Any]:
        if not hasattr(self.unet, "fps_embedding"):
            return super().told_arguments(fps_condition, guidance_scale, motion_scale)
        fps = self.config.fps_condition if fps_condition is None else fps_condition
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not fps > 0:
            raise ArgumentError("fps_condition", fps, "give a number above 0")
        told = [float(fps)] + [float(guidance_scale)] * self.told_guidance
        if self.unet.config.get("motion_cond_proj_dim") is not None:
            told.append(float(motion_scale or 0.0))
        elif motion_scale is not None:
            super().told_arguments(motion_scale=motion_scale)
        condition = torch.tensor([told], device=self._execution_device)
        return {"timestep_cond": condition if self.told_guidance else condition[0]}
