"""How the contract is tested for diffusion transformers that look at one text for a whole window."""

from contextlib import contextmanager

import pytest
import torch
from diffusers.models.attention_processor import Attention, MochiAttention

from fifo_diffusion.testing import (
    tiny_easyanimate,
    tiny_hunyuan_video,
    tiny_ltx,
    tiny_ltx2,
    tiny_mochi,
    tiny_sana_video,
)
from fifo_diffusion.testing.contract import SharedText, VideoModelContract
from fifo_diffusion.testing.contract.mixing import without_joint_attention


def _without_self_attention(attention: type, patch: pytest.MonkeyPatch) -> None:
    """Every token keeps a tenth of itself where it would look at others of the video; texts are looked at as before."""
    saved = attention.forward

    def forward(self, hidden_states, encoder_hidden_states=None, **more):
        if encoder_hidden_states is None:
            return 0.1 * hidden_states
        return saved(self, hidden_states, encoder_hidden_states, **more)

    patch.setattr(attention, "forward", forward)


class EasyAnimateContract(SharedText, VideoModelContract):
    """Text and video in two streams that look at each other."""

    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return tiny_easyanimate.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            found = pipe.transformer(latents, timestep.expand(len(latents)), encoder_hidden_states=text)
        return found.sample[:, : latents.shape[1]]

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, negative_prompt="", **call)

    def whole_decoding(self, pipe, latents):
        with torch.no_grad():
            video = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def without_frame_mixing(self):
        return without_joint_attention()


class HunyuanVideoContract(SharedText, VideoModelContract):
    """With a second pass without the prompt, beside the guidance that the transformer is told: a thousand times this
    number, which has no rounding in half precision."""

    guidance_scale = 3.072
    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return tiny_hunyuan_video.pipeline()

    def condition(self, model, prompts, **more):
        scale = more.get("guidance_scale", self.guidance_scale)
        more |= {"true_cfg_scale": scale, "negative_prompt": [""] * len(prompts)}
        return super().condition(model, prompts, **more)

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text, **of_rows):
        rows = len(text)
        given = {
            "encoder_attention_mask": torch.ones(text.shape[:2]),
            "pooled_projections": torch.zeros(rows, pipe.transformer.config.pooled_projection_dim),
            "guidance": torch.full((rows,), 3000.0),
        }
        with torch.no_grad():
            return pipe.transformer(latents, timestep.expand(rows), text, **given | of_rows, return_dict=False)[0]

    def sampled(self, pipe, latents, **call):
        call |= {"true_cfg_scale": call["guidance_scale"], "negative_prompt": ""}
        return super().sampled(pipe, latents, **call)

    def whole_decoding(self, pipe, latents):
        with torch.no_grad():
            video = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def without_frame_mixing(self):
        return without_joint_attention()


