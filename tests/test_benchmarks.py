"""The scripts of benchmarks/ and training/ start, and run at their smallest setting."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel

from fifo_diffusion.models.loading.checkpoints import CHECKPOINTS
from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from layouts import queue_layout

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
        layout = queue_layout(4, 1, lookahead)
        names["iteration"](unet, PerFrameHooks(unet), layout, (8, 8), pieces)()
        assert passes.pop() == layout.size
    assert not passes


STUB = """
import time
import numpy as np


class FIFO:
    @classmethod
    def from_pretrained(cls, name, device):
        return cls()

    def stream(self, prompt, seed, **arguments):
        return Frames()


class Frames:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __next__(self):
        until = time.process_time() + {seconds}
        while time.process_time() < until:
            pass
        return np.full((2, 2, 3), {value}, np.uint8)
"""


def test_side_by_side_finds_what_is_slower_and_what_is_another_frame(tmp_path):
    """Two versions of which the second takes three times as long, and draws the same frame or another one."""
    for name, seconds, value in (("old", 0.02, 1), ("slow", 0.06, 1), ("other", 0.02, 2)):
        package = tmp_path / name / "src" / "fifo_diffusion"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(STUB.replace("{seconds}", str(seconds)).replace("{value}", str(value)))
    names = runpy.run_path(str(ROOT / "benchmarks" / "side_by_side.py"))
    for name, ratio, same in (("slow", 3, True), ("other", 1, False)):
        trees = [tmp_path / "old", tmp_path / name]
        found = names["compare"](trees, "any", {}, rounds=3, frames=1, warm_up=1)
        assert found["ratio"]["median"] == pytest.approx(ratio, rel=0.3)
        assert found["same_frames"] is same


SMALLEST = {
    "banded_halo": ["--partitions", "1", "--halos", "4"],
    "banded_speed": ["--model", "narrow", "--height", "64", "--width", "64", "--partitions", "1", "--turns", "1"],
    "cache": ["--models", "wan", "--ks", "1", "2", "--frames", "4"],
    "cache_change": ["--models", "toybox", "--partitions", "1", "--etas", "0", "--guidance", "1", "--iterations", "1"],
    "full_checkpoint": [".", "--tiny"],
    "gate": ["--models", "wan"],
    "live": ["--repeats", "1", "--frames", "2"],
    "memory": ["stub", "--frames", "250"],
    "model_memory": [],
    "mutants": ["--only", "2**64"],
    "one_device": ["--repeats", "1", "--partitions", "1"],
    "opensora_decoding": [],
    "pictures": ["change", "--frames", "2"],
    "ranks": ["--seconds", "0.01", "--decode", "0.001", "--iterations", "2", "--repeats", "1", "--only", "0", "1", "6"],
    "side_by_side": [str(ROOT), str(ROOT), "--stream", '{"num_partitions": 1, "lookahead": false}'],
    "speed": ["--pass", "--repeats", "1"],
    "studio_latency": ["--frames", "12", "--pairs", "1", "--work", "1"],
    "toybox_fifo": ["run", "--frames", "1", "--share", "0", "8", "--precision", "float32", "--lookahead", "no"],
    "toybox_relative_mse": ["--clips", "1", "--partitions", "1"],
    "wan_rows": ["--frames", "2", "--height", "32", "--width", "32", "--rounds", "1"],
}
SMALLEST["side_by_side"] += ["--rounds", "1", "--frames", "1", "--warm-up", "1"]
ELSEWHERE = {
    "common": "no script",
    "gallery": "runs the commands of docs/gallery.md, which test_pages.py has",
    "gpu": "test_gpu_script.py",
    "study": "a small study, here",
    "toybox_report": "its tables, here",
    "pipeline_census": "test_census.py",
}


def test_every_script_is_run_somewhere():
    """A new one needs its smallest setting here."""
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == SMALLEST.keys() | ELSEWHERE.keys()


def test_the_faults_that_tests_must_notice_fit_the_source():
    """`benchmarks/mutants.py` runs them; here: each text is in its file once, and the tests are there."""
    tests = {path.stem: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    faults = json.loads((ROOT / "benchmarks" / "mutants.json").read_text("utf-8"))
    for file, of_file in faults.items():
        source = (ROOT / "src" / "fifo_diffusion" / file).read_text("utf-8")
        for text, instead, named in of_file:
            assert source.count(text) == 1, (file, text)
            assert text != instead
            for name in named.split():
                stem, *rest = name.split("::")
                assert all(f"def {each}(" in tests[stem] for each in rest), name
    result = json.loads((ROOT / "docs" / "results" / "mutants.json").read_text("utf-8"))
    assert result["missed"] == []


def test_the_tables_of_the_report_on_toybox(monkeypatch):
    """From the results that the documentation shows."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = runpy.run_path(str(ROOT / "benchmarks" / "toybox_report.py"))
    document = json.loads((ROOT / "docs" / "results" / "toybox_report.json").read_text("utf-8"))
    lines = names["tables"](document).splitlines()
    assert sum(line.startswith("| fifo ") for line in lines) == 2
    assert any("frame-forwards per frame" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("study_levels", "evaluation.md"),
        ("study_live", "evaluation.md"),
        ("study_long", "evaluation.md"),
        ("study_beyond_final", "beyond.md"),
        ("study_beyond", "beyond.md"),
    ],
)
def test_the_tables_of_studies_are_those_of_their_results(name, page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = runpy.run_path(str(ROOT / "benchmarks" / "study.py"))
    results = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text("utf-8"))
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert names["table"](results) in text
    if name == "study_beyond_final":
        assert names["coherences"](results) in text
    assert json.loads((ROOT / "benchmarks" / f"{name}.json").read_text("utf-8")) == results["config"]


