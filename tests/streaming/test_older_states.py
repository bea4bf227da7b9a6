"""Runs that were saved by earlier commits go on."""

import shutil
from pathlib import Path

import numpy as np

from fifo_diffusion.cli.main import main
from fifo_diffusion.video import read_frames

DATA = Path(__file__).parents[1] / "data" / "older_run"


def test_a_run_of_the_first_release_goes_on(tmp_path, monkeypatch):
    """`ball.state` and the six frames beside it were written by commit 2ff03ff, on another day and maybe another
    processor; frame by frame the rest is what a run without a stop makes today."""
    shutil.copytree(DATA, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    assert main(["generate", "--state", "ball.state", "-n", "12", "-q"]) == 0
    options = ["--num-partitions", "1", "--window", "4", "--guidance-scale", "1", "--seed", "3", "-n", "12", "-q"]
    assert main(["generate", "a red ball moving right on a navy background", *options, "-o", "whole/"]) == 0
    found, expected = (read_frames(folder).astype(np.int16) for folder in ("ball", "whole"))
    assert len(found) == len(expected) == 12
    assert np.abs(found - expected).max() <= 2