class MochiContract(SharedText, VideoModelContract):
    """Its time runs the other way, and so do its predictions."""

    height = width = 32
    opening, further = 19, 7

    def make_pipe(self):
        return tiny_mochi.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        mask = torch.ones(text.shape[:2], dtype=torch.bool)
        mask = mask if encoder_attention_mask is None else encoder_attention_mask
        with torch.no_grad():
            time = timestep.expand(len(latents))
            return pipe.transformer(latents, text, time, encoder_attention_mask=mask, return_dict=False)[0]

    def guided_stock(self, pipe, latents, timestep, condition):
        return -super().guided_stock(pipe, latents, timestep, condition)

    def whole_decoding(self, pipe, latents):
        mean, std = (
            torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
        )
        with torch.no_grad():
            video = pipe.vae.decode(latents * std + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def test_nothing_waits_for_the_device(self):
        pytest.skip("its stock attention looks at the text's mask (nonzero), for which the host waits")

    @contextmanager
    def without_frame_mixing(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                MochiAttention,
                "forward",
                lambda self, hidden_states, encoder_hidden_states, **_: (0 * hidden_states, 0 * encoder_hidden_states),
            )
            yield


class LTXContract(SharedText, VideoModelContract):
    """With a decoder that looks back only, so that frames come at once."""

    height = width = 32
    opening, further = 7, 3

    def make_pipe(self):
        return tiny_ltx.pipeline({"decoder_causal": True})

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        shape = latents.shape[2:]
        mask = torch.ones(text.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask
        size = dict(zip(("num_frames", "height", "width"), shape, strict=True))
        scale = (pipe.vae_temporal_compression_ratio / 25, *[pipe.vae_spatial_compression_ratio] * 2)
        with torch.no_grad():
            output = pipe.transformer(
                latents.flatten(2).transpose(1, 2),
                text,
                timestep.expand(len(latents)),
                encoder_attention_mask=mask,
                rope_interpolation_scale=scale,
                **size,
            )[0]
        return output.transpose(1, 2).unflatten(2, shape)

    def sampled(self, pipe, latents, **call):
        packed = latents.flatten(2).transpose(1, 2)
        found = pipe(latents=packed, output_type="latent", **call).frames
        return found.transpose(1, 2).unflatten(2, latents.shape[2:])

    def whole_decoding(self, pipe, latents):
        mean, std = (value.view(1, -1, 1, 1, 1) for value in (pipe.vae.latents_mean, pipe.vae.latents_std))
        time = torch.zeros(len(latents)) if pipe.vae.config.timestep_conditioning else None
        torch.manual_seed(0)  # of the noise that some autoencoders add
        with torch.no_grad():
            video = pipe.vae.decode(latents * std + mean, time, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Self-attention is the only layer that looks across frames."""
        from diffusers.models.transformers.transformer_ltx import LTXAttention

        with pytest.MonkeyPatch.context() as patch:
            _without_self_attention(LTXAttention, patch)
            yield


class LTX2Contract(LTXContract):
    """Without sound: compared with the pipeline whose transformer keeps picture and sound apart."""

    def make_pipe(self):
        return tiny_ltx2.pipeline()

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        rows, shape = len(latents), latents.shape[2:]
        mask = torch.ones(text.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask
        size = dict(zip(("num_frames", "height", "width"), shape, strict=True))
        time, config = timestep.expand(rows), pipe.transformer.config
        with torch.no_grad():
            output = pipe.transformer(
                hidden_states=latents.flatten(2).transpose(1, 2),
                audio_hidden_states=torch.ones(rows, 3, config.audio_in_channels),  # not seen
                encoder_hidden_states=text,
                audio_encoder_hidden_states=torch.ones(rows, 3, config.caption_channels),
                timestep=time,
                sigma=time,
                encoder_attention_mask=mask,
                audio_num_frames=3,
                isolate_modalities=True,
                return_dict=False,
                **size,
            )[0]
        return output.transpose(1, 2).unflatten(2, shape)

    def sampled(self, pipe, latents, **call):
        forward, vae = pipe.transformer.forward, pipe.vae
        of_text_only = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
        packed = latents.flatten(2).transpose(1, 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipe.transformer, "forward", lambda **k: forward(**k | {"isolate_modalities": True}))
            found = pipe(latents=packed, output_type="latent", **of_text_only, **call).frames
        mean, std = (value.view(1, -1, 1, 1, 1) for value in (vae.latents_mean, vae.latents_std))
        return (found - mean) / std

    @contextmanager
    def without_frame_mixing(self):
        from diffusers.models.transformers.transformer_ltx2 import LTX2Attention

        with pytest.MonkeyPatch.context() as patch:
            _without_self_attention(LTX2Attention, patch)
            yield


class SanaVideoContract(SharedText, VideoModelContract):
    """With Wan's autoencoder."""

    height = width = 32
    opening, further = 13, 5
    frames_argument = "frames"

    def make_pipe(self):
        return tiny_sana_video.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        mask = torch.ones(text.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask
        with torch.no_grad():
            found = pipe.transformer(latents, text, timestep.expand(len(latents)), encoder_attention_mask=mask)
        return found.sample[:, : latents.shape[1]]

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, use_resolution_binning=False, **call)

    def whole_decoding(self, pipe, latents):
        vae = pipe.vae
        names = "latents_mean", "latents_std"
        values = (torch.as_tensor(vae.config[name] if name in vae.config else getattr(vae, name)) for name in names)
        mean, std = (value.view(1, -1, 1, 1, 1) for value in values)
        with torch.no_grad():
            video = vae.decode(latents * std + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Self-attention and a convolution along time look across frames."""
        with pytest.MonkeyPatch.context() as patch:
            _without_self_attention(Attention, patch)
            for block in self.current.transformer.transformer_blocks:
                patch.setattr(block.ff.conv_temp.weight, "data", torch.zeros_like(block.ff.conv_temp.weight))
            yield
