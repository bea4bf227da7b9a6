"""Streams whose windows take turns in being computed (`cache`)."""

import numpy as np
import pytest

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks

ARGUMENTS = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 1.0, "seed": 0}
NO_CONTEXT = ARGUMENTS | {"num_partitions": 3, "lookahead": False}
"""Without context: what was before the head is forgotten at once."""


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def video(fifo, prompt="a cat", count=16, **more):
    with fifo.stream(prompt, num_frames=count, **ARGUMENTS | more) as stream:
        return np.array([*stream])


def test_one_is_the_plain_loop_and_more_is_another_video(fifo):
    plain, cached = video(fifo), video(fifo, cache=2)
    assert np.array_equal(video(fifo, cache=1), plain)
    assert np.array_equal(cached[:4], plain[:4])  # the clip that opens the video
    assert not np.array_equal(cached[4:], plain[4:])


@pytest.mark.parametrize(
    ("frames", "more"),
    [
        (8, {"eta": 0.5, "cache": 3}),
        (9, {"eta": 0.5, "cache": 3}),
        (9, {"cache": 2, "layout": "rotating", "guidance_scale": 3.0, "guidance_interval": (0.2, 0.7)}),
    ],
    ids=["eta", "eta, one later", "rotating, gated"],
)
def test_it_goes_on_where_it_stood(fifo, tmp_path, frames, more):
    whole = video(fifo, **more)
    with fifo.stream("a cat", **ARGUMENTS | more) as stream:
        first = [next(stream) for _ in range(frames)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=16) as stream:
        assert np.array_equal([*first, *stream], whole)
    with pytest.raises(ValueError, match=f"the state was saved with cache={more['cache']}, not cache=4"):
        fifo.stream(start=tmp_path / "state", cache=4)
    state = RunState.load(tmp_path / "state")
    state.position = type(state.position)(**vars(state.position) | {"texts": (1, 2)})
    state.save(tmp_path / "bad")
    with pytest.raises(ValueError, match="its position has 2 texts for"):
        fifo.stream(start=tmp_path / "bad")


def computed(fifo, stream):
    """For each iteration, how many windows went through the model."""
    calls = []
    handle = fifo.pipe.unet.register_forward_pre_hook(lambda *_: calls.append(stream.iteration))
    try:
        while stream.frame_index < 14:
            next(stream)
    finally:
        handle.remove()
    return [calls.count(i) for i in range(stream.iteration)]


@pytest.mark.parametrize(("arguments", "frame"), [(ARGUMENTS, 10), (NO_CONTEXT, 11)], ids=["lookahead", "no context"])
def test_what_the_old_prompt_said_is_not_reused(fifo, tmp_path, arguments, frame):
    """Where the whole queue changes, all windows are computed, also where the run was saved just before or after the
    prompt was assigned; a change that begins at the tail costs nothing."""
    arguments = arguments | {"cache": 2, "prompt_change": "queue"}
    steady = fifo.stream("a cat", **arguments)
    whole, usual = len(steady.settings.queue_layout.step(0).windows), computed(fifo, steady)
    with fifo.stream({0: "a cat", frame: "a dog"}, **arguments) as stream:
        counts = computed(fifo, stream)
    changed = [i for i, (now, before) in enumerate(zip(counts, usual, strict=True)) if now != before]
    assert len(changed) == 1
    assert counts[changed[0]] == whole > usual[changed[0]]
    with fifo.stream("a cat", **arguments | {"prompt_change": "tail"}) as stream:
        while stream.iteration < changed[0]:
            next(stream)
        stream.prompt = "a dog"
        assert computed(fifo, stream)[changed[0] :] == usual[changed[0] :]
    for before in (True, False):
        with fifo.stream("a cat", **arguments) as stream:
            while stream.iteration < changed[0]:
                next(stream)
            if not before:
                stream.prompt = "a dog"
            stream.state().save(tmp_path / "state")
            stream.prompt = "a dog"
            expected = [next(stream) for _ in range(3)]
        with fifo.stream(start=tmp_path / "state") as stream:
            stream.prompt = "a dog"
            assert np.array_equal([next(stream) for _ in range(3)], expected)


def test_what_another_denoiser_predicted_is_not_reused(tmp_path):
    fifo = FIFO(tiny.pipeline(**tiny.LIGHT))
    with fifo.stream("a cat", cache=2, **ARGUMENTS) as stream:
        while stream.iteration < 13:
            next(stream)
        windows = stream.settings.queue_layout.step(13).windows
        fifo.pipe.unet = tiny.pipeline(**tiny.LIGHT).unet
        assert stream.state().position.texts == ()
        assert computed(fifo, stream)[13] == len(windows) > sum(not w.reuse for w in windows)


def test_a_batch_of_videos_is_the_videos_one_by_one(fifo):
    both = video(fifo, ["a cat", "a dog"], cache=2, windows_per_batch=3)
    for k, prompt in enumerate(["a cat", "a dog"]):
        alone = video(fifo, prompt, cache=2, seed=k)
        assert np.abs(both[:, k].astype(int) - alone).max() <= 1


def on_a_rank(fifo, _rank, more):
    with fifo.stream({0: "a cat", 14: "a dog"}, prompt_change="queue", **ARGUMENTS | more) as stream:
        return [next(stream) for _ in range(18)]


@pytest.mark.parametrize(
    ("ranks", "more"),
    [
        (2, {"cache": 2}),
        pytest.param(
            6, {"cache": 3, "num_partitions": 3, "lookahead": False, "guidance_scale": 3.0}, marks=pytest.mark.slow
        ),
    ],
    ids=["2", "a rank for each pass"],
)
def test_ranks_make_the_same_video(fifo, tmp_path, ranks, more):
    """What is kept goes from rank to rank with its slot."""
    alone = video(fifo, {0: "a cat", 14: "a dog"}, 18, prompt_change="queue", **more)
    first, *_ = on_ranks(on_a_rank, ranks, tmp_path / "ranks", more)
    assert np.abs(np.array(first).astype(int) - alone).max() <= 1


def test_the_cost_is_told(capsys, tmp_path):
    assert main(["generate", "a cat", "-o", str(tmp_path / "a.mp4"), "--dry-run", "--cache", "2"]) == 0
    told = capsys.readouterr().out
    assert "176 frame-forwards per frame" in told
    assert "windows in the middle every 2 iterations" in " ".join(told.split())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"num_partitions": 1}, "cache=2: no window of this queue lies between its noisiest and its cleanest levels"),
        ({"lookahead": "banded"}, "lookahead='banded': it computes the queue as one"),
        ({"compat": "published"}, "cache=2: compat='published' has none"),
    ],
)
def test_what_has_no_cache_is_refused(fifo, more, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        fifo.stream("a cat", cache=2, **ARGUMENTS | more)
