"""One pass of the whole queue: who sees whom in each kind of layer, in the U-Net, and in a running stream."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Barrier

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

from fifo_diffusion import FIFO
from fifo_diffusion.execution.own_frames import OwnFrames
from fifo_diffusion.method import QueueLayout
from fifo_diffusion.models import registry
from fifo_diffusion.models.banded import layers as banded_layers
from fifo_diffusion.models.banded import passes as banded
from fifo_diffusion.models.banded.passes import BandedPass
from fifo_diffusion.models.banded.table import BandTable
from fifo_diffusion.models.unet3d import model as unet3d
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.testing import TOLERANCE, distance, tiny, tiny_animatediff, tiny_videocrafter

LAYOUTS = [
    QueueLayout(4, 3, False),
    QueueLayout(5, 2, False),
    QueueLayout(4, 3, "banded"),
    QueueLayout(4, 3, "banded", band="windows"),
    QueueLayout(5, 3, "banded", band="windows"),
    QueueLayout(5, 2, "banded", band=0),
    QueueLayout(6, 2, "banded", band=5),
]
CPU = torch.device("cpu")
PROMPTS = ("a red ball", "a dog on the sea by night")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipeline()


@pytest.fixture(scope="module")
def model(pipe):
    model = wrap(pipe)
    yield model
    model.close()


def wrap(pipe):
    model = registry.wrap(pipe)
    model.frames = 4  # no more than tests need
    return model


def condition(model, prompts=PROMPTS[:1], **more):
    return model.condition(prompts, height=16, width=16, **{"guidance_scale": 3.0} | more)


def queue(model, layout, rows=1, seed=0):
    """Latents and timesteps of all padded slots."""
    timestep = model.levels(layout.levels).timestep[list(layout.slot_levels)]
    return random(rows, 4, layout.size, 8, 8, seed=seed), timestep.expand(rows, -1)


def window_by_window(model, layout, x, t, given):
    return torch.cat([model.predict(x[:, :, w.read], t[:, w.read], given) for w in layout.windows], 2)


# ---------------------------------------------------------------------------- layers


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_frame_attends_to_its_band_only(layout, pipe):
    """Against the stock processor on the frames of the band, one frame after the other."""
    layer = temporal_block(pipe).attn1
    assert_each_sees_its_band(
        layout, layer, lambda bands, x: banded_layers.BandedAttention(BandTable(bands, CPU))(layer, x)
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_frame_has_the_place_of_its_window_in_every_band(layout):
    """AnimateDiff's layers are given frames with their places in the window added: of every band, as if it were one."""
    block = temporal_block(tiny_animatediff.pipeline())
    places = block.pos_embed.pe[0, : layout.frames]

    def found(bands, hidden):
        return banded_layers.PlacedBandedAttention(BandTable(bands, CPU), places)(block.attn1, hidden)

    assert_each_sees_its_band(layout, lambda x: block.attn1(block.pos_embed(x)), found, block.attn1.query_dim)
    hidden = random(6, layout.size, block.attn1.query_dim)
    with torch.no_grad():
        unplaced = banded_layers.BandedAttention(BandTable(layout.bands, CPU))(block.attn1, hidden)
        assert distance(unplaced, found(layout.bands, hidden)) > 1e-2


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_distances_between_frames_are_what_they_are(layout):
    """VideoCrafter1's layers know how far frames are apart; here up to two, so that farther ones are there too."""
    layer = temporal_block(tiny_videocrafter.light("vc1_512")).attn1

    def found(bands, hidden):
        return banded_layers.RelativeBandedAttention(BandTable(bands, CPU), layer)(hidden)

    assert_each_sees_its_band(layout, layer, found, layer.query_dim)


def temporal_block(pipe):
    return next(m for m in pipe.unet.modules() if isinstance(m, banded.TEMPORAL)).transformer_blocks[0]


def assert_each_sees_its_band(layout, layer, found, width=None):
    """`found(bands, hidden)` against the layer on the frames of one band after the other."""
    hidden = random(6, layout.size, width or layer.to_q.in_features)
    with torch.no_grad():
        right = found(layout.bands, hidden)
        for p, band in enumerate(layout.bands):
            expected = layer(hidden[:, band.start : band.stop])[:, p - band.start]
            assert distance(right[:, p], expected) < TOLERANCE
        assert distance(found(shifted(layout), hidden), right) > 1e-2


def shifted(layout):
    """Bands moved by one frame where that leaves them in the queue, and the frame in its band."""
    bands = []
    for p, band in enumerate(layout.bands):
        moved = (range(band.start + by, band.stop + by) for by in (-1, 1))
        bands.append(next((b for b in moved if p in b and b.start >= 0 and b.stop <= layout.size), band))
    return tuple(bands)


