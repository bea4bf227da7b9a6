"""`fifo-diffusion bench`: the paths that it compares compute the same, one iteration per frame."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.cli import bench
from fifo_diffusion.cli.bench import PLAIN, Setting, compare, loaded, running, settings, table
from fifo_diffusion.cli.main import main
from fifo_diffusion.testing import tiny, tiny_latte, tiny_opensora, tiny_wan
from streams import SMALL

ARGUMENTS = SMALL | {"guidance_scale": 2.0}


def load(device: str, dtype: str) -> FIFO:
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def test_every_setting_makes_the_same_frames():
    frames = {}
    for setting in settings(4)[:4]:
        with running(loaded(load, setting, "cpu"), setting, ARGUMENTS) as stream:
            iteration = stream.iteration
            frames[setting.name] = np.stack([next(stream) for _ in range(3)])
            assert stream.iteration == iteration + 3
    assert next(iter(frames)) == PLAIN
    for video in frames.values():
        assert np.abs(video.astype(int) - frames[PLAIN]).max() <= 1


def test_the_plain_path_takes_two_passes(monkeypatch):
    rows = []
    for passes in (True, False):
        setting = Setting("", passes=passes)
        fifo = loaded(load, setting, "cpu")
        with running(fifo, setting, ARGUMENTS) as stream:
            fifo.pipe.unet.register_forward_pre_hook(lambda _module, given: rows.append(len(given[0])))
            next(stream)
    windows = len(stream.settings.queue_layout.windows)
    assert rows == [1] * 2 * windows + [2] * windows


@pytest.mark.slow
def test_compare():
    said = []
    rows = compare(load, "cpu", ARGUMENTS, repeats=1, told=said.append)
    assert said[1:3] == ["warming up", "turn 1 of 1"]
    assert [line for line in said if line.startswith("memory: ")] == [f"memory: {row['setting']}" for row in rows]
    assert rows[0]["times_plain"] == 1
    assert all(row["seconds_per_frame"] > 0 and row["peak_memory_mb"] > 50 for row in rows)
    assert len(table(rows).splitlines()) == 1 + len(rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "toybx"], "unknown model 'toybx'"),
        (["--model", ""], "unknown model ''"),
        (["--device", "cuda:99"], "--device cuda:99: there is no such device here"),
        (["--device", "nothing"], "--device nothing: there is no such device here"),
        (["--device", ""], "there is no such device here"),
        (["--num-partitions", "0"], "--num-partitions"),
        (["--num-partitions", "100"], ""),
        (["--num-partitions", "1000000000"], "--num-partitions"),
    ],
)
def test_what_was_typed_wrongly(options, words, capsys):
    """One line before anything is measured, without advice that the command does not take."""
    assert main(["bench", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "--debug" not in line
    assert "unexpected" not in line


MAKERS = {
    "Wan": tiny_wan.pipeline,
    "SkyReels": tiny_wan.skyreels,
    "Latte": tiny_latte.pipeline,
    "class-conditional Latte": tiny_latte.class_pipeline,
    "Open-Sora Plan": tiny_opensora.pipeline,
}


def load_other(device: str, dtype: str, name: str) -> FIFO:
    return FIFO(MAKERS[name]())


@pytest.mark.parametrize("name", ["Wan", *(pytest.param(m, marks=pytest.mark.slow) for m in MAKERS if m != "Wan")])
def test_every_family_can_be_measured(name, monkeypatch):
    """The table, with the precision of each row's denoiser."""
    monkeypatch.setattr(bench, "ProcessPoolExecutor", Here)
    arguments = {"num_partitions": 1, "lookahead": False, "height": 32, "width": 32, "guidance_scale": 2.0}
    if name == "class-conditional Latte":
        arguments |= {"height": 16, "width": 16}
    rows = compare(partial(load_other, name=name), "cpu", arguments, repeats=1)
    assert [row["dtype"] for row in rows] == ["float32"] * len(rows)
    assert all(row["seconds_per_frame"] > 0 for row in rows)


class Here:
    """A pool of processes that is this process."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, call, *arguments):
        found = call(*arguments)
        return SimpleNamespace(result=lambda: found)
