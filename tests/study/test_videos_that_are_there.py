"""`evaluate` of videos that are there."""

import json
from pathlib import Path

import numpy as np
import pytest

from fifo_diffusion.cli.main import main
from fifo_diffusion.evaluation.drift import Drift
from fifo_diffusion.toybox.world import make_clip
from fifo_diffusion.video import write_video


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_files_are_measured_as_they_are(capsys):
    """A folder of PNGs to the last digit; a drift file without a picture; one that cannot be read costs no other."""
    frames = make_clip(np.random.default_rng(4), 26)[0]
    write_video("pngs/", frames, fps=8)
    write_video("b.mp4", frames[::-1], fps=8)
    Path("c.mp4").write_text("no video")
    assert main(["evaluate", "pngs/", "b.mp4", "c.mp4", "-o", "report", "-q"]) == 1
    said = capsys.readouterr()
    assert said.out.strip() == "report/report.html"
    assert "c.mp4" in said.err
    assert said.err.count("\n") == 1
    drift = Drift()
    for frame in frames:
        drift.add(frame)
    found = json.loads(Path("report/report.json").read_text())
    assert [*found["videos"]] == ["pngs/", "b.mp4"]
    assert found["videos"]["pngs/"] == drift.summary()
    assert found["videos"]["b.mp4"]["coherence"] == pytest.approx(drift.summary()["coherence"], abs=0.05)
    assert "pngs/" in Path("report/report.html").read_text()
    again = ["evaluate", "report/drift/000-pngs.jsonl", "-o", "report"]
    assert main(again) == 0
    assert json.loads(Path("report/report.json").read_text())["videos"][again[1]] == drift.summary()


def test_other_options_and_folders_of_others_are_refused(capsys):
    Path("other").mkdir()
    Path("other/file").write_text("")
    assert main(["evaluate", "a.mp4", "-o", "other"]) == 2
    assert "other exists and holds no report of files" in capsys.readouterr().err
    assert main(["evaluate", "a.mp4", "-o", "new", "--model", "toybox"]) == 2
    assert "--model is for videos that are made: leave it out, or the files" in capsys.readouterr().err