@pytest.mark.slow
def test_a_study_goes_on_and_reports(tmp_path):
    """What is done is not done again; each row has measures with errors, and its difference to the first row."""
    rows = {name: {"settings": {"preset": "live", "guidance_scale": scale}} for name, scale in (("a", 1), ("b", 2))}
    captions = ["red ball moving right over white", "hills scrolling left at sunset"]
    config = {"model": "toybox-diagonal", "dtype": "float32", "seed": 0, "first": "a", "captions": captions}
    (tmp_path / "small.json").write_text(json.dumps(config | {"frames": 50, "rows": rows}))
    for folder in ("results", "images"):
        (tmp_path / folder).mkdir()
    environment = os.environ | {"FIFO_DIFFUSION_DOCS": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}

    def run(what: str) -> str:
        command = [sys.executable, str(ROOT / "benchmarks" / "study.py"), what, "small.json", "work"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert run("make").splitlines() == ["a-000: 8 frame-forwards", "b-000: 16 frame-forwards"]
    (tmp_path / "work" / "b-000.npz").unlink()
    assert run("make").splitlines() == ["b-000: 16 frame-forwards"]
    run("report")
    found = json.loads((tmp_path / "results" / "small.json").read_text("utf-8"))["rows"]
    assert 0.9 < found["a"]["score"][0] <= 1
    assert len(found["b"]["less_first"]["flicker"]) == 2
    assert found["b"]["less_first"]["FVD to real clips"][0] != 0
    assert (tmp_path / "images" / "small.png").exists()
    (tmp_path / "work" / "a-000.npz").unlink()
    run("report")
    again = json.loads((tmp_path / "results" / "small.json").read_text("utf-8"))
    assert again["rows"]["a"].pop("made")["hardware"] == again["hardware"]
    assert again["rows"]["a"] == found["a"]
    assert again["rows"]["b"]["score"] == found["b"]["score"]


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
    assert "wrote " in done.stdout or name in ("memory", "side_by_side", "toybox_fifo")


def test_the_memory_that_models_are_listed_with_is_the_computed_one():
    found = json.loads((ROOT / "docs/results/model_memory.json").read_text())["models"]
    computed = {row["model"].replace(", ", "/").replace(" ", "-").replace("-frames", "x512x512"): row for row in found}
    computed |= {f"Text2Video-{size}": computed.pop(f"VideoCrafter1-{size}") for size in (512, 1024)}
    listed = {name.partition("/")[2]: each.memory for name, each in CHECKPOINTS.items() if each.memory}
    assert listed.keys() == computed.keys()
    for name, (weights, in_all) in listed.items():
        row = computed[name]
        parts = sum(row[part] for part in ("denoiser", "autoencoder", "text_encoder"))
        assert abs(weights - parts) < 0.051
        assert abs(in_all - row["total_one_window"]) < 0.051
