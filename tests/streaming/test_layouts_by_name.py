"""Invariant: a layout is one class and one entry, and everything finds it there."""

from dataclasses import replace

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli.main import main
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.layout_list import LAYOUTS, LayoutEntry
from fifo_diffusion.settings import Settings, json_schema
from fifo_diffusion.testing import tiny
from rank_workers import on_ranks
from toy_layout import SAME, TOY, TwoLevels, toy_video

ARGUMENTS = {"window": 4, "height": 16, "width": 16, "guidance_scale": 1.0, "seed": 0}


def frames(stream):
    with stream:
        return np.array([*stream])


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "toy", TOY)


@pytest.fixture(scope="module")
def fifo():
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def test_a_stream_has_it(toy, fifo):
    """The video is that of the same layout in the paper's words, and another than the default's."""
    found = frames(fifo.stream("a cat", num_frames=7, layout="toy", **ARGUMENTS))
    expected = frames(fifo.stream("a cat", num_frames=7, **SAME, **ARGUMENTS))
    assert np.array_equal(found, expected)
    other = frames(fifo.stream("a cat", num_frames=7, num_partitions=1, **ARGUMENTS))
    assert np.abs(other.astype(int) - found).max() > 8
    assert fifo.layout(window=4, layout="toy") == TwoLevels(4)


def test_a_state_holds_it(toy, fifo, tmp_path, monkeypatch):
    whole = frames(fifo.stream("a cat", num_frames=9, layout="toy", **ARGUMENTS))
    with fifo.stream("a cat", layout="toy", **ARGUMENTS) as stream:
        first = [next(stream) for _ in range(5)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=9) as stream:
        assert np.array_equal([*first, *stream], whole)
    monkeypatch.setitem(LAYOUTS, "other", TOY)
    with pytest.raises(ValueError, match="the state was saved with layout='toy', not layout='other'"):
        fifo.stream(start=tmp_path / "state", layout="other")


@pytest.mark.parametrize("layout", ["rotating", "memory"])
def test_layouts_that_move_go_on_where_they_stood(layout, fifo, tmp_path):
    """A state is taken within a period. The video is another than the default's."""
    more = {"frames_per_level": 2, "num_partitions": 2, "layout": layout} | ARGUMENTS | {"window": 8}
    whole = frames(fifo.stream("a cat", num_frames=19, **more))
    with fifo.stream("a cat", **more) as stream:
        first = [next(stream) for _ in range(12)]
        stream.state().save(tmp_path / "state")
    with fifo.stream(start=tmp_path / "state", num_frames=19) as stream:
        assert np.array_equal([*first, *stream], whole)
    plain = frames(fifo.stream("a cat", num_frames=19, **more | {"layout": "partitions"}))
    assert np.array_equal(plain[:8], whole[:8])
    assert np.abs(plain[8:].astype(int) - whole[8:]).max() > 8


def test_two_ranks_share_its_windows(toy, fifo, tmp_path):
    alone = frames(fifo.stream("a cat", num_frames=7, layout="toy", **ARGUMENTS))
    first, second = on_ranks(toy_video, 2, tmp_path / "ranks", ARGUMENTS)
    assert np.abs(np.array(first).astype(int) - alone).max() <= 1
    assert second == [None] * 7


def test_costs_and_the_dry_run_count_it(toy, capsys):
    assert Cost(TwoLevels(16), 1).per_latent == 4  # two windows of 16 for eight frames
    assert main(["generate", "a red ball", "--layout", "toy", "--dry-run", "-n", "20"]) == 0
    told = capsys.readouterr().out
    assert "16 slots, 2 levels (denoising steps of a frame), 8 context slots" in told
    assert "-8 to 7 -> 0 to 7" in told
    assert "8 frame-forwards per frame (guidance makes it twice as many)" in told


def test_the_command_makes_its_video(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["generate", "a red ball", "--window", "4", "--height", "32", "--width", "32", "--seed", "1", "-n", "3"]
    assert main([*command, "--layout", "toy", "-o", "a/", "--guidance-scale", "1"]) == 0
    assert "seed 1, 4 slots, 2 steps" in capsys.readouterr().err
    assert len([*(tmp_path / "a").glob("*.png")]) == 3
    assert json_schema(Settings)["properties"]["layout"]["enum"] == [*LAYOUTS]


def test_a_layout_of_uneven_steps_does_not_start_from_noise(monkeypatch, fifo):
    class Uneven(TwoLevels):
        period = 2

        def step(self, iteration):
            return replace(super().step(iteration), leave=0 if iteration % 2 else self.frames)

    monkeypatch.setitem(LAYOUTS, "uneven", LayoutEntry("", lambda settings: Uneven(settings.window)))
    with pytest.raises(
        ValueError, match=r"^layout='uneven': start='noise' needs a queue that goes down level by level"
    ):
        fifo.stream("a cat", layout="uneven", start="noise", **ARGUMENTS)


def test_what_a_layout_does_not_take_is_refused(toy, fifo, capsys):
    with pytest.raises(ValueError, match=r"^num_partitions=2: layout='toy' does not take it; leave it out"):
        fifo.stream("a cat", layout="toy", num_partitions=2, **ARGUMENTS)
    with pytest.raises(ValueError, match=r"^layout='toys': give 'partitions' or .* or 'toy'"):
        fifo.stream("a cat", layout="toys", **ARGUMENTS)
    assert main(["generate", "a red ball", "--layout", "toy", "--no-lookahead", "--dry-run"]) == 2
    assert "--no-lookahead: --layout toy does not take it; leave it out" in capsys.readouterr().err
    assert main(["generate", "a red ball", "--layout", "toys", "--dry-run"]) == 2
    assert "partitions" in capsys.readouterr().err


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "partitions"])
def test_published_code_has_the_papers_layout_only(layout, fifo):
    settings = {"num_partitions": 1, "window": 4, "height": 16, "width": 16, "seed": 0}
    with pytest.raises(ValueError, match=f"^layout='{layout}': compat='published' has the paper's only"):
        fifo.stream("a cat", layout=layout, compat="published", **settings)
