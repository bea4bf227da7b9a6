import shutil

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.testing import VideoModelContract, published, tiny
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


REPRESENTATIVE = ("test_unet3d", "test_wan", "test_ltx")
SHARED_MACHINERY = (
    "test_a_denoiser_replaced_in_mid_stream_is_used",
    "test_a_replaced_denoiser_is_used",
    "test_an_adapter_added_in_mid_stream_is_used",
    "test_an_autoencoder_and_a_text_encoder_replaced_in_mid_stream_are_used",
    "test_half_precision",
    "test_lora_counts",
    "test_nothing_waits_for_the_device",
    "test_offloaded_by_leaves",
    "test_what_remembers_earlier_calls_is_refused_in_mid_stream",
)


OF_ITSELF = (
    "test_equal_timesteps_are_the_stock_denoiser",
    "test_mutations_miss_the_tolerance_by_far",
    "test_the_captured_loop_is_the_pipeline",
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """What the contract asks of machinery that families share is in the fast set for a few of them, for the others
    slow; and of a variant, a further class of a module, the fast set has only what is the variant's own."""
    first = {}
    for item in items:
        if item.cls is None or not issubclass(item.cls, VideoModelContract):
            continue
        variant = first.setdefault(item.path, item.cls) is not item.cls and item.originalname not in OF_ITSELF
        if variant or (item.originalname in SHARED_MACHINERY and item.path.stem not in REPRESENTATIVE):
            item.add_marker(pytest.mark.slow)
