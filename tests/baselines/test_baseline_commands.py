"""Baselines on the command line, and one more: a file and an entry in the list."""

import json
import sys

import numpy as np
import pytest

from fifo_diffusion import FIFO
from fifo_diffusion.baselines import BASELINES
from fifo_diffusion.baselines.stream import baseline_stream
from fifo_diffusion.cli.main import main
from fifo_diffusion.method_list import Method
from fifo_diffusion.study import worker
from fifo_diffusion.study.config import default_rows
from fifo_diffusion.testing import tiny
from fifo_diffusion.video import count_frames, read_frames, read_metadata

BALL = "a red ball moving right on a navy background"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def generate(*arguments):
    return main(["generate", BALL, *arguments])


@pytest.mark.parametrize("method", BASELINES)
def test_generate_with_each_method(folder, method, capsys):
    small = ["--window", "4", "--num-inference-steps", "2", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate("--method", method, "--num-frames", "6", "-o", "ball.mp4", *small) == 0
    assert count_frames("ball.mp4") == 6
    facts = read_metadata("ball.mp4")
    assert facts["method"] == method
    assert f"--method {method}" in facts["command"]
    assert f"{method}, 2 steps" in capsys.readouterr().err


def test_the_frames_are_those_of_the_stream(folder):
    small = ["--window", "4", "--num-inference-steps", "2", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate("--method", "genl", "--num-frames", "6", "-o", "frames/", *small) == 0
    with FIFO.from_pretrained("toybox", device="cpu") as fifo:
        call = {"window": 4, "num_inference_steps": 2, "height": 32, "width": 32, "seed": 1, "num_frames": 6}
        assert np.array_equal(np.stack(list(baseline_stream(fifo.model, "genl", BALL, **call))), read_frames("frames/"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--method freenoise", "--num-frames N"),
        ("--method plain --forever", "--num-frames N"),
        ("--method genl --num-frames 20 --num-partitions 2", "--num-partitions belongs to FIFO-Diffusion"),
        ("--method genl --num-frames 20 --no-lookahead", "--no-lookahead belongs to FIFO-Diffusion"),
        ("--method freenoise --num-frames 20 --compile", "--compile belongs to FIFO-Diffusion"),
        ("--method plain --num-frames 20 --stride 3", "--stride goes with --method freenoise or genl"),
        ("--num-frames 20 --overlap 3", "--overlap goes with --method chunked"),
        ("--method chunked --overlap 16", "--overlap 16: it does not fit windows of 16"),
        ("--method chunked --state run.state", "--state belongs to FIFO-Diffusion"),
        ("--method best --num-frames 20", "best"),
    ],
)
def test_options_that_do_not_apply_are_refused(folder, arguments, words, capsys):
    assert generate(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_dry_run_counts(folder, capsys):
    assert generate("--method", "genl", "--num-frames", "24", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "Gen-L-Video: 50 steps, windows of 16 frames, stride 4" in told
    assert f"{3 * 16 * 50 * 2} in all" in told


# ---------------------------------------------------------------------------- one more

TOY = """
from fifo_diffusion.baselines.sampler import Sampler


class Slow(Sampler):
    def part(self, made, memory):
        clip = self.sample(range(self.settings.window))
        return clip[:, :, [frame // self.settings.stride for frame in range(self.count)]], None

    @staticmethod
    def frames_per_step(settings):
        return settings.window
"""


@pytest.fixture
def toy(folder, tmp_path, monkeypatch):
    """A baseline that is in one file, and in the list."""
    (tmp_path / "slow_motion.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = Method("Slow motion", "a clip, slower", "slow_motion:Slow", options={"stride": 3}, steps=2)
    monkeypatch.setitem(BASELINES, "toy", entry)
    yield
    sys.modules.pop("slow_motion", None)


def test_a_file_and_an_entry_are_a_baseline_on_the_command_line(toy, capsys):
    small = ["--method", "toy", "--num-frames", "6", "--window", "4", "--height", "32", "--width", "32", "--seed", "1"]
    assert generate(*small, "-o", "frames/") == 0
    assert "toy, 2 steps" in capsys.readouterr().err
    frames = read_frames("frames/")
    assert len(np.unique(frames.reshape(6, -1), axis=0)) == 2  # each is shown for three frames
    assert (frames[0] == frames[2]).all()
    assert read_metadata("frames/")["stride"] == "3"

    assert generate(*small, "--stride", "2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "Slow motion: 2 steps, windows of 4 frames, stride 2" in told
    assert f"{4 * 2 * 2} in all" in told

    assert generate(*small, "--overlap", "2") == 2
    assert "--overlap goes with --method chunked" in capsys.readouterr().err
    assert generate("--stride", "2") == 2
    assert "--method freenoise or genl or toy" in capsys.readouterr().err
    assert generate("--method", "toy") == 2
    assert "--method toy computes all frames at once" in capsys.readouterr().err


def test_it_is_a_row_of_an_evaluation_too(toy, tmp_path, monkeypatch):
    def here(task, result):
        assert worker.work(task | {"result": str(result)}) == 0
        return json.loads(result.read_text())

    monkeypatch.setattr("fifo_diffusion.study.run.run_task", here)
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "model")
    row = {"method": "toy", "window": 4}
    config = {"model": str(tmp_path / "model"), "tables": ["quality", "cost"], "rows": {"slow": row}}
    config |= {"prompts": ["a red ball"], "num_frames": 9, "base_clips": 1, "base_steps": 1, "cost_frames": [5]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    main(["evaluate", "--config", "config.json", "-o", "report"])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["results"]["quality"]["slow"]["frames"] == 9
    assert default_rows(2, None)["toy"] == {"method": "toy"}
    assert report["results"]["cost"][0]["frames"] == 5
    assert len(np.unique(read_frames("report/videos/slow/000").reshape(9, -1), axis=0)) == 3
