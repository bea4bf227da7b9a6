"""LTX-2 (2.0, 2.3, 2.5), text to video, without its sound."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from fifo_diffusion.models.ltx.decoder import denormalized
from fifo_diffusion.models.ltx.model import LTXModel
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.pipeline_calls import output_class


class LTX2Model(LTXModel):
    """`LTX2Pipeline`. Its transformer makes picture and sound together, each looking at the other. Here it is told to
    keep them apart (`isolate_modalities`, which its own pipeline does for one of its kinds of guidance), and the sound
    is one silent token, so that what it predicts of the picture does not depend on it. Guidance is that of the text
    alone.

    Args, Raises: as in `LTXModel`.
    """

    family = "LTX-2"
    text_width = None
    one_call = True
    usual_rate = 24  # as in its call, and its example of Lightricks/LTX-2 (diffusers, pipeline_ltx2.py)
    no_effect = (
        *("stg_scale", "modality_scale", "guidance_rescale", "audio_guidance_scale", "audio_stg_scale"),
        *("audio_modality_scale", "audio_guidance_rescale", "audio_latents", "noise_scale", "decode_timestep"),
        *("decode_noise_scale", "spatio_temporal_guidance_blocks", "use_cross_timestep", "enable_prompt_enhancement"),
        *("system_prompt", "prompt_max_new_tokens", "prompt_enhancement_kwargs", "prompt_enhancement_seed"),
    )

    def usual_frames(self) -> int:
        return self.timing.latents(121)  # of versions that do not choose a length by the text

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        plain = super().condition(prompts, **call)
        arguments = dict(plain.arguments)
        for name in ("video_coords", "audio_coords", "sigma", "audio_encoder_attention_mask"):
            arguments.pop(name, None)
        for name in ("audio_hidden_states", "audio_encoder_hidden_states"):
            arguments[name] = arguments[name].new_zeros(1, 1, arguments[name].shape[-1])
        return replace(plain, arguments=arguments | {"audio_num_frames": 1, "isolate_modalities": True})

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        """Where the text is modulated too (2.3) it has the mean level of the window."""
        rows, level_R = len(latents_RCFHW), timestep_RF.float().mean(1)
        each = {
            name: condition.arguments[name].expand(rows, -1, -1)
            for name in ("audio_hidden_states", "audio_encoder_hidden_states")
        }
        each |= {"sigma": level_R, "audio_timestep": level_R, "audio_sigma": level_R}
        return super().denoise(latents_RCFHW, timestep_RF, replace(condition, arguments=condition.arguments | each))

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        if output_type == "latent":  # as the autoencoder has them
            return output_class(self.pipe)(frames=denormalized(self.pipe.vae, frames_BFCHW), audio=None)
        video = frames_BFCHW.transpose(1, 2) * 2 - 1
        frames = self.pipe.video_processor.postprocess_video(video, output_type=output_type)
        return output_class(self.pipe)(frames=frames, audio=None)
