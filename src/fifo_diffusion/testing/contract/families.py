"""How the contract is tested for the families of this package. A model of one's own may derive from these."""

from contextlib import contextmanager

import numpy as np
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from PIL import Image

from fifo_diffusion.testing import (
    tiny,
    tiny_animatediff,
    tiny_anyflow,
    tiny_cogvideox,
    tiny_latte,
    tiny_videocrafter,
    tiny_wan,
)
from fifo_diffusion.testing.contract import VARIANT, SharedText, VideoModelContract
from fifo_diffusion.testing.contract.mixing import without_joint_attention


class UNet3DContract(VideoModelContract):
    def make_pipe(self):
        return tiny.pipeline()

    def denoiser(self, pipe):
        return pipe.unet

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            return pipe.unet(latents, timestep, encoder_hidden_states=text).sample

    @contextmanager
    def without_frame_mixing(self):
        saved = TransformerTemporalModel.forward, TemporalConvLayer.forward
        TransformerTemporalModel.forward = lambda self, x, *a, **k: (x,)
        TemporalConvLayer.forward = lambda self, x, *a, **k: x
        yield
        TransformerTemporalModel.forward, TemporalConvLayer.forward = saved


class VideoCrafterContract(UNet3DContract):
    variant = "vc2"

    def make_pipe(self):
        return tiny_videocrafter.pipeline(self.variant)

    def make_light_pipe(self):
        return tiny_videocrafter.light(self.variant)

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            told = pipe.told_arguments(None)
            return pipe.unet(latents, timestep, encoder_hidden_states=text, **told).sample


class AnimateDiffContract(VideoModelContract):
    xl = False

    def make_pipe(self):
        return tiny_animatediff.pipeline(self.xl)

    def make_light_pipe(self):
        return tiny_animatediff.pipeline(self.xl, **tiny_animatediff.LIGHT)

    def denoiser(self, pipe):
        return pipe.unet

    def stock(self, pipe, latents, timestep, text, **added):
        text = text.repeat_interleave(latents.shape[2], 0)
        with torch.no_grad():
            return pipe.unet(latents, timestep, encoder_hidden_states=text, added_cond_kwargs=added).sample

    @contextmanager
    def without_frame_mixing(self):
        saved = AnimateDiffTransformer3D.forward
        AnimateDiffTransformer3D.forward = lambda self, x, *a, **k: x
        yield
        AnimateDiffTransformer3D.forward = saved


class ValuesOnly:
    """Attention in which every token sees itself only."""

    def __call__(self, attn, hidden_states, *_args, **_kwargs):
        return attn.to_out[0](attn.to_v(hidden_states))


class LatteContract(VideoModelContract):
    frames_argument = "video_length"

    def make_pipe(self):
        return tiny_latte.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        """`text`: rows that are zero where a shorter text ends; each is cut to its length, as the pipeline does."""
        with torch.no_grad():
            return torch.cat([
                pipe.transformer(x[None], timestep[None], encoder_hidden_states=row[row.abs().sum(-1) > 0][None]).sample
                for x, row in zip(latents, text, strict=True)
            ])[:, : latents.shape[1]]  # fmt: skip

    @contextmanager
    def without_frame_mixing(self):
        attentions = [block.attn1 for block in self.current.transformer.temporal_transformer_blocks]
        saved = [attention.processor for attention in attentions]
        for attention in attentions:
            attention.processor = ValuesOnly()
        yield
        for attention, processor in zip(attentions, saved, strict=True):
            attention.processor = processor


