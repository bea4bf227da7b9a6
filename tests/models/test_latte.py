"""The Latte family: the contract, and what is its own: texts of different lengths, places in time, decoders."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.testing import TOLERANCE, distance, frames, same
from fifo_diffusion.testing.contract.families import LatteContract
from fifo_diffusion.testing.tiny_latte import pipeline, transformer
from streams import SMALL


class TestLatte(LatteContract):
    """diffusers' pipeline."""


@pytest.fixture
def model():
    model = registry.wrap(pipeline())
    yield model
    model.close()


CALL = {"height": 16, "width": 16, "guidance_scale": 3.0}


def test_it_is_the_stock_transformer_that_tells_frames_apart(model):
    """Places in time count, and a shorter window has the first of them."""
    x, condition = (
        torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        model.condition(["sea"], **CALL),
    )
    right = model.predict(x, torch.full((1, 4), 500), condition)
    model.pipe.transformer.temp_pos_embed.mul_(0)
    assert distance(model.predict(x, torch.full((1, 4), 500), condition), right) > 1e-2


def test_a_window_shorter_than_the_clip():
    """The same weights with fewer places are stock for it."""
    short = transformer(video_length=2)
    model = registry.wrap(pipe := pipeline())
    x = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = model.condition(["sea"], height=16, width=16, guidance_scale=1.0)
    with torch.no_grad():
        expected = short(x, torch.tensor([500]), encoder_hidden_states=condition.text[0]).sample[:, :4]
    assert distance(model.predict(x, torch.full((1, 2), 500), condition), expected) < TOLERANCE
    assert model.frames == model.most_frames == pipe.transformer.config.video_length == 4


def test_a_text_turns_into_a_longer_one_without_a_jump(model):
    short, long = (model.condition([prompt], **CALL) for prompt in ("a cat", "a red ball on the sea by night"))
    assert short.text.shape[2] < long.text.shape[2]
    x, t = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((1, 4), 500)

    def at(share):
        weight = torch.tensor([1 - share, share]).expand(1, 4, 2)
        return model.predict(x, t, model.mix([short, long], weight))

    whole = distance(at(1.0), at(0.0))
    assert distance(at(1e-4), at(0.0)) < 0.01 * whole
    assert distance(at(1 - 1e-4), at(1.0)) < 0.01 * whole
    assert 0.1 * whole < distance(at(0.5), at(0.0)) < whole


def test_a_negative_prompt_for_each_video(model):
    both = model.condition(["a cat", "a dog on the sea"], negative_prompt=["sand", "by night"], **CALL)
    alone = model.condition(["a dog on the sea"], negative_prompt=["by night"], **CALL)
    assert distance(both.text[:, 1:], alone.text) < TOLERANCE


def test_more_frames_than_places_are_refused():
    with FIFO(pipeline()) as fifo, pytest.raises(ValueError, match="use window=4 or less"):
        fifo.stream("a cat", **SMALL | {"window": 5})


def test_an_autoencoder_that_mixes_frames_is_refused():
    pipe = pipeline()
    pipe.vae = AutoencoderKLTemporalDecoder(block_out_channels=(32,), sample_size=16)
    with pytest.raises(ValueError, match="load the pipeline without vae="):
        FIFO(pipe)


def test_sizes_that_do_not_fit_name_the_nearest(model):
    with pytest.raises(ValueError, match="multiples of 4: use 16 and 12"):
        model.latent_shape(16, 13)


def test_published_profile_is_refused(model):
    with pytest.raises(ValueError, match="no published FIFO code for Latte"):
        model.levels(8, published=True)


def test_a_stream_and_its_schedule():
    """Prompts of different lengths in one window, and frames that do not depend on how many are asked for."""
    with FIFO(pipeline()) as fifo:
        run = dict(SMALL, seed=1)
        short = frames(fifo.stream("a cat", num_frames=6, **run))
        assert np.array_equal(short, frames(fifo.stream("a cat", **run), 6))
        plain = frames(fifo.stream("a cat", num_frames=7, **run))
        changed = frames(fifo.stream({0: "a cat", 5: "a red ball on the sea by night"}, num_frames=7, **run))
    assert np.array_equal(changed[:4], short[:4])  # the opening clip
    assert not same(changed[6], plain[6], 3)
