"""Half precision where the processor has no instructions for it: minutes for what takes seconds."""

import logging
import platform
from pathlib import Path

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.cli import bench
from fifo_diffusion.cli.main import main
from fifo_diffusion.execution import precision
from fifo_diffusion.testing import tiny
from streams import SMALL

CPU = torch.device("cpu")
WORDS = "no instructions for bfloat16"


@pytest.fixture
def processor(monkeypatch):
    """Says which precisions a processor computes, as PyTorch would."""

    def set_to(machine: str = "x86_64", *known: torch.dtype) -> None:
        monkeypatch.setattr(platform, "machine", lambda: machine)
        for dtype, check in precision._CHECKS.items():
            monkeypatch.setattr(torch.ops.mkldnn, check, lambda dtype=dtype: dtype in known, raising=False)

    return set_to


def test_only_half_precision_on_an_x86_without_its_instructions_is_slow(processor):
    def slow(device: torch.device, *dtypes: torch.dtype) -> list[torch.dtype]:
        return [dtype for dtype in dtypes if precision.slow_precision(device, dtype)]

    every = (torch.float32, torch.bfloat16, torch.float16)
    processor("x86_64")
    assert slow(CPU, *every) == [torch.bfloat16, torch.float16]
    assert slow(torch.device("meta"), *every) == []
    assert precision.slow_precision(CPU, None) is None
    processor("AMD64", torch.bfloat16)  # as Windows calls it
    assert slow(CPU, *every) == [torch.float16]
    processor("arm64")
    assert slow(CPU, *every) == []


def test_a_build_that_cannot_tell_is_trusted(processor, monkeypatch):
    processor("x86_64")
    monkeypatch.setattr(precision, "_CHECKS", {torch.bfloat16: "no_such_check"})
    assert precision.computes(torch.bfloat16)


def test_this_processor_is_asked_about_itself():
    """The names of PyTorch's checks are right, and its answers are those of the processor."""
    facts = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not facts.exists() or not torch.backends.mkldnn.is_available():
        pytest.skip("for x86-64 with oneDNN, on Linux")
    flags = next(line for line in facts.read_text().splitlines() if line.startswith("flags")).split()
    assert all(hasattr(torch.ops.mkldnn, check) for check in precision._CHECKS.values())
    if precision.computes(torch.bfloat16):
        assert "avx512bw" in flags
    elif "avx512_bf16" in flags:
        pytest.fail("the processor has instructions for bfloat16")


@pytest.mark.parametrize(("dtype", "said"), [(torch.bfloat16, True), (torch.float32, False)])
def test_a_stream_says_so(dtype, said, processor, caplog):
    pipe = tiny.pipeline(**tiny.LIGHT).to(dtype)
    processor("x86_64")
    with caplog.at_level(logging.WARNING), FIFO(pipe).stream("a cat", seed=0, **SMALL):
        assert (WORDS in caplog.text) == said
        assert ("dtype=torch.float32" in caplog.text) == said
    caplog.clear()
    processor("x86_64", torch.bfloat16)
    with caplog.at_level(logging.WARNING), FIFO(pipe).stream("a cat", seed=0, **SMALL):
        assert WORDS not in caplog.text


def test_so_does_the_dry_run(processor, capsys):
    processor("x86_64")
    for dtype, said in (("bfloat16", True), ("float32", False)):
        main(["generate", "a red ball", "--dry-run", "--device", "cpu", "--dtype", dtype])
        text = " ".join(capsys.readouterr().out.split())
        assert (f"{WORDS} and computes it many times slower than --dtype float32" in text) == said


def test_measurements_leave_it_out():
    with_half = [setting.dtype for setting in bench.settings(2, compiled=True)]
    assert with_half.count(None) == 2
    without = bench.settings(2, compiled=True, half=False)
    assert [setting.dtype for setting in without] == ["float32"] * 5
    assert without[-1].compiled
