"""Streams whose last levels are as wide as a window."""

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks

ARGUMENTS = {"window": 4, "num_partitions": 2, "frames_per_level": 2, "layout": "widening", "clean_levels": 2}
ARGUMENTS |= {"height": 16, "width": 16, "guidance_scale": 1.0, "seed": 0}


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def video(fifo, count, **more):
    with fifo.stream("a cat", num_frames=count, **ARGUMENTS | more) as stream:
        return np.array([*stream])


def test_it_goes_on_where_it_stood(fifo, tmp_path):
    """Taken in the middle of a burst, while frames wait."""
    whole = video(fifo, 14)
    with fifo.stream("a cat", **ARGUMENTS) as stream:
        first = [next(stream) for _ in range(9)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=14) as stream:
        assert np.array_equal([*first, *stream], whole)
    other = video(fifo, 14, layout="partitions", clean_levels=None)
    assert np.array_equal(whole[:4], other[:4])
    assert not np.array_equal(whole[4:], other[4:])


def on_a_rank(fifo, _rank, more):
    with fifo.stream("a cat", **ARGUMENTS | more) as stream:
        return [next(stream) for _ in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_make_the_same_video(fifo, tmp_path, ranks):
    """A rank reads frames that others wrote and that have waited since."""
    more = {"num_partitions": 3, "frames_per_level": 1, "clean_levels": 3}
    alone, (first, *_) = video(fifo, 20, **more), on_ranks(on_a_rank, ranks, tmp_path / "ranks", more)
    assert np.abs(np.array(first).astype(int) - alone).max() <= 1


def test_what_does_not_go_with_it_is_refused(fifo):
    for more, said in (
        ({"start": "noise"}, r"layout='widening': start='noise' needs a queue that goes down level by level"),
        ({"lookahead": False}, r"lookahead=False: layout='widening' does not take it"),
        ({"layout": "partitions"}, r"clean_levels=2: layout='partitions' does not take it"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            fifo.stream("a cat", **ARGUMENTS | more)


def test_a_dry_run_counts_it(capsys):
    words = ["--layout", "widening", "--num-partitions", "16", "--frames-per-level", "4", "--clean-levels", "10"]
    assert main(["generate", "a red ball", "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "n = 16, b = 4 frames per level, 16 at the lowest 10: 272 slots, 64 levels" in said
    assert "in iteration 4 of 4" in said
