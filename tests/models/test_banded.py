"""One pass of the whole queue through a U-Net: who sees whom, in chunks, with a text per frame, on any pipeline."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from banding import PROMPTS, animatediff_xl, condition, queue, shifted, videocrafter1, wrap
from fifo_diffusion.method import BandedLayout, QueueLayout
from fifo_diffusion.models.banded import passes as banded
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.unet3d import model as unet3d
from fifo_diffusion.testing import TOLERANCE, distance, tiny, tiny_animatediff, tiny_videocrafter


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipeline()


@pytest.fixture(scope="module")
def model(pipe):
    model = wrap(pipe)
    yield model
    model.close()


def window_by_window(model, layout, x, t, given):
    return torch.cat([model.predict(x[:, :, w.read], t[:, w.read], given) for w in layout.windows], 2)


def videocrafter():
    return tiny_videocrafter.pipeline("vc2")


FAMILIES = {
    tiny.pipeline: (4, 3),
    videocrafter: (5, 2),
    videocrafter1: (4, 3),
    tiny_animatediff.pipeline: (5, 2),
    animatediff_xl: (4, 2),
}


@pytest.mark.parametrize(("make", "size"), FAMILIES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_bands_that_are_disjoint_windows_are_partitions(make, size, monkeypatch):
    """And every part of it counts: without one of them the result is far off."""
    model, layout = wrap(make()), QueueLayout(*size, False)
    given = condition(model, PROMPTS)
    x, t = queue(model, layout, 2)
    expected = window_by_window(model, layout, x, t, given)
    assert distance(model.predict_banded(x, t, given, bands=layout.bands), expected) < TOLERANCE

    wrong = {"band shifted by a frame": model.predict_banded(x, t, given, bands=shifted(layout))}

    class AllSeen(BandTable):
        seen = property(lambda self: torch.arange(layout.size).expand(layout.size, -1), lambda self, value: None)

    class Uncut(BandTable):
        runs = property(lambda self: [layout.size], lambda self, value: None)

    mutations = {
        "norms over the queue": (unet3d, "BandTable", AllSeen),
        "convolutions not cut": (unet3d, "BandTable", Uncut),
        "stock attention": (banded, "attention_of", lambda block: []),
    }
    if not any(isinstance(m, TemporalConvLayer) for m in model.pipe.unet.modules()):
        del mutations["convolutions not cut"]
    for name, change in mutations.items():
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            wrong[name] = model.predict_banded(x, t, given, bands=layout.bands)
    for name, found in wrong.items():
        assert distance(found, expected) > 100 * TOLERANCE, name


@pytest.mark.parametrize("layout", [BandedLayout(4, 3), BandedLayout(5, 2, band="windows")], ids=str)
def test_chunks_and_batches_change_nothing(layout, model, monkeypatch):
    """Nor do the videos of a batch see each other."""
    x, t = queue(model, layout, 2)
    given = condition(model, PROMPTS)
    whole = model.predict_banded(x, t, given, bands=layout.bands)
    most, forward = [], ResnetBlock2D.forward
    monkeypatch.setattr(
        ResnetBlock2D, "forward", lambda self, x, *a, **k: most.append(len(x)) or forward(self, x, *a, **k)
    )
    for chunks in (2, 3, 7):
        found = model.predict_banded(x, t, given, bands=layout.bands, chunks=chunks)
        assert distance(found, whole) < TOLERANCE
    assert max(most) == 2 * len(x) * layout.size // 2  # with guidance, in two chunks
    assert most[-1] <= -(-2 * len(x) * layout.size // 7)
    for k, prompt in enumerate(PROMPTS):
        alone = model.predict_banded(x[k : k + 1], t[:1], condition(model, (prompt,)), bands=layout.bands)
        assert distance(alone, whole[k : k + 1]) < TOLERANCE


def test_mutations_of_a_sliding_band_miss_the_tolerance_by_far(model):
    layout = BandedLayout(4, 3)
    x, t = queue(model, layout)
    given = condition(model)
    right = model.predict_banded(x, t, given, bands=layout.bands)
    wrong = {
        "another band": model.predict_banded(x, t, given, bands=BandedLayout(4, 3, band=1).bands),
        "no band": model.predict(x, t, given),
        "timesteps shifted by one slot": model.predict_banded(x, t.roll(1, 1), given, bands=layout.bands),
        "queue shifted by one frame": model.predict_banded(x.roll(1, 2), t, given, bands=layout.bands),
        "text swapped": model.predict_banded(x, t, condition(model, PROMPTS[1:]), bands=layout.bands),
    }
    for name, found in wrong.items():
        assert distance(found, right) > 100 * TOLERANCE, name


def test_one_text_per_frame(model, monkeypatch):
    layout = BandedLayout(4, 2)
    x, t = queue(model, layout)
    conditions = [condition(model, (prompt,)) for prompt in PROMPTS]
    same = model.mix(conditions, torch.tensor([0.0, 1.0]).expand(1, layout.size, 2))
    expected = model.predict_banded(x, t, conditions[1], bands=layout.bands)
    assert distance(model.predict_banded(x, t, same, bands=layout.bands), expected) < TOLERANCE
    changed = torch.tensor([1.0, 0.0]).expand(1, layout.size, 2).clone()
    changed[:, 7:] = torch.tensor([0.0, 1.0])
    monkeypatch.setattr(TransformerTemporalModel, "forward", lambda self, x, *a, **k: (x,))
    monkeypatch.setattr(TemporalConvLayer, "forward", lambda self, x, *a, **k: x)
    found = model.predict_banded(x, t, model.mix(conditions, changed), bands=layout.bands)
    first, second = (model.predict_banded(x, t, given, bands=layout.bands) for given in conditions)
    assert distance(found[:, :, :7], first[:, :, :7]) < TOLERANCE
    assert distance(found[:, :, 7:], second[:, :, 7:]) < TOLERANCE
    assert distance(first, second) > 100 * TOLERANCE


@pytest.mark.parametrize("make", [animatediff_xl, videocrafter1])
def test_other_families_in_chunks_with_texts_per_frame(make):
    model, layout = wrap(make()), BandedLayout(4, 3)
    x, t = queue(model, layout)
    conditions = [condition(model, (prompt,)) for prompt in PROMPTS]
    expected = model.predict_banded(x, t, conditions[1], bands=layout.bands)
    same = model.mix(conditions, torch.tensor([0.0, 1.0]).expand(1, layout.size, 2))
    assert distance(model.predict_banded(x, t, same, bands=layout.bands, chunks=3), expected) < TOLERANCE
    for name, found in {
        "another text": model.predict_banded(x, t, conditions[0], bands=layout.bands),
        "timesteps shifted by one slot": model.predict_banded(x, t.roll(1, 1), conditions[1], bands=layout.bands),
        "another band": model.predict_banded(x, t, conditions[1], bands=BandedLayout(4, 3, band=1).bands),
    }.items():
        assert distance(found, expected) > 100 * TOLERANCE, name


@pytest.mark.parametrize("make", [tiny.pipeline, tiny_animatediff.pipeline, videocrafter1])
def test_nothing_stays_behind(make, monkeypatch):
    pipe = make()
    own = AttnProcessor2_0()
    pipe.unet.set_attn_processor(own)
    model, layout = wrap(pipe), BandedLayout(4, 2)
    given = condition(model)
    x, t = queue(model, layout)
    before = {name: dict(vars(module)) for name, module in pipe.unet.named_modules()}
    plain = model.predict(x[:, :, :4], t[:, :4], given)

    def unchanged():
        after = {name: dict(vars(module)) for name, module in pipe.unet.named_modules()}
        assert all(after[name].keys() == held.keys() for name, held in before.items())
        assert set(pipe.unet.attn_processors.values()) == {own}
        assert torch.equal(model.predict(x[:, :, :4], t[:, :4], given), plain)

    model.predict_banded(x, t, given, bands=layout.bands, chunks=2)
    unchanged()
    with monkeypatch.context() as patch:
        patch.setattr(F, "silu", lambda *a, **k: 1 / 0)
        patch.setattr(torch.nn.SiLU, "forward", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.predict_banded(x, t, given, bands=layout.bands, chunks=2)
    unchanged()


def changed_pipe(how):
    pipe = tiny.pipeline()
    if how == "attention backend":
        pipe.unet.set_attn_processor(AttnProcessor())
    elif how == "offloaded by leaves":
        pipe.unet.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")
    elif how == "half precision":
        pipe.to(torch.bfloat16)
    return pipe


@pytest.mark.parametrize("how", ["attention backend", "offloaded by leaves", "half precision"])
def test_pipelines_as_users_have_them(how, model):
    layout = BandedLayout(4, 2)
    x, t = queue(model, layout)
    expected = model.predict_banded(x, t, condition(model), bands=layout.bands)
    other = wrap(changed_pipe(how))
    for chunks in (1, 2):
        found = other.predict_banded(x, t, condition(other), bands=layout.bands, chunks=chunks)
        assert distance(found, expected) < (0.06 if how == "half precision" else TOLERANCE)


def test_adapters_count(model):
    peft = pytest.importorskip("peft")
    pipe = tiny.pipeline()
    other, layout = wrap(pipe), QueueLayout(4, 2, False)
    x, t = queue(other, layout)
    given = condition(other)
    plain = other.predict_banded(x, t, given, bands=layout.bands)
    config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_out.0"])
    peft.inject_adapter_in_model(config, pipe.unet)
    found = other.predict_banded(x, t, given, bands=layout.bands)
    assert distance(found, window_by_window(other, layout, x, t, given)) < TOLERANCE
    assert distance(found, plain) > 1e-3


@pytest.mark.slow
def test_compiled():
    """Banded and windows in turns, however often."""
    small = {"block_out_channels": (64,)}
    small |= {"down_block_types": ("CrossAttnDownBlock3D",), "up_block_types": ("CrossAttnUpBlock3D",)}
    torch.compiler.reset()
    results = []
    for compiled in (False, True):
        pipe = tiny.pipeline(**small)
        if compiled:
            pipe.unet = torch.compile(pipe.unet, backend="eager")
        model, layout = wrap(pipe), BandedLayout(4, 2)
        given = condition(model)
        x, t = queue(model, layout)
        for _ in range(2):
            results.append(model.predict_banded(x, t, given, bands=layout.bands))
            results.append(model.predict(x[:, :, :4], t[:, :4], given))
            results.append(model.predict_banded(x, t, given, bands=layout.bands, chunks=2))
    for right, found in zip(results[:6], results[6:], strict=True):
        assert distance(found, right) < TOLERANCE
