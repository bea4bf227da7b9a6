"""Tiny random pipelines of MiniMax-H3."""

from typing import Any

from diffusers import (
    AutoencoderKLMiniMaxH3,
    MiniMaxH3ModularPipeline,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
)
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from fifo_diffusion.testing import tiny

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "hidden_size": 24,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "ffn_dim": 32,
    "in_channels": 4,
    "audio_in_channels": 32,
    "text_dim": 16,
    "freq_dim": 32,
    "time_embed_hidden_dim": 32,
    "time_embed_dim": 16,
    "rope_freq_dim": 2,
}
VAE = {
    "latent_channels": 4,
    "block_out_channels": (8, 8),
    "layers_per_block": 1,
    "spatial_downsample_factors": (2, 2),
    "temporal_downsample_factors": (2, 2),
    "norm_num_groups": 4,
    "decoder_num_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_attention_head_dim": 8,
    "decoder_num_register_tokens": 2,
    "decoder_ffn_mult": 2,
    "latents_mean": (0.1, -0.2, 0.3, 0.0),
    "latents_std": (1.0, 2.0, 1.5, 0.7),
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 51,  # the pipeline reads the output of the fiftieth
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 64,
    "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]},
}
VISION = {
    "depth": 1,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_heads": 1,
    "out_hidden_size": 16,
    "num_position_embeddings": 4,
    "deepstack_visual_indexes": [0],
}
FEW = {"window": 2, "num_partitions": 2, "height": 16, "width": 16}


class TextProcessor:
    """Of the published one's methods that which texts need; that one itself needs torchvision."""

    def create_mm_token_type_ids(self, input_ids: list[list[int]]) -> list[list[int]]:
        return [[0] * len(words) for words in input_ids]


def vae(**changes: Any) -> AutoencoderKLMiniMaxH3:
    return tiny.randomize(AutoencoderKLMiniMaxH3(**VAE | changes), 1)


def pipeline(vae_changes: dict[str, Any] | None = None, **changes: Any) -> MiniMaxH3ModularPipeline:
    """16x16 pixels, latents of 4 channels at 4x4; `changes` are the transformer's. Without what is for sound."""
    text = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=TEXT, vision_config=VISION))
    pipe = MiniMaxH3ModularPipeline(workflow="t2va")
    pipe.update_components(
        text_encoder=tiny.randomize(text, 2),
        tokenizer=tiny.tokenizer(),
        processor=TextProcessor(),
        transformer=tiny.randomize(MiniMaxH3Transformer3DModel(**TRANSFORMER | changes), 3),
        vae=vae(**vae_changes or {}),
        scheduler=MiniMaxH3Scheduler(),
        audio_scheduler=MiniMaxH3Scheduler(shift=3.0),
    )
    return pipe
