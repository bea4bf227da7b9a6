"""A pipeline for Open-Sora Plan v1.1.0, which has none in diffusers: Latte's, with its own text length and decoding."""

from typing import Any

import torch
from diffusers import DiffusionPipeline, LattePipeline
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from fifo_diffusion.models.opensora.model import LATENT_SCALE, TEXT_TOKENS
from fifo_diffusion.models.opensora.transformer import OpenSoraPlanTransformer
from fifo_diffusion.models.opensora.vae import CausalVideoAutoencoder


class OpenSoraPlanPipeline(LattePipeline):
    """Text to a clip of 65 or 221 frames; called as `LattePipeline`. `video_length` counts latents, 17 or 56.

    Large clips are decoded in tiles, as in the publishers' own scripts; `vae.disable_tiling()` for whole ones.

    Args:
        tokenizer, text_encoder: T5 v1.1 XXL.
        vae, transformer, scheduler: see `opensora_checkpoint.load_opensora`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        text_encoder: T5EncoderModel | None,
        vae: CausalVideoAutoencoder,
        transformer: OpenSoraPlanTransformer,
        scheduler: Any,
    ) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        vae.enable_tiling()
        self.vae_scale_factor = vae.spatial_factor
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor)

    def encode_prompt(
        self,
        prompt: str | list[str] | None,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] = "",
        num_images_per_prompt: int = 1,
        device: torch.device | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        clean_caption: bool = False,
        mask_feature: bool = True,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, tokens, D) with the prompt and without. With `mask_feature` they end where the prompt ends;
        of several prompts, where the longest does, and the others are zero from their end on."""
        device = device or self._execution_device
        if prompt_embeds is None:
            texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
            prompt_embeds, mask_BL = self._encode_texts(texts, clean_caption, device)
            if mask_feature:
                prompt_embeds = (prompt_embeds * mask_BL[..., None])[:, : int(mask_BL.sum(1).max())]
        prompt_embeds = prompt_embeds.repeat_interleave(num_images_per_prompt, 0)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            count = len(prompt_embeds)
            negatives = [negative_prompt] * count if isinstance(negative_prompt, str) else list(negative_prompt)
            negative_prompt_embeds, _ = self._encode_texts(negatives, clean_caption, device)
            negative_prompt_embeds = negative_prompt_embeds[:, : prompt_embeds.shape[1]]
        return prompt_embeds, negative_prompt_embeds if do_classifier_free_guidance else None

    def _encode_texts(self, texts: list[str], clean: bool, device: torch.device) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) of padded texts, and a mask (B, L) that is 0 on padding."""
        texts = self._text_preprocessing(texts, clean_caption=clean)
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
        ).to(device)
        embeddings = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return embeddings, tokens.attention_mask.to(embeddings.dtype)

    def prepare_latents(
        self, batch_size: int, num_channels_latents: int, num_frames: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Noise for a clip of latents.

        Raises:
            ValueError: a clip that the transformer cannot make.
        """
        places = self.transformer.config.video_length
        if num_frames not in (1, places):
            frames = 1 + (places - 1) * self.vae.temporal_factor
            raise ValueError(
                f"video_length={num_frames}: this version makes clips of {places} latents ({frames} frames), or of 1: "
                f"use video_length={places}"
            )
        return super().prepare_latents(batch_size, num_channels_latents, num_frames, *args, **kwargs)

    def decode_latents(self, latents: Tensor, video_length: int, decode_chunk_size: int = 14) -> Tensor:
        """Latents (B, C, k + 1, h, w) to pixels (B, 3, 4 k + 1, 8 h, 8 w) around -1 to 1: the whole clip at once, or in
        tiles after `vae.enable_tiling()`. The other arguments are Latte's and mean nothing here."""
        return self.vae.decode((latents / LATENT_SCALE).to(self.vae.dtype)).float()
