"""A small text-to-video pipeline of our own for the `UNet3DConditionModel` family (ModelScope, zeroscope, toybox).

diffusers has put its `TextToVideoSDPipeline` among the deprecated ones. This one loads the same folders, takes the same
main arguments and gives the same frames, so that the family outlives the class.
"""

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


@dataclass
class TextToVideoOutput(BaseOutput):
    """`frames`: as asked by `output_type`; one entry per video."""

    frames: Any


class TextToVideoPipeline(DiffusionPipeline, TextualInversionLoaderMixin, StableDiffusionLoraLoaderMixin):
    """Text to a short clip with a 3D U-Net; see `__call__`."""

    model_cpu_offload_seq = "text_encoder->unet->vae"

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
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.video_processor = VideoProcessor(do_resize=False, vae_scale_factor=self.vae_scale_factor)

    def encode_text(self, texts: list[str], clip_skip: int | None = None) -> Tensor:
        """Texts to embeddings (B, tokens, D), padded and cut to the tokenizer's length."""
        texts = [self.maybe_convert_prompt(text, self.tokenizer) for text in texts]
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        use_mask = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self._execution_device) if use_mask else None
        ids = tokens.input_ids.to(self._execution_device)
        if clip_skip is None:
            return self.text_encoder(ids, attention_mask=mask).last_hidden_state
        hidden = self.text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        tower = getattr(self.text_encoder, "text_model", self.text_encoder)  # gone in transformers 5
        return tower.final_layer_norm(hidden[-(clip_skip + 1)])

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
        callback_on_step_end: Callable[..., Any] | None = None,
    ) -> TextToVideoOutput | tuple[Any]:
        """One short clip per prompt.

        Args:
            prompt: one text or several; or give `prompt_embeds` (B, tokens, D).
            height, width: pixels, multiples of 8; default: the U-Net's own size.
            num_frames: frames of the clip.
            num_inference_steps: denoising steps.
            guidance_scale: classifier-free guidance above 1.
            output_type: "np", "pt", "pil" or "latent".

        Raises:
            ValueError: no prompt, or a size that is not a multiple of 8.
        """
        height = height or self.unet.config.sample_size * self.vae_scale_factor
        width = width or self.unet.config.sample_size * self.vae_scale_factor
        if height % 8 or width % 8:
            raise ValueError(f"height and width must be multiples of 8, not {height} and {width}")
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        device, guided = self._execution_device, guidance_scale > 1
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

    def _step_arguments(self, eta: float, generator: Any) -> dict[str, Any]:
        import inspect

        accepted = inspect.signature(self.scheduler.step).parameters
        return {k: v for k, v in (("eta", eta), ("generator", generator)) if k in accepted}
