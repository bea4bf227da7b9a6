"""Modular pipelines: the contract, and what they have that standard pipelines have not."""

import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ModularPipelineBlocks, WanModularPipeline
from diffusers.modular_pipelines import SequentialPipelineBlocks

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.shared.few_steps import mark_few_steps
from fifo_diffusion.testing import TOLERANCE, distance, frames, tiny_modular, tiny_wan
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.modular import ModularLTXContract, ModularWanContract
from fifo_diffusion.testing.tiny_wan import FEW, SIZE, VAE_2_2, euler


class TestModularWan(ModularWanContract):
    """UniPC, as the checkpoints have it."""


class TestModularWanOfTwoTransformers(ModularWanContract):
    """Wan 2.2 A14B, by Euler: two guiders."""

    without = VARIANT

    def denoisers(self, pipe):
        return [pipe.transformer, pipe.transformer_2]

    def make_pipe(self):
        return tiny_modular.wan22()

    def stock(self, pipe, latents, timestep, text):
        transformer = pipe.transformer if timestep >= 600 else pipe.transformer_2
        with torch.no_grad():
            return transformer(latents, timestep.expand(len(latents)), text).sample

    def test_the_second_guider_counts(self, pipe, model):
        pipe.guider_2.guidance_scale = self.second = 1.5
        assert (model.defaults["guidance_scale"], model.defaults["guidance_scale_2"]) == (3.0, 1.5)
        self.test_the_captured_loop_is_the_pipeline(pipe, model)

    second: float | None = None

    def sampled(self, pipe, latents, **call):
        return super().sampled(pipe, latents, guidance_scale_2=self.second, **call)


class TestModularLTX(ModularLTXContract):
    pass


@pytest.mark.parametrize("kind", ["Wan", "Wan 2.2", "LTX"])
def test_the_frames_are_those_of_the_standard_pipeline(kind):
    """The same computation, so the same bits."""
    modular = {"Wan": tiny_modular.wan, "Wan 2.2": tiny_modular.wan22, "LTX": tiny_modular.ltx}[kind]()
    standard = tiny_modular.standard_of(modular)
    call = FEW | {"seed": 3, "max_sequence_length": 8}
    with FIFO(modular) as first, FIFO(standard) as second:
        found = frames(first.stream("a dog", **call), 9)
        assert (found == frames(second.stream("a dog", **call), 9)).all()
        assert found.std() > 1


def test_the_weight_of_guidance_is_the_guiders():
    pipe = tiny_modular.wan()
    call = {name: value for name, value in FEW.items() if name != "guidance_scale"} | {"seed": 0}
    with FIFO(pipe) as fifo:

        def made(**more):
            return frames(fifo.stream("a dog", **call, **more), 3)

        expected = {scale: made(guidance_scale=scale) for scale in (1.0, 3.0, 5.0)}
        assert (made() == expected[3.0]).all()
        pipe.guider.guidance_scale = 5.0
        assert (made() == expected[5.0]).all()
        pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=4.0, use_original_formulation=True))
        assert (made() == expected[5.0]).all()
        pipe.guider.disable()
        assert (made() == expected[1.0]).all()
        assert (expected[5.0] != expected[3.0]).any()
        assert (expected[1.0] != expected[3.0]).any()


