import shutil

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.testing import published, tiny
from stock_families import Family


@pytest.fixture(scope="module")
def family():
    made = {}

    def get(name):
        if name not in made:
            made[name] = Family(name)
        return made[name]

    yield get
    for one in made.values():
        one.model.close()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny pipeline in a folder, which nobody changes."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.pipeline(**tiny.LIGHT).save_pretrained(path)
    return path


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it."""
    path = tmp_path / "copy"
    shutil.copytree(saved, path)
    return path


@pytest.fixture
def no_traces(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def videocrafter_folder(tmp_path_factory):
    """A folder as one gets it from the hub, with the tokenizer beside the checkpoint; nobody changes it."""
    path = tmp_path_factory.mktemp("videocrafter")
    torch.save({"state_dict": published.small_state_dict(torch.float16), "epoch": 3}, path / "model.ckpt")
    published.tokenizer().save_pretrained(path / "tokenizer")
    return path


@pytest.fixture(scope="module")
def videocrafter(videocrafter_folder):
    """What that folder holds, loaded."""
    with FIFO.from_pretrained(videocrafter_folder / "model.ckpt", device="cpu") as fifo:
        yield fifo
