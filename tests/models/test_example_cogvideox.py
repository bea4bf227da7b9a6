"""The worked example of docs/adding-a-model.md: its contract, and streams as a user has them."""

import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.attention_processor import Attention
from transformers import T5Config, T5EncoderModel

from fifo_diffusion import FIFO
from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import TOLERANCE, VideoModelContract, distance, frames, same, tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import cogvideox

SCHEDULER = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 24,
    "num_layers": 2,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 17,
    "max_text_seq_length": 8,
}
VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 8),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "temporal_compression_ratio": 4,
    "scaling_factor": 0.7,
}
SIZE = {"height": 32, "width": 32, "guidance_scale": 3.0, "max_sequence_length": 8}
FEW = {"window": 3, "num_partitions": 2} | SIZE


def pipeline(rotary=True, **changes):
    config = T5Config(d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=2, vocab_size=64)
    pipe = CogVideoXPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=tiny.randomize(T5EncoderModel(config), 2),
        vae=tiny.randomize(AutoencoderKLCogVideoX(**VAE), 1),
        transformer=tiny.randomize(
            CogVideoXTransformer3DModel(**TRANSFORMER | {"use_rotary_positional_embeddings": rotary} | changes), 3
        ),
        scheduler=CogVideoXDDIMScheduler(**SCHEDULER),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class TestCogVideoX(VideoModelContract):
    """With rotary positions, as the model of 5B."""

    frames = 5
    height = width = 32
    opening, further = 17, 8
    more_arguments = {"max_sequence_length": 8}  # noqa: RUF012

    def make_pipe(self):
        return pipeline()

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

    @contextmanager
    def without_frame_mixing(self):
        saved = Attention.forward
        Attention.forward = lambda self, hidden_states, encoder_hidden_states, **_: (
            0 * hidden_states,
            0 * encoder_hidden_states,
        )
        yield
        Attention.forward = saved

    def test_a_wrong_shape_is_caught(self, pipe, model, monkeypatch):
        condition, forward = self.condition(model, self.prompts[:1]), pipe.transformer.forward
        monkeypatch.setattr(pipe.transformer, "forward", lambda *a, **k: (forward(*a, **k)[0][:, :-1],))
        with pytest.raises(RuntimeError, match="one timestep per frame"):
            model.predict(self.latents(model, 1), self.rising(model), condition)

    def test_one_text_per_frame(self, model):
        """Text and video are one sequence: a window has the mean of its frames' texts."""
        conditions = [self.condition(model, (prompt,)) for prompt in self.prompts]
        x, t = self.latents(model, 2), self.rising(model, 2)
        weights = torch.tensor([[[1.0, 0.0]] * 5, [[0.0, 1.0]] * 5])
        found = model.predict(x, t, model.mix(conditions, weights))
        for k, condition in enumerate(conditions):
            assert distance(found[k], model.predict(x[k : k + 1], t[:1], condition)[0]) < TOLERANCE
        half = model.mix(conditions, torch.full((2, 5, 2), 0.5))
        expected = (conditions[0].text + conditions[1].text) / 2
        assert distance(half.text[:, :1], expected) < TOLERANCE


class TestCogVideoXByPlaces(TestCogVideoX):
    """With added positions, as the model of 2B; without a negative prompt's row where guidance is off."""

    def make_pipe(self):
        return pipeline(rotary=False)


@pytest.mark.parametrize("text_at", ["cleanest", "noisiest"])
def test_the_text_may_have_the_noise_level_of_one_frame(text_at):
    model = registry.wrap(pipeline())
    condition = model.condition(["a red ball"], **SIZE)
    x, t = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((1, 5), 500)
    rising = torch.tensor([[100, 300, 500, 700, 900]])
    mean = [model.predict(x, times, condition) for times in (t, rising)]
    model.text_at = text_at
    assert distance(model.predict(x, t, condition), mean[0]) < TOLERANCE
    assert distance(model.predict(x, rising, condition), mean[1]) > 100 * TOLERANCE


