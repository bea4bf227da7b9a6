"""Banded passes in streams and on several processes, and what is said of models that cannot be banded."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Barrier

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention

from banding import (
    PROMPTS,
    animatediff_xl,
    condition,
    queue,
    temporal_block,
    videocrafter1,
    wrap,
)
from fifo_diffusion import FIFO
from fifo_diffusion.execution.frame_shard import FrameShard
from fifo_diffusion.method import BandedLayout, QueueLayout
from fifo_diffusion.models.banded.passes import BandedPass
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.testing import TOLERANCE, distance, tiny


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
        own = FrameShard(frames, together)
        mine = values[:, own.range.start : own.range.stop]
        assert torch.equal(own.gather(mine, 1), values)
        before, after = own.halo(mine, 1, 1)
        assert before.flatten().tolist() == [own.range.start - 1] * (own.range.start > 0)
        assert after.flatten().tolist() == [own.range.stop] * (own.range.stop < frames)
        return own.range

    parts = side_by_side(size, work)
    assert [p for part in parts[:frames] for p in part] == [*range(frames)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (tiny.pipeline, BandedLayout(4, 3)),
        pytest.param(tiny.pipeline, QueueLayout(5, 2, False), marks=pytest.mark.slow),
        (videocrafter1, BandedLayout(4, 3)),
        pytest.param(animatediff_xl, BandedLayout(4, 2), marks=pytest.mark.slow),
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
    deaf, part = side_by_side(3, predict)[1], FrameShard(layout.size, Thread(1, 3, [], None)).range
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
    video, layout = frames(stream, 7), stream.settings.queue_layout
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


@pytest.mark.parametrize("change", [pytest.param("tail", marks=pytest.mark.slow), "blend"])
def test_a_prompt_assigned_while_running_is_a_schedule(fifo, change):
    stream = fifo.stream("a cat", seed=0, prompt_change=change, **SMALL)
    first = frames(stream, 6)
    at = stream.change_frame
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