class WanContract(VideoModelContract):
    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return tiny_wan.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        with torch.no_grad():
            return pipe.transformer(latents, timestep.expand(len(latents)), text).sample

    def whole_decoding(self, pipe, latents):
        mean, std = (
            torch.tensor(pipe.vae.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
        )
        with torch.no_grad():
            video = pipe.vae.decode(latents / (1 / std) + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Self-attention is the only layer that looks across frames."""
        kind = type(self.current.transformer.blocks[0].attn1)
        saved = kind.forward
        kind.forward = lambda self, x, text=None, *a: saved(self, x, text, *a) if text is not None else 0.1 * x
        yield
        kind.forward = saved


class WanFromAPictureContract(WanContract):
    """Of pipelines that are told a picture: what the transformer gets of it is made by the pipeline's own methods."""

    start = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    opening = 12

    def make_pipe(self):
        return tiny_wan.told_picture()

    def transformer_at(self, pipe, timestep):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        picture, count = Image.fromarray(self.start), len(latents)
        size = {"height": self.height, "width": self.width, "num_frames": 4 * latents.shape[2] - 3}
        transformer = self.transformer_at(pipe, timestep)
        with torch.no_grad():
            pixels = pipe.video_processor.preprocess(picture, height=self.height, width=self.width)
            what = {"batch_size": count, "num_channels_latents": latents.shape[1], "device": latents.device}
            told = pipe.prepare_latents(pixels, **what, **size, dtype=torch.float32)[1]
            tokens = {}
            if transformer.config.image_dim is not None:
                tokens = {"encoder_hidden_states_image": pipe.encode_image(picture, "cpu").repeat(count, 1, 1)}
            return transformer(torch.cat([latents, told], 1), timestep.expand(count), text, **tokens).sample

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, image=Image.fromarray(self.start), **call)


class AnyFlowContract(WanContract):
    """Told that a step ends where it begins, but where a clip is sampled."""

    def make_pipe(self):
        return tiny_anyflow.pipeline()

    def stock(self, pipe, latents, timestep, text, end=None):
        begins, ends = (t.expand(len(latents), latents.shape[2]) for t in (timestep, timestep if end is None else end))
        with torch.no_grad():
            return pipe.transformer(latents.transpose(1, 2), begins, ends, text).sample.transpose(1, 2)

    @contextmanager
    def without_frame_mixing(self):
        attentions = [block.attn1 for block in self.current.transformer.blocks]
        saved = [attention.processor for attention in attentions]
        for attention in attentions:
            attention.processor = ValuesOnly()
        yield
        for attention, processor in zip(attentions, saved, strict=True):
            attention.processor = processor


class CogVideoXContract(SharedText, VideoModelContract):
    """With rotary positions, as the model of 5B."""

    frames = 5
    height = width = 32
    opening, further = 17, 8
    more_arguments = {"max_sequence_length": 8}  # noqa: RUF012
    without = {"folder": "the tiny transformer takes shorter texts only, which the command cannot say"}  # noqa: RUF012

    def make_pipe(self):
        return tiny_cogvideox.pipeline()

    def condition(self, model, prompts, **more):
        return super().condition(model, prompts, max_sequence_length=8, **more)

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text):
        positions = None
        if pipe.transformer.config.use_rotary_positional_embeddings:
            positions = pipe._prepare_rotary_positional_embeddings(32, 32, latents.shape[2], "cpu")
        with torch.no_grad():
            time = timestep.expand(len(latents))
            return pipe.transformer(latents.transpose(1, 2), text, time, image_rotary_emb=positions)[0].transpose(1, 2)

    def sampled(self, pipe, latents, **call):
        call = {"max_sequence_length": 8, "output_type": "latent"} | call
        return pipe(latents=latents.transpose(1, 2), **call).frames.transpose(1, 2)

    def whole_decoding(self, pipe, latents):
        with torch.no_grad():
            video = pipe.decode_latents(latents.transpose(1, 2))
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def without_frame_mixing(self):
        return without_joint_attention()


class CogVideoX15Contract(CogVideoXContract):
    """Two latents of the pipeline are one here."""

    opening, further = 33, 9
    without = {k: why for k, why in VARIANT.items() if k != "resume"}  # noqa: RUF012

    def make_pipe(self):
        return tiny_cogvideox.pipeline(patch_size_t=2, sample_frames=33)

    def stock(self, pipe, latents, timestep, text):
        positions = pipe._prepare_rotary_positional_embeddings(32, 32, 2 * latents.shape[2], "cpu")
        with torch.no_grad():
            time = timestep.expand(len(latents))
            return paired(pipe.transformer(single(latents), text, time, image_rotary_emb=positions)[0])

    def sampled(self, pipe, latents, **call):
        call = {"max_sequence_length": 8, "output_type": "latent"} | call
        return paired(pipe(latents=single(latents), **call).frames)

    def whole_decoding(self, pipe, latents):
        """Without the first, as the pipeline does it."""
        with torch.no_grad():
            video = pipe.decode_latents(single(latents)[:, 1:])
        return pipe.video_processor.postprocess_video(video, output_type="pt")


def single(pairs_BCFHW):
    """(B, 2 C, F, H, W) to (B, 2 F, C, H, W)."""
    first, second = pairs_BCFHW.transpose(1, 2).chunk(2, 2)
    return torch.stack([first, second], 2).flatten(1, 2)


def paired(singles_BFCHW):
    """Back from `single`."""
    return torch.cat([singles_BFCHW[:, ::2], singles_BFCHW[:, 1::2]], 2).transpose(1, 2)
