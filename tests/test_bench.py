"""`fifo-diffusion bench`: the paths that it compares compute the same, one iteration per frame."""

import numpy as np
import pytest

import tiny
from fifo_diffusion import FIFO
from fifo_diffusion.app.bench import PLAIN, Setting, compare, running, settings, table
from fifo_diffusion.cli import main
from streams import SMALL

ARGUMENTS = SMALL | {"guidance_scale": 2.0}


def load(device: str, dtype: str) -> FIFO:
    return FIFO(tiny.pipeline(**tiny.LIGHT))


def test_every_setting_makes_the_same_frames():
    frames = {}
    for setting in settings(4)[:4]:
        with running(load, setting, "cpu", ARGUMENTS) as stream:
            iteration = stream._queue.iteration
            frames[setting.name] = np.stack([next(stream) for _ in range(3)])
            assert stream._queue.iteration == iteration + 3
    assert next(iter(frames)) == PLAIN
    for video in frames.values():
        assert np.abs(video.astype(int) - frames[PLAIN]).max() <= 1


def test_the_plain_path_takes_two_passes(monkeypatch):
    rows = []
    for passes in (True, False):
        with running(load, Setting("", passes=passes), "cpu", ARGUMENTS) as stream:
            stream._fifo.pipe.unet.register_forward_pre_hook(lambda _module, given: rows.append(len(given[0])))
            next(stream)
    windows = len(stream.settings.layout.windows)
    assert rows == [1] * 2 * windows + [2] * windows


@pytest.mark.slow
def test_compare():
    rows = compare(load, "cpu", ARGUMENTS, repeats=1)
    assert rows[0]["times_plain"] == 1
    assert all(row["seconds_per_frame"] > 0 and row["peak_memory_mb"] > 50 for row in rows)
    assert len(table(rows).splitlines()) == 1 + len(rows)


def test_a_model_that_is_not_there(capsys):
    assert main(["bench", "--model", "toybx"]) in (1, 2)
    assert "'toybx'" in capsys.readouterr().err
