"""Streams whose levels do not all have as many frames: Wan's 21 latents in four levels, here five in three."""

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks

ARGUMENTS = {
    **{"window": 5, "num_partitions": 1, "frames_per_level": 2, "height": 16, "width": 16},
    **{"guidance_scale": 1.0, "seed": 0},
}


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


@pytest.fixture(scope="module")
def whole(fifo):
    return frames(fifo.stream("a cat", num_frames=14, **ARGUMENTS))


def frames(stream):
    with stream:
        return np.array([*stream])


@pytest.mark.parametrize("seen", [5, 6, 7, 8, 9, 10])
def test_a_run_goes_on_in_the_middle_of_a_period(seen, fifo, whole, tmp_path):
    with fifo.stream("a cat", **ARGUMENTS) as stream:
        first = [next(stream) for _ in range(seen)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=14) as stream:
        assert np.array_equal([*first, *stream], whole)


@pytest.mark.parametrize("more", [{"lookahead": False}, {"lookahead": "banded"}, {"layout": "rotating"}])
def test_every_kind_of_queue_may_be_so(more, fifo, whole):
    found = frames(fifo.stream("a cat", num_frames=14, **ARGUMENTS, **more))
    assert np.array_equal(found[:5], whole[:5])  # the clip
    assert (found[5:] != whole[5:]).any()
    started = frames(fifo.stream("a cat", num_frames=4, start="noise", **ARGUMENTS))
    assert started.std() > 1


def some_frames(fifo, _rank, arguments):
    with fifo.stream("a cat", **arguments) as stream:
        return [next(stream) for _ in range(14)]


def test_two_ranks_share_its_windows(whole, tmp_path):
    first, second = on_ranks(some_frames, 2, tmp_path / "ranks", ARGUMENTS)
    assert np.abs(np.array(first).astype(int) - whole).max() <= 1
    assert second == [None] * 14


def test_the_dry_run_says_so(capsys):
    options = ["--num-partitions", "1", "--frames-per-level", "6", "--num-inference-steps", "3", "--dry-run"]
    assert main(["generate", "a red ball", *options]) == 0
    told = capsys.readouterr().out
    assert "b = 5 or 6 frames per level: 16 slots, 3 levels" in told
    assert "cost      12 frame-forwards per frame (guidance" in told
