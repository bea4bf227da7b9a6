"""The scripts of benchmarks/ and training/ start, and run at their smallest setting."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel

from fifo_diffusion.method import QueueLayout
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(p for folder in ("benchmarks", "training") for p in (ROOT / folder).glob("*.py"))
SCRIPTS = [path for path in SCRIPTS if "ArgumentParser" in path.read_text("utf-8")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_starts(script, monkeypatch, capsys):
    """All that a script imports is there."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    torch.set_num_threads(threads)
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_banded_speed_makes_its_passes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = runpy.run_path(str(ROOT / "benchmarks" / "banded_speed.py"))
    unet = UNet3DConditionModel(cross_attention_dim=128, **names["WIDTHS"]["narrow"]).eval()
    passes = []
    unet.register_forward_pre_hook(lambda _unet, given: passes.append(given[0].shape[2]))
    for lookahead, pieces in ((False, 1), ("banded", 1), ("banded", 2)):
        layout = QueueLayout(4, 1, lookahead)
        names["iteration"](unet, PerFrameHooks(unet), layout, (8, 8), pieces)()
        assert passes.pop() == layout.size
    assert not passes


SMALLEST = {
    "banded_halo": ["--partitions", "1", "--halos", "4"],
    "banded_speed": ["--model", "narrow", "--height", "64", "--width", "64", "--partitions", "1", "--turns", "1"],
    "memory": ["stub", "--frames", "250"],
    "model_memory": [],
    "one_device": ["--repeats", "1", "--partitions", "1"],
    "opensora_decoding": [],
    "ranks": ["--seconds", "0.01", "--decode", "0.001", "--iterations", "2", "--repeats", "1"],
    "speed": ["--pass"],
    "toybox_fifo": ["run", "--frames", "1", "--share", "0", "8", "--precision", "float32", "--lookahead", "no"],
    "toybox_relative_mse": ["--clips", "1", "--partitions", "1"],
    "wan_rows": ["--frames", "2", "--height", "32", "--width", "32", "--rounds", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name, tmp_path):
    (tmp_path / "results").mkdir()
    for needed in ("toybox_clips.json",):
        shutil.copy(ROOT / "docs" / "results" / needed, tmp_path / "results")
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SMALLEST[name]]
    environment = os.environ | {"FIFO_DIFFUSION_DOCS": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "wrote " in done.stdout or name in ("memory", "toybox_fifo")
