"""The AnimateDiff family: the contract for Stable Diffusion 1.5 and XL, and what users do to these pipelines."""

import logging

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, LCMScheduler

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.method import sample_clip
from fifo_diffusion.models import registry
from fifo_diffusion.testing import TOLERANCE, distance, frames, same, tiny
from fifo_diffusion.testing.contract.families import AnimateDiffContract
from fifo_diffusion.testing.tiny_animatediff import (
    LIGHT,
    PLACES,
    UNET,
    components,
    motion_adapter,
    pipeline,
    with_ip_adapter,
)
from streams import SMALL, pictures


class TestAnimateDiff(AnimateDiffContract):
    """Stable Diffusion 1.5."""

    def test_motion_modules_mix_frames(self, model):
        """Or the other tests would say little: stock initialisation leaves their last layers at zero."""
        condition = self.condition(model, self.prompts[:1])
        x, t = self.latents(model, 1), self.rising(model)
        changed = x.clone()
        changed[:, :, 2] += 1
        found, right = model.predict(changed, t, condition), model.predict(x, t, condition)
        assert distance(found[:, :, 0], right[:, :, 0]) > 100 * TOLERANCE


class TestXL(AnimateDiffContract):
    """Stable Diffusion XL: two text encoders, a pooled text and sizes."""

    xl = True

    def stock(self, pipe, latents, timestep, text, pooled=None, sizes=None):
        pooled = torch.ones(len(text), 12) if pooled is None else pooled
        sizes = torch.ones(len(text), 6) if sizes is None else sizes
        return super().stock(pipe, latents, timestep, text, text_embeds=pooled, time_ids=sizes)

    def guided_stock(self, pipe, latents, timestep, condition):
        passes = zip(condition.text, condition.pooled, condition.sizes, strict=True)
        rows = [self.stock(pipe, latents, timestep, *row) for row in passes]
        return rows[0] if len(rows) == 1 else rows[0] + condition.guidance_scale * (rows[1] - rows[0])

    def test_pooled_text_and_sizes_count(self, model):
        x, t = self.latents(model, 1), self.rising(model)
        right = model.predict(x, t, self.condition(model, self.prompts[:1]))
        larger = self.condition(model, self.prompts[:1], original_size=(64, 64))
        assert distance(model.predict(x, t, larger), right) > 100 * TOLERANCE
        second = self.condition(model, self.prompts[:1], prompt_2=[self.prompts[1]])
        assert distance(model.predict(x, t, second), right) > 100 * TOLERANCE

    def test_arguments_without_effect_are_refused(self, model):
        with pytest.raises(ValueError, match="guidance_rescale would have no effect here: leave it out"):
            self.condition(model, self.prompts[:1], guidance_rescale=0.7)


class ToldTheGuidance(TestXL):
    """Distilled U-Nets take the guidance scale as an embedding, in one pass."""

    def stock(self, pipe, latents, timestep, text, pooled=None, sizes=None):
        scale = torch.full((len(text),), self.guidance_scale - 1)
        guidance = pipe.get_guidance_scale_embedding(scale, embedding_dim=16)
        forward = pipe.unet.forward
        pipe.unet.forward = lambda *a, **k: forward(*a, timestep_cond=guidance, **k)
        try:
            return super().stock(pipe, latents, timestep, text, pooled, sizes)
        finally:
            del pipe.unet.forward


@pytest.mark.parametrize(
    ("kind", "xl", "changes"),
    [
        (AnimateDiffContract, False, {"use_motion_mid_block": False}),
        (ToldTheGuidance, True, {"time_cond_proj_dim": 16}),
    ],
    ids=["adapters of the first version", "told the guidance"],
)
def test_variants(kind, xl, changes):
    pipe = pipeline(xl, **changes)
    model = registry.wrap(pipe)
    kind().test_without_frame_mixing_every_frame_is_stock_at_its_own_timestep(pipe, model)
    kind().test_a_batch_of_videos_is_the_videos_one_by_one(model)
    kind().test_windows_batched_are_windows_one_by_one(model, 2)
    kind().test_one_text_per_frame(model)
    kind().test_the_captured_loop_is_the_pipeline(pipe, model)


# ---------------------------------------------------------------------- as users have these pipelines