def test_rows_beyond_what_a_kernel_takes(pipe, monkeypatch):
    layer = temporal_block(pipe).attn1
    table, hidden = BandTable(LAYOUTS[2].bands, CPU), random(7, LAYOUTS[2].size, layer.to_q.in_features)
    with torch.no_grad():
        expected = banded_layers.BandedAttention(table)(layer, hidden)
        monkeypatch.setattr(banded_layers, "MOST_ROWS", 16)
        assert distance(banded_layers.BandedAttention(table)(layer, hidden), expected) < 1e-6


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_norm_pools_over_the_band(layout, dtype, affine):
    hidden = random(2, 8, layout.size, 3, 5).add(3).mul(random(1, 1, layout.size, 1, 1, seed=1)).to(dtype)
    weight = random(2, 8, seed=2).to(dtype) if affine else (None, None)
    found = banded_layers.banded_group_norm(BandTable(layout.bands, CPU), hidden, 4, *weight, eps=1e-5)
    assert (found.dtype, found.shape) == (dtype, hidden.shape)
    for p, band in enumerate(layout.bands):
        expected = F.group_norm(hidden[:, :, band.start : band.stop], 4, *weight, eps=1e-5)[:, :, p - band.start]
        assert distance(found[:, :, p], expected) < (TOLERANCE if dtype is torch.float32 else 0.01)
    assert distance(found, F.group_norm(hidden, 4, *weight, eps=1e-5)) > 0.05


def test_convolutions_run_along_the_queue_and_stop_where_nobody_sees_across():
    for layout in LAYOUTS:
        runs = BandTable(layout.bands, CPU).runs
        assert runs == ([layout.size] if layout.lookahead else [layout.frames] * layout.partitions)


def test_blocks_of_attention_do_not_grow_with_the_queue():
    """Only the band is computed, up to a small factor, for all lengths that a queue takes while it is filled."""
    for band in ("windows", 11):
        layout = QueueLayout(16, 8, "banded", band=band)
        for count in range(16, layout.size + 1):
            table = BandTable(layout.last_bands(count), CPU)
            assert count <= table.queries.numel() < count + len(table.queries)
            assert table.queries.shape[1] < 3 * 16
            assert table.keys.shape[1] < 3.25 * 16


# ---------------------------------------------------------------------------- the U-Net


def videocrafter():
    return tiny_videocrafter.pipeline("vc2")


def videocrafter1():
    return tiny_videocrafter.pipeline("vc1_1024")


def animatediff_xl():
    return tiny_animatediff.pipeline(xl=True)


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


@pytest.mark.parametrize("layout", [QueueLayout(4, 3, "banded"), QueueLayout(5, 2, "banded", band="windows")], ids=str)
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
    layout = QueueLayout(4, 3, "banded")
    x, t = queue(model, layout)
    given = condition(model)
    right = model.predict_banded(x, t, given, bands=layout.bands)
    wrong = {
        "another band": model.predict_banded(x, t, given, bands=QueueLayout(4, 3, "banded", band=1).bands),
        "no band": model.predict(x, t, given),
        "timesteps shifted by one slot": model.predict_banded(x, t.roll(1, 1), given, bands=layout.bands),
        "queue shifted by one frame": model.predict_banded(x.roll(1, 2), t, given, bands=layout.bands),
        "text swapped": model.predict_banded(x, t, condition(model, PROMPTS[1:]), bands=layout.bands),
    }
    for name, found in wrong.items():
        assert distance(found, right) > 100 * TOLERANCE, name


def test_one_text_per_frame(model, monkeypatch):
    layout = QueueLayout(4, 2, "banded")
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
    model, layout = wrap(make()), QueueLayout(4, 3, "banded")
    x, t = queue(model, layout)
    conditions = [condition(model, (prompt,)) for prompt in PROMPTS]
    expected = model.predict_banded(x, t, conditions[1], bands=layout.bands)
    same = model.mix(conditions, torch.tensor([0.0, 1.0]).expand(1, layout.size, 2))
    assert distance(model.predict_banded(x, t, same, bands=layout.bands, chunks=3), expected) < TOLERANCE
    for name, found in {
        "another text": model.predict_banded(x, t, conditions[0], bands=layout.bands),
        "timesteps shifted by one slot": model.predict_banded(x, t.roll(1, 1), conditions[1], bands=layout.bands),
        "another band": model.predict_banded(x, t, conditions[1], bands=QueueLayout(4, 3, "banded", band=1).bands),
    }.items():
        assert distance(found, expected) > 100 * TOLERANCE, name


