"""Wan: the contract, and what users do to these pipelines."""

import pytest
import torch
from diffusers import WanPipeline

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import TOLERANCE, distance, frames
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import WanContract
from fifo_diffusion.testing.tiny_wan import FEW, SIZE, VAE_2_2, components, euler, pipeline, skyreels, two_transformers


class TestWan(WanContract):
    """UniPC, as the checkpoints have it."""

    @pytest.mark.parametrize("vae_changes", [{}, VAE_2_2], ids=["2.1", "2.2"])
    def test_the_first_latent_is_one_frame_and_all_others_four(self, vae_changes):
        pipe = WanPipeline(**components(vae_changes=vae_changes))
        model, factor = registry.wrap(pipe), pipe.vae_scale_factor_spatial
        decoder = model.decoder()
        x = torch.randn(1, 4, 3, 2, 2)
        assert [decoder.push(latent).shape[1:] for latent in x.split(1, 2)] == [
            (count, 3, 2 * factor, 2 * factor) for count in (1, 4, 4)
        ]


@pytest.mark.slow
class TestWanByEuler(WanContract):
    """Flow-matching Euler, which `WanPipeline` names as its scheduler."""

    without = VARIANT

    def make_pipe(self):
        return pipeline(euler())


class TestWanOfExpandedTimesteps(WanContract):
    """Wan 2.2 TI2V-5B, whose own pipeline gives a timestep to every token; and its autoencoder."""

    height = width = 64
    without = VARIANT

    def make_pipe(self):
        pipe = WanPipeline(**components(vae_changes=VAE_2_2), expand_timesteps=True)
        pipe.set_progress_bar_config(disable=True)
        return pipe


class TestWanOfTwoTransformers(WanContract):
    def denoisers(self, pipe):
        return [pipe.transformer, pipe.transformer_2]

    def make_pipe(self):
        return two_transformers()

    def stock(self, pipe, latents, timestep, text):
        transformer = pipe.transformer if timestep >= 600 else pipe.transformer_2
        with torch.no_grad():
            return transformer(latents, timestep.expand(len(latents)), text).sample

    def test_the_second_has_a_guidance_of_its_own(self, pipe):
        """As in the pipeline."""
        self.second = 1.5
        model = registry.wrap(pipe)
        self.test_the_captured_loop_is_the_pipeline(pipe, model)
        x, t = self.latents(model, 1), self.rising(model)
        conditions = [self.condition(model, self.prompts[:1], guidance_scale_2=scale) for scale in (1.5, None)]
        right, other = (model.predict(x, t, condition) for condition in conditions)
        assert distance(right[:, :, :1], other[:, :, :1]) > 100 * TOLERANCE
        assert distance(right[:, :, t[0] >= 600], other[:, :, t[0] >= 600]) < TOLERANCE

    second: float | None = None

    def condition(self, model, prompts, **more):
        return super().condition(model, prompts, **{"guidance_scale_2": self.second} | more)

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, guidance_scale_2=self.second, **call)

    def test_a_window_may_need_both_or_one(self, pipe, model, monkeypatch):
        condition, called = self.condition(model, self.prompts[:1]), []
        for name in ("transformer", "transformer_2"):
            getattr(pipe, name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
        x = self.latents(model, 2)
        for times, expected in (
            ([[100, 300, 500, 700], [700, 800, 900, 950]], {"transformer", "transformer_2"}),
            ([[100, 300, 500, 599], [10, 20, 30, 40]], {"transformer_2"}),
        ):
            called.clear()
            model.predict(x, torch.tensor(times), condition)
            assert set(called) == expected


def test_defaults_and_limits():
    with FIFO(pipeline()) as fifo:
        expected = {"guidance_scale": 5.0, "height": 480, "width": 832, "fps": 16, "eta": 0.0}
        assert (fifo.model.frames, fifo.model.defaults) == (21, expected)
        with pytest.raises(ValueError, match="height 40 and width 32 must be multiples of 16: use 32 and 32"):
            fifo.stream("a cat", **FEW | {"height": 40})
        with pytest.raises(ValueError, match="Wan models cannot do it"):
            fifo.stream("a cat", lookahead="banded", **FEW)
        with pytest.raises(ValueError, match="no published FIFO code for Wan "):
            fifo.stream("a cat", compat="published", **FEW)
    model = registry.wrap(skyreels())
    assert (model.frames, model.defaults["fps"], model.defaults["guidance_scale"]) == (25, 24, 6.0)
    with pytest.raises(ValueError, match="ar_step would have no effect here: leave it out"):
        model.condition(["a cat"], ar_step=5, **SIZE)


def test_one_transformer_of_two_is_refused():
    with pytest.raises(ValueError, match=r"one of its two transformers only: load it with both$"):
        FIFO(WanPipeline(**components(), boundary_ratio=0.9))
    for ratio in (875, float("nan")):
        with pytest.raises(ValueError, match="boundary_ratio must lie between 0 and 1, not "):
            FIFO(WanPipeline(**components(), transformer_2=components()["transformer"], boundary_ratio=ratio))


def test_a_cache_on_the_transformer_is_refused():
    from diffusers import FirstBlockCacheConfig

    pipe = pipeline()
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ValueError, match=r"call pipe.transformer.disable_cache\(\)$"):
        FIFO(pipe).stream("a cat", **FEW)


@pytest.mark.parametrize("tell", ["each token", "each frame by diffusion forcing"])
def test_what_the_transformers_do_by_themselves_is_the_same(tell):
    """Both take timesteps per frame, at more cost."""
    pipe = skyreels() if "forcing" in tell else pipeline()
    model, x = registry.wrap(pipe), torch.randn(2, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t, condition = torch.tensor([[100, 300, 500, 700], [0, 5, 900, 999]]), model.condition(["a cat", "a dog"], **SIZE)
    found = model.predict(x, t, condition)
    own = {"enable_diffusion_forcing": True, "fps": [1]} if "forcing" in tell else {}
    with torch.no_grad():
        tokens = t if own else t.repeat_interleave(4, 1)
        without, with_text = (pipe.transformer(x, tokens, text, **own).sample for text in condition.text)
    assert distance(found, without + 3 * (with_text - without)) < TOLERANCE


def test_a_saved_folder_keeps_its_autoencoder_in_float32(tmp_path):
    """As the model's authors have it, beside a transformer in bfloat16."""
    pipeline().save_pretrained(tmp_path)
    assert find_model(tmp_path).half_precision == "bfloat16"
    pipe = find_model(tmp_path).load(dtype=torch.bfloat16)
    assert (pipe.transformer.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    with FIFO(pipe) as fifo:
        assert frames(fifo.stream("a cat", seed=0, num_frames=10, **FEW)).shape == (10, 32, 32, 3)