def assert_captured_loop_is_the_pipeline(pipe, prompts=("a red ball",), steps=3, draws=None, **call):
    """Sampling by way of `predict` gives what `pipe()` gives; returns that. `draws`: fresh noise of the levels."""
    call = {"height": 16, "width": 16, "guidance_scale": 3.0} | call
    start = torch.randn(len(prompts), 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    arguments = {"num_frames": 4, "num_inference_steps": steps, "output_type": "latent"}
    expected = pipe(prompt=[*prompts], latents=start.clone(), **arguments, **call).frames
    model = registry.wrap(pipe)
    condition = model.condition(prompts, **call)
    *_, found = sample_clip(
        model.levels(steps, scheduler_exact=True),
        lambda x, t, frames: model.predict(x, t, condition),
        lambda frame, level, use: (start if level == steps else draws[level])[:, :, frame],
        range(4),
        start,
    )
    model.close()
    assert distance(found, expected) < TOLERANCE
    return expected


def test_lora_and_its_scale():
    """In spatial and in motion layers."""
    peft = pytest.importorskip("peft")
    pipe = pipeline()
    plain = assert_captured_loop_is_the_pipeline(pipe)
    pipe.unet.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    assert any("motion" in name and "lora" in name for name, _ in pipe.unet.named_parameters())
    whole = assert_captured_loop_is_the_pipeline(pipe)
    half = assert_captured_loop_is_the_pipeline(pipe, cross_attention_kwargs={"scale": 0.5})
    assert distance(whole, plain) > 1e-2
    assert distance(half, whole) > 1e-2


@pytest.mark.parametrize("xl", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_ip_adapter(xl):
    """One picture for the whole video, whatever the text of a frame."""
    pipe = with_ip_adapter(pipeline(xl))
    picture, other = torch.randn(2, 2, 1, 10, generator=torch.Generator().manual_seed(1))
    for prompts in (["a red ball"], ["a red ball", "a dog"]):
        first = assert_captured_loop_is_the_pipeline(pipe, prompts, ip_adapter_image_embeds=[picture])
    second = assert_captured_loop_is_the_pipeline(pipe, prompts, ip_adapter_image_embeds=[other])
    assert distance(second, first) > 1e-2
    with FIFO(pipe) as fifo:
        arguments = {"seed": 0, "num_frames": 6, "ip_adapter_image_embeds": [picture], **SMALL}
        schedule = {0: "a red ball", 4: "a dog"}
        together, alone = (frames(fifo.stream(schedule, windows_per_batch=n, **arguments)) for n in (3, 1))
        assert same(together, alone)


def test_clip_skip_and_textual_inversion():
    pipe = pipeline()
    plain = assert_captured_loop_is_the_pipeline(pipe, ["a red robot"])
    pipe.load_textual_inversion({"robot": torch.randn(2, 24)}, token="robot")
    assert distance(assert_captured_loop_is_the_pipeline(pipe, ["a red robot"]), plain) > 1e-3
    model = registry.wrap(pipe)
    text = [model.condition(["a red ball"], height=16, width=16, clip_skip=skip).text for skip in (None, 0, 1)]
    torch.testing.assert_close(text[1][1], text[0][1])
    assert distance(text[2][1], text[0][1]) > 1e-2
    assert "text_model" not in vars(pipe.text_encoder)


@pytest.mark.parametrize("name", ["free_noise", "free_init"])
def test_other_methods_are_refused(name):
    pipe = pipeline()
    enable, disable = getattr(pipe, f"enable_{name}"), getattr(pipe, f"disable_{name}")
    options = {"context_length": 4, "context_stride": 2} if name == "free_noise" else {}
    before = assert_captured_loop_is_the_pipeline(pipe)
    enable(**options)
    with pytest.raises(ValueError, match=rf"cannot use: call pipe.disable_{name}\(\)$"):
        FIFO(pipe)
    disable()
    with FIFO(pipe) as fifo:
        enable(**options)
        with pytest.raises(ValueError, match=rf"call pipe.disable_{name}\(\)$"):
            fifo.stream("a cat", **SMALL)
        disable()
        next(fifo.stream("a cat", seed=0, **SMALL))
    assert torch.equal(assert_captured_loop_is_the_pipeline(pipe), before)


def test_defaults_and_limits():
    with FIFO(pipeline()) as fifo:
        expected = {"guidance_scale": 7.5, "height": 16, "width": 16, "fps": 8, "eta": 0.0}
        assert (fifo.model.frames, fifo.model.defaults) == (PLACES, expected)
        with pytest.raises(ValueError, match=r"window=7: more frames than .*; use window=6 or less"):
            fifo.stream("a cat", **SMALL | {"window": 7})
    assert registry.wrap(pipeline(motion_max_seq_length=32)).frames == 16
    assert registry.wrap(pipeline(xl=True)).defaults["guidance_scale"] == 5.0  # as the pipeline's own


def test_a_unet_joined_with_a_motion_adapter():
    """As users load it: an image U-Net and an adapter."""
    from diffusers import UNet2DConditionModel

    kinds = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    kinds |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    names = ("sample_size", "block_out_channels", "norm_num_groups", "layers_per_block", "cross_attention_dim")
    unet = UNet2DConditionModel(attention_head_dim=2, **{name: UNET[name] for name in names}, **kinds)
    parts = components() | {"unet": tiny.randomize(unet, 0), "motion_adapter": tiny.randomize(motion_adapter(), 1)}
    pipe = AnimateDiffPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    assert registry.wrap(pipe).frames == PLACES
    assert_captured_loop_is_the_pipeline(pipe)


@pytest.mark.parametrize("xl", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_streams(xl):
    """Batches, windows at once, a start from a picture: all the same frames."""
    with FIFO(pipeline(xl, **LIGHT)) as fifo:
        long = frames(fifo.stream("a cat", seed=4, num_frames=7, **SMALL))
        assert same(long, frames(fifo.stream("a cat", seed=4, num_frames=7, windows_per_batch=4, **SMALL)))
        both = frames(fifo.stream(["a cat", "a dog"], seed=4, num_frames=7, **SMALL))
        assert same(both[:, 0], long)
        grown = frames(fifo.stream("a cat", seed=4, num_frames=3, start=pictures(1), include_start=True, **SMALL))
        assert grown.shape == (3, 16, 16, 3)
        clip = fifo("a cat", seed=4, num_frames=7, output_type="np", **SMALL)
    assert type(clip).__name__ == "AnimateDiffPipelineOutput"
    assert same((clip.frames[0] * 255).round().astype(np.uint8), long)


def test_a_window_of_too_many_frames_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipeline(**LIGHT).save_pretrained("model")
    run = ["generate", "a red ball", "--model", "model", "--num-partitions", "1", "--device", "cpu"]
    assert main([*run, "--window", "7", "--dry-run", "-o", "no/"]) == 2
    error = capsys.readouterr().err
    assert "use --window 6 or less" in error
    assert error.count("\n") == 1


def test_xl_autoencoder_works_in_float32():
    """It overflows in float16; the pipeline widens it for decoding, and so do we. Its weights come back unchanged."""
    pipe = pipeline(xl=True)
    pipe.vae.half()
    weights = {name: value.clone() for name, value in pipe.vae.state_dict().items()}
    latents = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    model = registry.wrap(pipe)
    found, encoded = model.decoder().push(latents), model.encode(pictures(2))
    assert pipe.vae.dtype == torch.float16
    assert all(torch.equal(value, weights[name]) for name, value in pipe.vae.state_dict().items())
    pipe.vae.float()
    torch.testing.assert_close(found, model.decoder().push(latents), rtol=0, atol=0)
    torch.testing.assert_close(encoded, model.encode(pictures(2)), rtol=0, atol=0)


# ---------------------------------------------------------------------- few steps


def test_few_step_models(monkeypatch, caplog):
    """LCM's own steps, with several frames per level."""
    pipe = pipeline()
    pipe.scheduler = LCMScheduler(beta_schedule="linear")
    draws = torch.randn(4, 1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    left = iter(draws.flip(0))
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *a, **k: next(left))
    with caplog.at_level(logging.WARNING):
        assert_captured_loop_is_the_pipeline(pipe, steps=4, draws=draws, guidance_scale=1.5)
    monkeypatch.undo()
    with FIFO(pipe) as fifo:
        few = {"frames_per_level": 2, "guidance_scale": 1.5}
        stream = fifo.stream("a cat", seed=0, num_frames=9, **SMALL | few)
        assert stream.settings.queue_layout.levels == 4
        assert len({frame.tobytes() for frame in stream}) == 9
        with pytest.raises(ValueError, match="52 levels but LCMScheduler at most 50: use frames_per_level"):
            fifo.stream("a cat", **SMALL | {"num_partitions": 13})
    assert "DDIM" not in caplog.text
