"""The UNet3D family: the contract, the recorded passes, and the pipelines as users have them."""

import warnings

import pytest
import torch
from diffusers import UNet3DConditionModel

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.unet3d import model as unet3d
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from fifo_diffusion.testing import TOLERANCE, distance, golden, tiny
from fifo_diffusion.testing.contract import VARIANT
from fifo_diffusion.testing.contract.families import UNet3DContract


class TestTextToVideo(UNet3DContract):
    """Our pipeline class."""

    def make_light_pipe(self):
        return tiny.pipeline(**tiny.LIGHT)

    def test_large_windows_on_a_cpu_take_two_passes(self, model, monkeypatch):
        condition, x, t = self.condition(model, self.prompts), self.latents(model, 2), self.rising(model, 2)
        rows, predictions = [], []
        model.pipe.unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(len(inputs[0])))
        for limit in (x[0, 0].numel() * 4, x[0, 0].numel() * 4 - 1):
            monkeypatch.setattr(unet3d, "CPU_TOGETHER_BYTES", limit)
            predictions.append(model.predict(x, t, condition))
        assert rows == [4, 2, 2]
        assert distance(*predictions) < 1e-5


@pytest.mark.slow
class TestVelocity(UNet3DContract):
    """v-prediction, DDPM-free betas as toybox has them."""

    without = VARIANT

    def make_pipe(self):
        pipe = tiny.pipeline()
        pipe.scheduler = tiny.scheduler(beta_schedule="linear", beta_end=0.02, prediction_type="v_prediction")
        return pipe


@pytest.mark.slow
class TestStock(UNet3DContract):
    """diffusers' own, deprecated class, as long as it is there."""

    without = VARIANT

    def make_pipe(self):
        diffusers = pytest.importorskip("diffusers")
        if not hasattr(diffusers, "TextToVideoSDPipeline"):
            pytest.skip("diffusers has removed TextToVideoSDPipeline")
        pipe = diffusers.TextToVideoSDPipeline(**tiny.components())
        pipe.set_progress_bar_config(disable=True)
        return pipe


@pytest.mark.parametrize("case", ["f4", "f16", "f6_b2", "uniform_f4"])
def test_recorded_passes(case):
    weights, meta = golden.load("unet3d")
    unet = UNet3DConditionModel(**meta["config"]).eval()
    unet.load_state_dict(weights)
    recorded, _ = golden.load("forward_unet3d")
    x, t, text, expected = (recorded[f"{case}.{name}"] for name in ("x", "timesteps", "context", "out"))

    def run(t):
        with hooks.active(t), torch.no_grad():
            return unet(x, t[:, 0], encoder_hidden_states=text).sample

    hooks = PerFrameHooks(unet)
    assert distance(run(t), expected) < 1e-5
    if case != "uniform_f4":
        assert distance(run(t.roll(1, 1)), expected) > 1e-2


def test_our_pipeline_gives_what_diffusers_own_gives():
    diffusers = pytest.importorskip("diffusers")
    if not hasattr(diffusers, "TextToVideoSDPipeline"):
        pytest.skip("diffusers has removed TextToVideoSDPipeline")
    parts = tiny.components()
    call = {"prompt": ["a cat", "a dog"], "negative_prompt": ["night", "sea"], "num_frames": 3, "output_type": "pt"}
    call |= {"num_inference_steps": 3, "guidance_scale": 4.0, "eta": 0.5}
    frames = []
    for pipeline in (diffusers.TextToVideoSDPipeline, tiny.TextToVideoPipeline):
        pipe = pipeline(**parts)
        pipe.set_progress_bar_config(disable=True)
        frames.append(pipe(**call, generator=torch.Generator().manual_seed(0)).frames)
    torch.testing.assert_close(frames[1], frames[0], rtol=1e-4, atol=1e-5)


def ready(pipe):
    """A model, its condition and one window with rising timesteps."""
    model = registry.wrap(pipe)
    condition = model.condition(["a red ball"], height=16, width=16, guidance_scale=3.0)
    x = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model, condition, x, torch.tensor([[100, 300, 500, 700]])


def test_clip_skip_counts_from_the_last_layer(pipe):
    """None and 0 mean the same; 1 does not. (diffusers' own class fails here with transformers 5.)"""
    embeddings = [pipe.encode_text(["a red ball"], skip) for skip in (None, 0, 1)]
    torch.testing.assert_close(embeddings[1], embeddings[0])
    assert distance(embeddings[2], embeddings[0]) > 1e-2


