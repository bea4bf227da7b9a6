"""Streams whose noise enters with low frequencies of the newest frame, or is the best of several draws."""

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks

ARGUMENTS = {"window": 4, "num_partitions": 2, "height": 16, "width": 16, "guidance_scale": 1.0, "seed": 0}


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def video(fifo, count=14, **more):
    with fifo.stream("a cat", num_frames=count, **ARGUMENTS | more) as stream:
        return np.array([*stream])


def on_a_rank(fifo, _rank, more):
    with fifo.stream("a cat", **ARGUMENTS | more) as stream:
        return [next(stream) for _ in range(18)]


def test_it_changes_what_enters_and_goes_on_where_it_stood(fifo, tmp_path):
    plain, whole = video(fifo), video(fifo, coherent_tail=0.6)
    assert np.array_equal(video(fifo, coherent_tail=0.0), plain)
    assert np.array_equal(whole[:4], plain[:4])  # the clip that opens the video
    assert np.abs(whole[4:].astype(int) - plain[4:]).max() > 8
    with fifo.stream("a cat", coherent_tail=0.6, **ARGUMENTS) as stream:
        first = [next(stream) for _ in range(9)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=14) as stream:
        assert np.array_equal([*first, *stream], whole)
    with pytest.raises(ValueError, match=r"the state was saved with coherent_tail=0.6, not coherent_tail=0.5"):
        fifo.stream(start=tmp_path / "state", coherent_tail=0.5)


@pytest.mark.parametrize(
    "more",
    [
        {"coherent_tail": 0.6, "tail_reference": 0.5, "tail_adain": 0.25, "tail_draws": 3, "tail_every": 2},
        pytest.param({"tail_draws": 3, "tail_every": 1, "tail_threshold": 0.001}, marks=pytest.mark.slow),
    ],
)
def test_every_option_goes_on_where_it_stood(fifo, tmp_path, more):
    base = {name: value for name, value in more.items() if name == "coherent_tail"}
    plain, whole = video(fifo, **base), video(fifo, **more)
    assert np.array_equal(whole[:4], plain[:4])
    assert not np.array_equal(whole[4:], plain[4:])
    with fifo.stream("a cat", **ARGUMENTS | more) as stream:
        first = [next(stream) for _ in range(7)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=14) as stream:
        assert np.array_equal([*first, *stream], whole)


def test_off_is_the_plain_video(fifo):
    off = {"coherent_tail": 0.0, "tail_reference": 0.0, "tail_adain": 0.0, "tail_draws": 1, "tail_threshold": 0.0}
    assert np.array_equal(video(fifo, 8, **off), video(fifo, 8))


REFUSED = [
    ({"tail_reference": 0.5}, r"^tail_reference=0.5: it does nothing without coherent_tail; give both"),
    ({"tail_adain": 0.5}, r"^tail_adain=0.5: it does nothing without coherent_tail"),
    ({"tail_every": 4}, r"^tail_every=4: it does nothing without tail_draws"),
    ({"tail_draws": 3, "compat": "published"}, r"^tail_draws=3: compat='published' has none"),
    ({"tail_draws": 0}, r"^tail_draws=0: give a whole number of at least 1"),
    ({"coherent_tail": 0.5, "tail_adain": 0.5, "start": "noise"}, r"^tail_adain=0.5: start='noise' has no first frame"),
    ({"tail_draws": 2, "lookahead": False, "frames_per_level": 4}, r"^tail_draws=2: where frames enter"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED)
def test_what_would_do_nothing_is_refused(fifo, more, said):
    with pytest.raises(ValueError, match=said):
        fifo.stream("a cat", **ARGUMENTS | more)


@pytest.mark.slow
def test_ranks_make_the_same_video(fifo, tmp_path):
    """Where half a queue enters at once, a rank in it reads the newest frame for nothing else."""
    more = {
        "coherent_tail": 0.8,
        "tail_reference": 0.3,
        "tail_adain": 0.5,
        "num_partitions": 4,
        "frames_per_level": 8,
        "lookahead": False,
    }
    alone, (first, *_) = video(fifo, 18, **more), on_ranks(on_a_rank, 4, tmp_path / "ranks", more)
    assert np.abs(np.array(first).astype(int) - alone).max() <= 1


def refused_on_a_rank(fifo, _rank):
    with pytest.raises(ValueError, match=r"^tail_draws=2: several ranks cannot choose"):
        fifo.stream("a cat", tail_draws=2, **ARGUMENTS)


@pytest.mark.slow
def test_several_ranks_choose_among_no_draws(tmp_path):
    on_ranks(refused_on_a_rank, 2, tmp_path / "ranks")


def test_published_code_has_none(fifo):
    with pytest.raises(ValueError, match=r"^coherent_tail=0.5: compat='published' has none"):
        fifo.stream("a cat", compat="published", coherent_tail=0.5, **ARGUMENTS)