@pytest.fixture(scope="module")
def fifo():
    with FIFO(pipeline()) as fifo:
        yield fifo


def test_a_stream_is_its_latents_decoded_as_a_whole(fifo):
    """Also where latents wait for the second of their group, and where the run was interrupted in between."""
    latents = fifo("a cat", seed=1, num_frames=33, output_type="latent", **FEW).frames
    assert latents.shape == (1, 9, 4, 4, 4)
    expected = to_uint8(TestCogVideoX().whole_decoding(fifo.pipe, latents.transpose(1, 2)))[0]
    found = frames(fifo.stream("a cat", seed=1, num_frames=33, **FEW))
    assert same(found, expected)
    for done in (0, 9, 12, 21):
        stream = fifo.stream("a cat", seed=1, **FEW)
        first = [next(stream) for _ in range(done)]
        rest = fifo.stream(start=stream.state(), num_frames=33, max_sequence_length=8)
        assert np.array_equal([*first, *rest], found), done


@pytest.mark.parametrize("given", [3, 4])
def test_frames_of_given_latents_are_not_shown_again(fifo, given):
    """Also where the last of them waits for a new one, with which it is decoded."""
    past = torch.randn(1, 4, given, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"seed": 1, "start": past, "num_frames": 4 * (9 - given)} | FEW | {"window": given}
    new = fifo("a cat", output_type="latent", **options).frames.transpose(1, 2)
    whole = TestCogVideoX().whole_decoding(fifo.pipe, torch.cat([past, new], 2))
    found = frames(fifo.stream("a cat", **options))
    assert same(found, to_uint8(whole)[0, 4 * given - 3 :])
    stream = fifo.stream("a cat", **options)
    rest = fifo.stream(start=stream.state(), num_frames=len(found), max_sequence_length=8)
    assert np.array_equal(frames(rest), found)


def test_the_decoder_remembers_enough(fifo):
    latents = torch.randn(1, 4, 91, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, skipping = fifo.model.decoder(), fifo.model.decoder()
    count = whole.push(latents[:, :, :88]).shape[1]
    assert skipping.skip(latents[:, :, :2]) + skipping.skip(latents[:, :, 2:88]) == count == 345  # one latent waits
    assert skipping.state()["past"].shape[2] < 80
    assert torch.equal(skipping.push(latents[:, :, 88:]), whole.push(latents[:, :, 88:]))


def test_a_video_grows_out_of_a_picture(fifo):
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    grown = frames(fifo.stream("a cat", seed=4, num_frames=14, start=picture, include_start=True, **FEW))
    other = frames(fifo.stream("a cat", seed=4, num_frames=14, start=255 - picture, include_start=True, **FEW))
    assert grown.shape == (14, 32, 32, 3)
    assert not same(grown[1:], other[1:], 3)


def test_limits():
    with pytest.raises(ValueError, match=r"use version 1\.0$"):
        FIFO(pipeline(patch_size_t=2))
    with FIFO(pipeline()) as fifo:
        assert (fifo.model.frames, fifo.model.defaults["fps"], fifo.model.defaults["height"]) == (5, 8, 32)
        with pytest.raises(ValueError, match="use window=5 or less"):
            fifo.stream("a cat", **FEW | {"window": 6})
        with pytest.raises(ValueError, match="use_dynamic_cfg would have no effect here: leave it out"):
            fifo.stream("a cat", use_dynamic_cfg=True, **FEW)


def test_both_schedulers_of_cogvideox_have_its_shifted_levels():
    found = [read_levels(kind(**SCHEDULER), 10) for kind in (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)]
    expected = CogVideoXDDIMScheduler(**SCHEDULER).alphas_cumprod[found[0].timestep].sqrt()
    for levels in found:
        torch.testing.assert_close(levels.alpha, expected, check_dtype=False)
    assert cogvideox.CogVideoXModel.family == "CogVideoX"
