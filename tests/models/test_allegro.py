"""Allegro: the contract, and its autoencoder's tiles of time and space as they come."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLAllegro, DDIMScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models import registry
from fifo_diffusion.models.allegro.decoder import allegro_decoder, tiled_sizes
from fifo_diffusion.testing import TOLERANCE, distance
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.further_transformers import AllegroContract
from fifo_diffusion.testing.tiny_allegro import VAE, pipeline, vae


class TestAllegro(AllegroContract):
    """Sampled by Euler's rule."""


@pytest.mark.slow
class TestAllegroOfOneHead(AllegroContract):
    """Two layers, sampled by DDIM's rule."""

    without = VARIANT

    def make_pipe(self):
        scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True)
        return pipeline(scheduler, num_layers=2, num_attention_heads=1, cross_attention_dim=24)


@pytest.mark.parametrize("count", [6, 10, pytest.param(14, marks=pytest.mark.slow)])
def test_tiles_come_as_the_autoencoder_makes_them(count):
    """Several side by side; also after frames that nobody sees, and after a saved state."""
    made, timing = vae(), LatentTiming(4, 4)
    x = torch.randn(1, 4, count, 6, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = (made.tiled_decode(x / 0.7) / 2 + 0.5).clamp(0, 1)
    once, skipping, resumed = [allegro_decoder(made, timing) for _ in range(3)]
    found = torch.cat([part for part in (*map(once.push, x.split(1, 2)), once.flush()) if part.numel()], 1)
    assert distance(found, whole) < TOLERANCE
    seen = skipping.skip(x[:, :, : count - 2])
    resumed.load_state(skipping.state())
    for decoder in (skipping, resumed):
        rest = [decoder.push(x[:, :, count - 2 :]), decoder.flush()]
        assert distance(torch.cat([part for part in rest if part.numel()], 1), whole[:, seen:]) < TOLERANCE


@pytest.mark.parametrize("count", [2, 6, 7])
def test_every_latent_has_its_frames_at_the_end_of_a_video(count):
    """The autoencoder itself leaves frames grey that are in no whole tile."""
    made, timing = vae(), LatentTiming(4, 4)
    x = torch.randn(1, 4, count, 4, 4, generator=torch.Generator().manual_seed(0))
    decoder = allegro_decoder(made, timing)
    found = torch.cat([part for part in (decoder.push(x), decoder.flush()) if part.numel()], 1)
    assert found.shape[1] == 4 * count
    assert min(frame.std() for frame in found[0]) > 0.01


def test_given_frames_are_encoded_in_whole_tiles():
    """Frames that fill them are encoded as by the autoencoder itself."""
    pipe = pipeline()
    model = registry.wrap(pipe)
    frames = np.random.default_rng(0).integers(0, 255, (24, 32, 48, 3), np.uint8)
    pipe.vae.enable_tiling()
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    assert distance(model.encode(frames), expected) < TOLERANCE
    assert model.encode(frames[:9]).shape[2] == 2
    assert model.encode(np.concatenate([frames, frames])).shape[2] == 12


def test_limits():
    model = FIFO(pipeline()).model
    assert model.latent_shape(48, 64) == (4, 6, 8)
    with pytest.raises(ValueError, match="do not cover them: use 32 and 64"):
        model.latent_shape(16, 64)
    published = AutoencoderKLAllegro(**VAE)
    assert tiled_sizes(published, 720, 1280) == (720, 1280)
    assert tiled_sizes(published, 480, 832) == (520, 800)
    with pytest.raises(ValueError, match="joins several latents"):
        FIFO(pipeline(patch_size_t=2))