@pytest.mark.parametrize("make", [tiny.pipeline, tiny_animatediff.pipeline, videocrafter1])
def test_nothing_stays_behind(make, monkeypatch):
    pipe = make()
    own = AttnProcessor2_0()
    pipe.unet.set_attn_processor(own)
    model, layout = wrap(pipe), QueueLayout(4, 2, "banded")
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
    layout = QueueLayout(4, 2, "banded")
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
        model, layout = wrap(pipe), QueueLayout(4, 2, "banded")
        given = condition(model)
        x, t = queue(model, layout)
        for _ in range(2):
            results.append(model.predict_banded(x, t, given, bands=layout.bands))
            results.append(model.predict(x[:, :, :4], t[:, :4], given))
            results.append(model.predict_banded(x, t, given, bands=layout.bands, chunks=2))
    for right, found in zip(results[:6], results[6:], strict=True):
        assert distance(found, right) < TOLERANCE


# ---------------------------------------------------------------------------- several processes


class Thread:
    """One of several processes, as a thread."""

    def __init__(self, rank, size, tables, barrier):
        self.rank, self.size, self._tables, self._barrier = rank, size, tables, barrier

    def gather_parts(self, mine):
        self._tables[self.rank] = mine
        self._barrier.wait(60)
        found = list(self._tables)
        self._barrier.wait(60)
        assert all(part.shape == mine.shape for part in found)
        return found


def side_by_side(size, work):
    """`work(together)` on every one of so many ranks."""
    tables, barrier = [None] * size, Barrier(size)

    def run(rank):
        try:
            return work(Thread(rank, size, tables, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("frames", [4, 9, 12])
def test_parts_cover_the_queue_once(size, frames):
    values = torch.arange(frames)[None]

    def work(together):
        own = OwnFrames(frames, together)
        mine = values[:, own.range.start : own.range.stop]
        assert torch.equal(own.whole(mine, 1), values)
        before, after = own.around(mine, 1, 1)
        assert before.flatten().tolist() == [own.range.start - 1] * (own.range.start > 0)
        assert after.flatten().tolist() == [own.range.stop] * (own.range.stop < frames)
        return own.range

    parts = side_by_side(size, work)
    assert [p for part in parts[:frames] for p in part] == [*range(frames)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (tiny.pipeline, QueueLayout(4, 3, "banded")),
        (tiny.pipeline, QueueLayout(5, 2, False)),
        (videocrafter1, QueueLayout(4, 3, "banded")),
        (animatediff_xl, QueueLayout(4, 2, "banded")),
    ],
)
def test_several_processes_share_the_queue(make, layout, monkeypatch):
    """With one text per frame; and what they tell each other counts."""

    def predict(together=None, **more):
        model = wrap(make())
        x, t = queue(model, layout, 2)
        conditions = [condition(model, (prompt,) * 2) for prompt in PROMPTS]
        weight = torch.linspace(0, 1, layout.size)[:, None] * torch.tensor([1.0, -1]) + torch.tensor([0.0, 1])
        given = model.mix(conditions, weight.expand(1, -1, -1))
        found = model.predict_banded(x, t, given, bands=layout.bands, together=together, **more)
        model.close()
        return found

    whole = predict()
    for size, chunks in ((3, 1), (2, 3)):
        for found in side_by_side(size, lambda together, chunks=chunks: predict(together, chunks=chunks)):
            assert found.shape == whole.shape
            assert distance(found, whole) < TOLERANCE
    monkeypatch.setattr(Thread, "gather_parts", lambda self, mine: [mine] * self.size)
    deaf, part = side_by_side(3, predict)[1], OwnFrames(layout.size, Thread(1, 3, [], None)).range
    assert distance(deaf[:, :, part], whole[:, :, part]) > 100 * TOLERANCE


# ---------------------------------------------------------------------------- what cannot be banded


def test_models_that_cannot_be_banded_say_what_to_use_instead(fifo, monkeypatch):
    call = {"prompt": "a cat", "lookahead": "banded"}
    with pytest.raises(ValueError, match="lookahead='banded': Linear cannot do it; use lookahead=True"):
        BandedPass.check(torch.nn.Linear(1, 1))
    block = temporal_block(fifo.model.pipe)
    with monkeypatch.context() as patch:
        patch.setattr(block, "pos_embed", torch.nn.Identity())
        with pytest.raises(ValueError, match="temporal positions of this kind cannot do it"):
            fifo.stream(**call)
    with monkeypatch.context() as patch:
        patch.setattr(block.attn2, "is_cross_attention", True)
        with pytest.raises(ValueError, match="temporal attention of this kind cannot do it"):
            fifo.stream(**call)
    for attribute, value in (("processor", lambda *a, **k: a[1]), ("__class__", type("Relative", (Attention,), {}))):
        with monkeypatch.context() as patch:  # their own way to attend would be lost
            patch.setattr(block.attn1, attribute, value)
            with pytest.raises(ValueError, match="temporal attention of this kind cannot do it"):
                fifo.stream(**call)
    with monkeypatch.context() as patch:
        patch.delattr(UNet3DModel, "predict_banded")
        with pytest.raises(ValueError, match=r"UNet3D models cannot do .* use lookahead=True"):
            fifo.stream(**call)
    with pytest.raises(ValueError, match="compat='published' has none; use lookahead=True"):
        fifo.stream(**call, compat="published")
    with pytest.raises(ValueError, match="lookahead='band': give True, False or 'banded'"):
        fifo.stream("a cat", lookahead="band")


# ---------------------------------------------------------------------------- streams

SMALL = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 3.0, "lookahead": "banded"}


