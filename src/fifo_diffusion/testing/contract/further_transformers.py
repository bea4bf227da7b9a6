"""How the contract is tested for further diffusion transformers that look at one text for a whole window."""

from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLAllegro, HunyuanVideo15Pipeline
from diffusers.models.attention_processor import Attention

from fifo_diffusion.testing import (
    TOLERANCE,
    distance,
    tiny_allegro,
    tiny_hunyuan_video15,
    tiny_kandinsky,
    tiny_motif,
)
from fifo_diffusion.testing.contract import SharedText, VideoModelContract
from fifo_diffusion.testing.contract.mixing import without_joint_attention


def after_init(monkeypatch: pytest.MonkeyPatch, kind: type, attributes: dict[str, Any]) -> None:
    """Every new object of this class has these attributes."""
    init = kind.__init__

    @wraps(init)
    def with_attributes(self, *args, **kwargs):
        init(self, *args, **kwargs)
        vars(self).update(attributes)

    monkeypatch.setattr(kind, "__init__", with_attributes)


class AllegroContract(SharedText, VideoModelContract):
    """Every latent is four frames, and the shortest tile of the autoencoder six latents."""

    frames = 6
    height = width = 32
    opening, further = 16, 16

    @pytest.fixture(autouse=True)
    def small_tiles(self, monkeypatch):
        """Also of an autoencoder that is loaded from a folder."""
        after_init(monkeypatch, AutoencoderKLAllegro, tiny_allegro.TILES)

    def make_pipe(self):
        return tiny_allegro.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def condition(self, model, prompts, **more):
        return super().condition(model, prompts, clean_caption=False, **more)

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        rows, size = len(latents), (self.height, self.width)
        mask = torch.ones(text.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask
        rotary = pipe._prepare_rotary_positional_embeddings(rows, *size, latents.shape[2], latents.device)
        with torch.no_grad():
            return pipe.transformer(
                latents,
                text[:, None],
                timestep.expand(rows),
                encoder_attention_mask=mask,
                image_rotary_emb=rotary,
                return_dict=False,
            )[0]

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, clean_caption=False, **call)

    def whole_decoding(self, pipe, latents):
        pipe.vae.enable_tiling()
        with torch.no_grad():
            video = torch.cat([pipe.decode_latents(one) for one in latents.split(1)])  # it takes one at a time
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """Attention of the video to itself is the only layer that looks across frames."""
        forward = Attention.forward

        def of_text_alone(self, hidden_states, encoder_hidden_states=None, **more):
            if encoder_hidden_states is None:
                return 0.1 * hidden_states
            return forward(self, hidden_states, encoder_hidden_states, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Attention, "forward", of_text_alone)
            yield


class GuidedContract(SharedText, VideoModelContract):
    """Guidance is a part of the pipeline: its call takes no weight."""

    def denoiser(self, pipe):
        return pipe.transformer

    def sampled(self, pipe, latents, guidance_scale, **call):
        pipe.guider.guidance_scale = guidance_scale
        return super().sampled(pipe, latents, **call)

    @staticmethod
    def without_picture(latents):
        return torch.cat([latents, torch.zeros_like(latents), torch.zeros_like(latents[:, :1])], 1)


class HunyuanVideo15Contract(GuidedContract):
    """Told that there is no picture, and of words in quotes apart."""

    height = width = 32
    opening, further = 13, 5
    exact = False

    @pytest.fixture(autouse=True)
    def few_tokens(self, monkeypatch):
        """Also of a pipeline that is loaded from a folder."""
        after_init(monkeypatch, HunyuanVideo15Pipeline, tiny_hunyuan_video15.TOKENS)

    def make_pipe(self):
        return tiny_hunyuan_video15.pipeline()

    def rising(self, model, rows=1):
        """Its pipeline rounds timesteps to the denoiser's precision: those that have no rounding."""
        return super().rising(model, rows).bfloat16().float()

    def stock(self, pipe, latents, timestep, text, **of_rows):
        rows, config = len(text), pipe.transformer.config
        given = {
            "encoder_attention_mask": torch.ones(text.shape[:2]),
            "encoder_hidden_states_2": torch.zeros(rows, 12, config.text_embed_2_dim),
            "encoder_attention_mask_2": torch.zeros(rows, 12),
            "image_embeds": torch.zeros(rows, 3, config.image_embed_dim),
        }
        video = self.without_picture(latents)
        with torch.no_grad():
            return pipe.transformer(video, timestep.expand(rows), text, **given | of_rows, return_dict=False)[0]

    def whole_decoding(self, pipe, latents):
        with torch.no_grad():
            z = latents / pipe.vae.config.scaling_factor
            video = torch.cat([pipe.vae.decode(one).sample for one in z.split(1)])  # it takes one at a time
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def test_nothing_waits_for_the_device(self):
        pytest.skip("its stock transformer looks at the texts' masks, for which the host waits")

    def without_frame_mixing(self):
        return without_joint_attention()


