"""Streams whose windows all see a few latents that stay (`anchors`)."""

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks
from streams import SMALL

RUN = SMALL | {"guidance_scale": 1.0, "seed": 5, "num_frames": 14}
ANCHORED = RUN | {"window": 5, "anchors": 2, "anchors_every": 3}


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def video(fifo, **arguments):
    with fifo.stream({0: "a cat", 9: "a dog"}, **arguments) as stream:
        return np.array([*stream])


def on_a_rank(fifo, rank, arguments):
    with fifo.stream({0: "a cat", 9: "a dog"}, **arguments) as stream:
        return [*stream]


def test_none_is_the_plain_method_and_some_are_another(fifo):
    plain = video(fifo, **RUN | {"window": 5})
    assert np.array_equal(video(fifo, **RUN | {"window": 5, "anchors": 0}), plain)
    kept, renewed = video(fifo, **ANCHORED | {"anchors_every": None}), video(fifo, **ANCHORED)
    lowest = video(fifo, **ANCHORED | {"anchor_level": "lowest"})
    for one, other in ((kept, plain), (renewed, kept), (lowest, renewed)):
        assert np.abs(one.astype(int) - other).max() > 8
    assert np.array_equal(renewed[:8], kept[:8])  # the first renewal is seen by frames still in the queue
    assert not np.array_equal(renewed[8:], kept[8:])


@pytest.mark.parametrize("more", [{}, pytest.param({"cache": 2, "num_partitions": 5}, marks=pytest.mark.slow)], ids=str)
def test_a_saved_run_goes_on_with_its_anchors(fifo, tmp_path, more):
    whole = video(fifo, **ANCHORED | more)
    with fifo.stream({0: "a cat", 9: "a dog"}, **ANCHORED | more) as stream:
        first = [next(stream) for _ in range(10)]
        assert stream.metadata["anchors"] == "2"
        state = stream.state()
    state.save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=14) as stream:
        assert np.array_equal([*first, *stream], whole)
    with pytest.raises(ValueError, match=r"the state was saved with anchors=2, not anchors=1"):
        fifo.stream(start=tmp_path / "state", anchors=1)
    state.anchors = None
    state.save(tmp_path / "broken")
    with pytest.raises(ValueError, match="it has not its 2 anchors"):
        fifo.stream(start=tmp_path / "broken")


def test_ranks_make_the_same_video(fifo, tmp_path):
    expected = video(fifo, **ANCHORED)
    found, _ = on_ranks(on_a_rank, 2, tmp_path / "ranks", ANCHORED)
    assert np.array_equal(found, expected)


def test_the_cost_counts_them_and_pictures_of_the_queue_do_not_show_them(fifo):
    rows = []
    hook = fifo.pipe.unet.register_forward_pre_hook(lambda _unet, inputs: rows.append(inputs[0][:, 0, :, 0, 0].numel()))
    stream = fifo.stream("a cat", **ANCHORED)
    for k in range(14):
        next(stream)
        if not k:
            stream.preview()
    hook.remove()
    layout = stream.settings.queue_layout
    assert sum(rows) == Cost(layout, 1, total=14).until(14)
    assert layout.frame_forwards_per_frame == 5 * 4
    queue, preview = stream._queue, stream._preview
    frames, levels = queue.frames(layout), queue.step(layout).levels
    later = {frames[p]: levels[p] + 1 for p in range(layout.context, layout.size - 1)}  # as they were predicted
    assert {g: level for g, (level, _) in preview._guesses.items() if g in later} == later
    assert len(stream.preview()) == layout.slots


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"start": "noise"}, "anchors=2: start='noise' has no frames to keep; leave one of them out"),
        ({"anchors": 0}, "anchors_every=3: it does nothing without anchors; give both, or none"),
        ({"anchors": 4}, "anchors=4: there are 5 places in a window; use anchors=3 or less"),
        ({"compat": "published"}, "anchors=2: compat='published' has none"),
        ({"lookahead": "banded"}, "lookahead='banded': it has no windows whose first places anchors could take"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(fifo, arguments, told):
    with pytest.raises(ArgumentError, match="^" + told):
        fifo.stream("a cat", **ANCHORED | arguments)


def test_a_dry_run_tells_of_them(capsys):
    assert main(["generate", "a red ball", "--anchors", "2", "--num-partitions", "1", "--dry-run", "-n", "20"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "2 anchors in every window: 14 slots, 14 levels" in text
    assert (
        "windows 2 per iteration, of 16 frames each, 2 of them anchors; slots read -> written: -7 to 6 -> 0 to 6"
        in text
    )
    assert main(["generate", "a red ball", "--anchors", "2", "--start", "noise", "--dry-run"]) == 2
    assert "--anchors 2: --start noise has no frames to keep" in " ".join(capsys.readouterr().err.split())


def test_the_text_of_an_anchor_is_that_of_its_windows_first_frame(fifo, monkeypatch):
    stream, asked = fifo.stream({0: "a cat", 9: "a dog"}, **ANCHORED), []
    condition = type(stream._prompts).condition
    monkeypatch.setattr(
        type(stream._prompts),
        "condition",
        lambda self, windows, head: asked.append(windows) or condition(self, windows, head),
    )
    for _ in stream:
        pass
    queue = [window for windows in asked for window in windows if len(set(window)) < 5]
    assert len(queue) > 20
    assert all(window[:3] == [window[2]] * 3 for window in queue)
