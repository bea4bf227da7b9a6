"""What the scripts of training/ write."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from fifo_diffusion.toybox import PIPELINE_FOLDER

TRAINING = Path(__file__).resolve().parents[1] / "training"


@pytest.fixture
def export(monkeypatch):
    """The names in training/export.py."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(TRAINING), *sys.path])
    yield runpy.run_path(str(TRAINING / "export.py"))
    for name in set(sys.modules) - before:
        if str(TRAINING) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def names(file: Path) -> set[str]:
    with safe_open(file, "pt") as tensors:
        return set(tensors.keys())


def test_the_text_encoder_is_written_under_the_names_that_every_transformers_5_reads(export, tmp_path):
    """Those of the file in the package, which 5.0.0 and later versions were seen to read."""
    encoder = export["make_text_encoder"](CLIPTokenizer.from_pretrained(PIPELINE_FOLDER / "tokenizer"))
    encoder.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    export["write_old_names"](file)
    assert names(file) == names(PIPELINE_FOLDER / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in names(file))
    export["write_old_names"](file)  # of names that are old already
    assert names(file) == names(PIPELINE_FOLDER / "text_encoder" / "model.safetensors")
    again, found = CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    pairs = zip(encoder.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("known", [True, False])
def test_training_computes_in_bfloat16_where_the_processor_does(known, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(TRAINING), *sys.path])
    mixed_precision = runpy.run_path(str(TRAINING / "model.py"))["mixed_precision"]
    monkeypatch.setitem(mixed_precision.__globals__, "computes", lambda dtype: known)
    matrix = torch.ones(2, 2)
    with mixed_precision("cpu"):
        assert (matrix @ matrix).dtype == (torch.bfloat16 if known else torch.float32)
    with mixed_precision("cpu", wanted=False):
        assert (matrix @ matrix).dtype == torch.float32
