"""Configurations with odd values, of model folders and of evaluations, and odd names of models and LoRAs: what they
mean, or one line that names the file."""

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fifo_diffusion.errors import UserError
from fifo_diffusion.models.loading.adapters import read_adapters
from fifo_diffusion.models.loading.lighter import check_quantize
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.study.config import Config, default_rows
from fifo_diffusion.testing import tiny, tiny_wan
from fuzzing import altered, damaged, examples, holds, refused, texts, values

FOLDERS = {"UNet3D": lambda: tiny.pipeline(**tiny.LIGHT), "Wan": tiny_wan.pipeline}


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model"
    FOLDERS[request.param]().save_pretrained(path)
    return path


def empty(folder):
    return find_model(folder).load_without_weights()


@examples(4, 400)
def test_configurations_of_model_folders(count, folder):
    """Read without weights, as for a dry run; `test_damaged_models.py` loads damaged folders whole."""
    files = sorted(path for path in folder.rglob("*.json") if path.stat().st_size < 5000)
    whole = {path: path.read_bytes() for path in files}
    changes = st.sampled_from(files).flatmap(
        lambda path: st.tuples(
            st.just(path),
            altered(json.loads(whole[path])).map(lambda found: json.dumps(found).encode()) | damaged(whole[path]),
        )
    )
    assert empty(folder) is not None

    @holds(count, changes)
    def check(changed):
        path, data = changed
        path.write_bytes(data)
        _, said = refused(lambda: empty(folder), ValueError, TypeError)
        path.write_bytes(whole[path])
        assert said is None or str(folder) in said or "is not a supported pipeline" in said

    assert empty(folder) is not None


@examples(40, 3000)
def test_configurations_of_evaluations(count, tmp_path):
    whole = Config("toybox", ("quality",), default_rows(2, 8), ("a red ball", "a blue ball")).to_json()
    path = tmp_path / "c.json"
    path.write_text(json.dumps(whole))
    assert Config.read(path).to_json() == whole
    texts_of = altered(whole).map(lambda found: json.dumps(found).encode())

    @holds(count, texts_of | damaged(json.dumps(whole).encode()) | values.map(lambda found: json.dumps(found).encode()))
    def check(data):
        path.write_bytes(data)
        config, _ = refused(lambda: Config.read(path), UserError, names=path)
        if config is not None:
            config.write(path)
            assert Config.read(path) == config


NAMES = texts | st.sampled_from(
    ["", ".", "..", "/", "~", "a" * 5000, "a/b", "a\\b", "C:\\x", "file:///x", "-o", "a.pt"]
)


@examples(40, 3000)
def test_names_of_models_and_loras(count, tmp_path, monkeypatch):
    """No name is taken for a file that it does not name; what is understood is written so that it means the same."""
    monkeypatch.chdir(tmp_path)
    Path("style.safetensors").write_bytes(b"x")
    parts = st.sampled_from(["style.safetensors", "a/b", "@high", "@low", ":", "0.8", "/", ".pt", "-1", "1e99", "nan"])
    written = st.lists(parts | texts, min_size=1, max_size=5).map("".join)

    @holds(count, NAMES | written)
    def check(name):
        refused(lambda: find_model(name), ValueError, TypeError)
        refused(lambda: check_quantize(name), ValueError)
        found, _ = refused(lambda: read_adapters(name), ValueError)
        if found:
            assert str(read_adapters([str(each) for each in found])) == str(found)
