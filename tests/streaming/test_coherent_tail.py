"""Streams whose noise enters with low frequencies of the newest frame (`coherent_tail`)."""

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


@pytest.mark.slow
def test_ranks_make_the_same_video(fifo, tmp_path):
    """Where half a queue enters at once, a rank in it reads the newest frame for nothing else."""
    more = {"coherent_tail": 0.8, "num_partitions": 4, "frames_per_level": 8, "lookahead": False}
    alone, (first, *_) = video(fifo, 18, **more), on_ranks(on_a_rank, 4, tmp_path / "ranks", more)
    assert np.abs(np.array(first).astype(int) - alone).max() <= 1


def test_published_code_has_none(fifo):
    with pytest.raises(ValueError, match=r"^coherent_tail=0.5: compat='published' has none"):
        fifo.stream("a cat", compat="published", coherent_tail=0.5, **ARGUMENTS)