class MotifVideoContract(GuidedContract):
    """Its last block looks at what the blocks before made of the video."""

    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return tiny_motif.pipeline()

    def stock(self, pipe, latents, timestep, text, encoder_attention_mask=None):
        mask = torch.ones(text.shape[:2]) if encoder_attention_mask is None else encoder_attention_mask
        video, time = self.without_picture(latents), timestep.expand(len(latents))
        with torch.no_grad():
            return pipe.transformer(video, time, text, encoder_attention_mask=mask, return_dict=False)[0]

    def whole_decoding(self, pipe, latents):
        config = pipe.vae.config
        mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
        with torch.no_grad():
            video = pipe.vae.decode(latents * std + mean, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    @contextmanager
    def without_frame_mixing(self):
        """All attention: texts are modulated by the noise of all frames together, and seen by each."""
        from diffusers.models.transformers import transformer_motif_video as motif

        def nothing(self, hidden_states, encoder_hidden_states=None, **_):
            return 0 * hidden_states, 0 * encoder_hidden_states

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(motif.MotifVideoAttention, "forward", nothing)
            patch.setattr(
                motif.MotifVideoCrossAttention, "forward", lambda self, hidden_states, *_, **__: 0 * hidden_states
            )
            yield


class KandinskyContract(SharedText, VideoModelContract):
    """Texts have as many tokens as words, and their last tokens are padding."""

    height = width = 32
    opening, further = 13, 5

    def make_pipe(self):
        return tiny_kandinsky.pipeline()

    def denoiser(self, pipe):
        return pipe.transformer

    def stock(self, pipe, latents, timestep, text, pooled_projections=None):
        """Each row at its own length, which ends where only zeros follow."""
        pooled = torch.zeros(len(text), pipe.transformer.config.in_text_dim2)
        pooled = pooled if pooled_projections is None else pooled_projections
        video = latents.movedim(1, -1)
        sparse = pipe.get_sparse_params(video, latents.device)
        if pipe.transformer.config.visual_cond:
            video = torch.cat([video, torch.zeros_like(video), torch.zeros_like(video[..., :1])], -1)
        places = [torch.arange(n) for n in (latents.shape[2], latents.shape[3] // 2, latents.shape[4] // 2)]
        outputs = []
        for row, (own, more) in enumerate(zip(text, pooled, strict=True)):
            own = own[own.abs().sum(-1) > 0][None]
            with torch.no_grad():
                found = pipe.transformer(
                    video[row : row + 1],
                    own,
                    timestep.expand(1),
                    more[None],
                    places,
                    torch.arange(own.shape[1]),
                    pipe._get_scale_factor(self.height, self.width),
                    sparse,
                )
            outputs.append(found.sample.movedim(-1, 1))
        return torch.cat(outputs)

    def sampled(self, pipe, latents, **call):
        video = latents.movedim(1, -1)
        if pipe.transformer.config.visual_cond:
            video = torch.cat([video, torch.zeros_like(video), torch.zeros_like(video[..., :1])], -1)
        return super().sampled(pipe, video, **call).movedim(-1, 1)

    def whole_decoding(self, pipe, latents):
        with torch.no_grad():
            video = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
        return pipe.video_processor.postprocess_video(video, output_type="pt")

    def in_half(self, pipe, dtype):
        """As loaded in it: what the stock code calls in float32 stays so."""
        pipe.to(dtype)
        for name, part in pipe.transformer.named_modules():
            if name.rpartition(".")[2] in pipe.transformer._keep_in_fp32_modules:
                part.float()
        return pipe

    def test_one_text_per_frame(self, model):
        """A window has the mean of its frames' texts, each token of those that have so many."""
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 2), self.rising(model, 2)
        weights = torch.tensor([[[1.0, 0.0]] * self.frames, [[0.0, 1.0]] * self.frames])
        found = model.predict(x, t, model.mix(conditions, weights))
        for k, condition in enumerate(conditions):
            assert distance(found[k], model.predict(x[k : k + 1], t[:1], condition)[0]) < TOLERANCE
        short, long = (condition.lengths[1][0] for condition in conditions)
        assert short < long
        mixed = model.mix(conditions, torch.full((1, self.frames, 2), 0.5))
        assert mixed.lengths[1] == (long,)
        first, second = (condition.text[1] for condition in conditions)
        assert distance(mixed.text[1, :, :short], (first[:, :short] + second[:, :short]) / 2) < TOLERANCE
        assert distance(mixed.text[1, :, short:long], second[:, short:long]) < TOLERANCE

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition, forward = self.condition(model, self.prompts[:1]), pipe.transformer.forward

        def shorter(*args, **kwargs):
            found = forward(*args, **kwargs)
            return type(found)(sample=found.sample[:, :-1])

        monkeypatch.setattr(pipe.transformer, "forward", shorter)
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)

    @contextmanager
    def without_frame_mixing(self):
        """All attention: texts are modulated by the noise of all frames together, and seen by each."""
        from diffusers.models.transformers.transformer_kandinsky import Kandinsky5Attention

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kandinsky5Attention, "forward", lambda self, hidden_states, *_, **__: 0.1 * hidden_states)
            yield