@pytest.mark.parametrize(
    ("guider", "what"),
    [
        (AdaptiveProjectedGuidance(), "is AdaptiveProjectedGuidance"),
        (ClassifierFreeGuidance(guidance_rescale=0.5), "has guidance_rescale, an argument of FIFO's own"),
        (
            ClassifierFreeGuidance(stop=0.5),
            r"guides a part of the steps only \(start, stop\), which is FIFO's argument guidance_interval",
        ),
        (ClassifierFreeGuidance(0.5), "has a weight below 1, 0.5"),
    ],
)
def test_a_guider_that_is_not_computed_is_refused(guider, what):
    """When it is there from the beginning, and in mid-stream."""
    pipe = tiny_modular.wan()
    advice = r"; FIFO takes no more than a weight of at least 1 from it: "
    advice += r"pipe.update_components\(guider=ClassifierFreeGuidance\(guidance_scale=5"
    with FIFO(pipe) as fifo:
        stream = fifo.stream("a dog", seed=0, **FEW)
        next(stream)
        pipe.update_components(guider=guider)
        with pytest.raises(ValueError, match=f"^pipe.guider {what}{advice}"):
            frames(stream, 20)
    with pytest.raises(ValueError, match=f"^pipe.guider {what}{advice}"):
        FIFO(pipe)
    assert not any(module._forward_pre_hooks for module in pipe.transformer.modules())


def test_one_guider_off_and_one_on():
    pipe = tiny_modular.wan22()
    pipe.guider.disable()
    with pytest.raises(ValueError, match=r"^pipe\.guider is off and pipe\.guider_2 is on: give both a weight"):
        FIFO(pipe)


def test_parts_that_are_not_loaded_are_named():
    with pytest.raises(ValueError, match=r"has no text_encoder, tokenizer, transformer, scheduler, vae yet: call pipe"):
        FIFO(WanModularPipeline())
    pipe = tiny_modular.wan()
    pipe.update_components(vae=None)
    advice = r"call pipe.load_components\(\), or pipe.update_components\(vae=...\)$"
    with pytest.raises(ValueError, match=f"^this WanModularPipeline has no vae yet: {advice}"):
        FIFO(pipe)


def test_blocks_of_ones_own_are_refused():
    class Sharpen(ModularPipelineBlocks):
        model_name = "wan"

    pipe = tiny_modular.wan()
    blocks = {**pipe.blocks.sub_blocks, "sharpen": Sharpen()}
    own = WanModularPipeline(blocks=SequentialPipelineBlocks.from_blocks_dict(blocks))
    own.update_components(**pipe.components)
    with pytest.raises(ValueError, match=r"FIFO would leave out: Sharpen; make the pipeline without them$"):
        FIFO(own)


def test_an_autoencoder_that_the_modular_class_does_not_know():
    """That of Wan 2.2 TI2V-5B, of which diffusers' modular Wan makes a video of twice the size."""
    pipe = tiny_modular.of_parts(
        WanModularPipeline, tiny_wan.WanPipeline(**tiny_wan.components(vae_changes=VAE_2_2), expand_timesteps=True)
    )
    with pytest.raises(ValueError, match="makes 8 pixels of a latent, its autoencoder makes 16: load the model with W"):
        FIFO(pipe)


def test_a_setting_that_is_changed_counts():
    """From the next prediction on."""
    pipe = tiny_modular.wan22()
    model, x = registry.wrap(pipe), torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t, condition = torch.full((1, 4), 700), model.condition(["a cat"], **SIZE)
    before = model.predict(x, t, condition)
    pipe.update_components(boundary_ratio=0.8)
    assert distance(model.predict(x, t, condition), before) > 100 * TOLERANCE
    model.close()


def test_what_is_said_of_it_at_loading_counts():
    """A shift for a size, or that it was distilled to few steps, is noted on the pipeline that was loaded."""
    pipe = tiny_modular.wan()
    model = registry.wrap(pipe)
    assert not model.few_steps
    mark_few_steps(pipe)
    assert model.few_steps
    model.close()


def test_a_scheduler_that_is_replaced_counts():
    pipe = tiny_modular.wan()
    with FIFO(pipe) as fifo:
        assert fifo.model.levels(4).planes > 1
        pipe.scheduler = euler()
        assert fifo.model.levels(4).planes == 1


def test_it_is_freed(recwarn):
    """What FIFO keeps on a modular pipeline does not keep that alive."""
    import gc
    import weakref

    pipe = tiny_modular.wan()
    FIFO(pipe).close()
    gone = weakref.ref(pipe.transformer)
    del pipe
    gc.collect()
    assert gone() is None
