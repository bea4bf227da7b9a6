"""Tiny random pipelines of LTX-2."""

from typing import TYPE_CHECKING, Any

from diffusers import (
    AutoencoderKLLTX2Audio,
    FlowMatchEulerDiscreteScheduler,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

from fifo_diffusion.testing import tiny, tiny_ltx
from fifo_diffusion.testing.tiny_sana_video import ltx2_vae

if TYPE_CHECKING:
    from diffusers import LTX2Pipeline

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "vae_scale_factors": (2, 8, 8),
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 8,
    "num_layers": 2,
    "caption_channels": 16,
    "rope_double_precision": False,
}
CONNECTORS = {
    "caption_channels": 16,
    "text_proj_in_factor": 2,
    "video_connector_num_attention_heads": 2,
    "video_connector_attention_head_dim": 8,
    "video_connector_num_layers": 1,
    "video_connector_num_learnable_registers": None,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
    "audio_connector_num_layers": 1,
    "audio_connector_num_learnable_registers": None,
    "connector_rope_base_seq_len": 32,
    "rope_double_precision": False,
}
LATER = {"cross_attn_mod": True, "audio_cross_attn_mod": True, "gated_attn": True, "audio_gated_attn": True}
"""Changes of the transformer in the manner of version 2.3: the text is modulated too."""
AUDIO_VAE = {
    "base_channels": 4,
    "output_channels": 2,
    "ch_mult": (1,),
    "num_res_blocks": 1,
    "in_channels": 2,
    "resolution": 32,
    "latent_channels": 2,
    "mel_bins": 8,
}
VOCODER = {
    "in_channels": 16,
    "hidden_channels": 8,
    "upsample_kernel_sizes": [4, 4],
    "upsample_factors": [2, 2],
    "resnet_kernel_sizes": [3],
    "resnet_dilations": [[1, 3, 5]],
    "output_sampling_rate": 16000,
}


def pipeline(vae_changes: dict[str, Any] | None = None, **changes: Any) -> "LTX2Pipeline":
    """32x32 pixels, latents of 4 channels at 4x4, two frames each; `changes` are the transformer's."""
    pipe = tiny.pipeline_class("LTX2Pipeline")(
        scheduler=FlowMatchEulerDiscreteScheduler(**tiny_ltx.SCHEDULER),
        vae=ltx2_vae(**vae_changes or {}),
        audio_vae=tiny.randomize(AutoencoderKLLTX2Audio(**AUDIO_VAE), 4),
        text_encoder=tiny.gemma(),
        tokenizer=tiny.tokenizer(),
        connectors=tiny.randomize(LTX2TextConnectors(**CONNECTORS), 5),
        transformer=tiny.randomize(LTX2VideoTransformer3DModel(**TRANSFORMER | changes), 3),
        vocoder=tiny.randomize(LTX2Vocoder(**VOCODER), 6),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