@pytest.fixture(scope="module")
def fifo():
    with FIFO(None, model=wrap(tiny.pipeline(**tiny.LIGHT))) as fifo:
        yield fifo


def frames(stream, count=None):
    return np.stack(list(islice(stream, count))).astype(int)


def test_a_stream_sends_the_whole_queue_through_the_model_once_per_frame(fifo, monkeypatch):
    calls = []

    def counted(predict):
        return lambda x, *a, **k: calls.append((x.shape[2], k)) or predict(x, *a, **k)

    for name in ("predict", "predict_banded"):
        monkeypatch.setattr(fifo.model, name, counted(getattr(fifo.model, name)))
    stream = fifo.stream("a cat", seed=0, **SMALL)
    video, layout = frames(stream, 7), stream.settings.layout
    assert [count for count, _ in calls[8:]] == [4, 5, 6, 7, 8, 9, 10, 10, 10, 10]  # fill, then all
    assert calls[8][1] == {}  # four frames are a window
    assert [k["bands"] for _, k in calls[9:]] == [layout.last_bands(count) for count, _ in calls[9:]]
    assert sum(count for count, _ in calls[8:16]) == layout.fill_forwards
    other = frames(fifo.stream("a cat", seed=0, num_frames=7, **SMALL | {"lookahead": True}))
    assert np.array_equal(video[:4], other[:4])  # the opening clip
    assert np.abs(video[4:] - other[4:]).max() > 3


def test_two_videos_are_each_alone_and_chunks_do_not_show(fifo):
    both = frames(fifo.stream(["a cat", "a dog"], seed=[1, 2], num_frames=7, windows_per_batch=3, **SMALL))
    for k, prompt in enumerate(("a cat", "a dog")):
        alone = frames(fifo.stream(prompt, seed=1 + k, num_frames=7, windows_per_batch=1, **SMALL))
        assert np.abs(both[:, k] - alone).max() <= 1


@pytest.mark.parametrize("change", ["tail", "blend"])
def test_a_prompt_assigned_while_running_is_a_schedule(fifo, change):
    stream = fifo.stream("a cat", seed=0, prompt_change=change, **SMALL)
    first = frames(stream, 6)
    at = stream._change_frame()
    stream.prompt = "a dog"
    video = np.concatenate([first, frames(stream, 9)])
    schedule = {0: "a cat", at: "a cat", at + 8: "a dog"} if change == "blend" else {0: "a cat", at: "a dog"}
    planned = frames(fifo.stream(schedule, seed=0, num_frames=15, prompt_change=change, **SMALL))
    assert np.abs(video - planned).max() <= 1
    assert np.abs(video - frames(fifo.stream("a cat", seed=0, num_frames=15, **SMALL))).max() > 2


def test_given_frames_are_a_past(fifo):
    """Only the last f count, as with windows, and another past is another video."""
    past = [np.random.default_rng(k).integers(0, 255, (16, 16, 3), np.uint8) for k in range(6)]
    videos = [frames(fifo.stream("a cat", seed=0, num_frames=3, start=given, **SMALL)) for given in (past, past[2:])]
    assert np.array_equal(*videos)
    other = frames(fifo.stream("a cat", seed=0, num_frames=3, start=[*past[:5], past[0]], **SMALL))
    assert np.abs(other - videos[0]).max() > 3


def test_out_of_memory_cuts_the_pass_into_more_chunks(fifo, monkeypatch):
    predict, chunks, quick = (
        fifo.model.predict_banded,
        [],
        SMALL | {"guidance_scale": 1.0, "start": "noise", "windows_per_batch": 3},
    )

    def small(*arguments, **banding):
        chunks.append(banding["chunks"])
        if chunks[-1] < 3:
            raise torch.OutOfMemoryError("out of memory")
        return predict(*arguments, **banding)

    expected = frames(fifo.stream("a cat", seed=0, num_frames=3, **quick))
    monkeypatch.setattr(fifo.model, "predict_banded", small)
    assert np.abs(frames(fifo.stream("a cat", seed=0, num_frames=3, **quick)) - expected).max() <= 1
    assert chunks[:2] == [1, 3]
    assert set(chunks[1:]) == {3}
    monkeypatch.setattr(
        fifo.model, "predict_banded", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        next(fifo.stream("a cat", seed=0, **quick))