def test_more_layers_are_skipped_than_there_are(pipe):
    with FIFO(pipe) as fifo, pytest.raises(ValueError, match="clip_skip is 99, and the text encoder has 2 layers: use"):
        fifo.stream("a cat", clip_skip=99, window=4, num_partitions=1)


def test_another_attention_backend():
    pipe = tiny.pipeline()
    model, condition, x, t = ready(pipe)
    expected = model.predict(x, t, condition)
    from diffusers.models.attention_processor import AttnProcessor

    pipe.unet.set_attn_processor(AttnProcessor())
    assert distance(model.predict(x, t, condition), expected) < 1e-4


@pytest.mark.parametrize(
    "when", ["before, and used", *(pytest.param(w, marks=pytest.mark.slow) for w in ("before", "after"))]
)
def test_compiled_by_another_module(when):
    """`pipe.unet = torch.compile(pipe.unet)`; the contract compiles in place. Hooks work, timesteps may change from
    call to call, and afterwards the compiled module is the stock one."""
    small = tiny.LIGHT
    model, condition, x, t = ready(tiny.pipeline(**small))
    expected = [model.predict(x, times, condition) for times in (t, t + 50)]
    torch.compiler.reset()
    pipe = tiny.pipeline(**small)
    if when != "after":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    if when == "before, and used":
        pipe("a dog", num_frames=4, height=16, width=16, num_inference_steps=1, output_type="latent")
    model, condition, x, t = ready(pipe)
    if when == "after":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    for times, right in zip((t, t + 50), expected, strict=True):
        assert distance(model.predict(x, times, condition), right) < TOLERANCE
    model.close()
    found, right = (
        unet(x, 100, encoder_hidden_states=condition.text[1]).sample.detach()
        for unet in (pipe.unet, tiny.unet(**small))
    )
    assert distance(found, right) < TOLERANCE


def test_no_warning_of_diffusers_reaches_users(tmp_path, caplog, capfd):
    """A folder of the deprecated class loads with ours, silently."""
    import json

    tiny.pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["_class_name"] = "TextToVideoSDPipeline"
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = find_model(tmp_path).load()
    assert type(pipe).__name__ == "TextToVideoPipeline"
    assert "deprecated" not in caplog.text + capfd.readouterr().err


def test_published_profile_is_refused_where_nothing_was_published(pipe):
    with pytest.raises(ValueError, match="no published FIFO code"):
        registry.wrap(pipe).levels(8, published=True)


def test_sizes_that_do_not_fit_name_the_nearest(pipe):
    with pytest.raises(ValueError, match="multiples of 2: use 16 and 12"):
        registry.wrap(pipe).latent_shape(16, 11)


def test_weights_loaded_for_a_cpu_lie_as_its_kernels_want_them(tmp_path):
    """Only how they lie in memory changes, of what `from_pretrained` loads."""
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "as it was")
    loaded = FIFO.from_pretrained(tmp_path / "as it was", device="cpu").pipe
    plain = type(loaded).from_pretrained(tmp_path / "as it was")
    assert FIFO(plain).pipe is plain

    for part, original in ((loaded.unet, plain.unet), (loaded.vae, plain.vae)):
        kernels = [w for w in part.parameters() if w.dim() == 4 and w.shape[-1] > 1]
        assert kernels
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels)
        assert all(w.is_contiguous() for w in original.parameters())

    config = loaded.unet.config
    inputs = (torch.randn(2, config.in_channels, 4, 8, 8), 500, torch.randn(2, 7, config.cross_attention_dim))
    seen = []
    hook = loaded.unet.conv_out.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.no_grad():
        assert distance(loaded.unet(*inputs)[0], plain.unet(*inputs)[0]) < 1e-5
        assert distance(loaded.vae.decode(inputs[0][:, :, 0])[0], plain.vae.decode(inputs[0][:, :, 0])[0]) < 1e-5
    hook.remove()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)  # nothing between the layers turned it back

    loaded.save_pretrained(tmp_path / "saved")
    again = type(loaded).from_pretrained(tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(again.unet.parameters(), plain.unet.parameters(), strict=True))
