"""`benchmarks/gpu.py` on small models and a CPU: every part runs, and one that fails loses no other."""

import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import gpu

    yield gpu
    for name in ("gpu", "one_device", "common", "banded_speed"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_part_on_a_cpu(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "compiled", lambda *_, **__: {"distance": 0.0})  # wants a compiler, and minutes

    def broken(*_):
        raise RuntimeError("no such backend")

    monkeypatch.setattr(gpu, "one_rank", broken)
    gpu.main(["--out", str(tmp_path / "gpu.json"), "--tiny", "--device", "cpu"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    equal = {name: part["result"] for name, part in found.items() if name.startswith("equal")}
    assert len(equal) == 10
    for name, result in equal.items():
        assert result == {"prediction": 0.0, "frames": 0.0}, name
    for name in ("VideoCrafter2", "Wan 1.3B"):
        assert found[name]["result"]["seconds per latent"] > 0, found[name]
    assert found["one rank"]["result"] == {"error": "RuntimeError: no such backend"}
    assert found["CUDA graphs"]["result"] == {"distance": 0.0}
    assert found["torch"]
    assert found["hardware"]


def test_no_part_is_begun_after_the_time(gpu, tmp_path):
    gpu.main(["--out", str(tmp_path / "gpu.json"), "--tiny", "--device", "cpu", "--seconds", "-1"])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(found[name] == {"skipped": "no time left"} for name in ("VideoCrafter2", "one rank", "CUDA graphs"))
