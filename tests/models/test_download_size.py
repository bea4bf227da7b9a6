"""What a download takes is said before it begins, with the licence; nothing where that cannot be known."""

from types import SimpleNamespace

import huggingface_hub
import pytest

from fifo_diffusion.models.loading import hub
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline
from fifo_diffusion.testing import tiny

NAME = "someone/tiny"
MB = 1_000_000
FILES = {
    "model_index.json": 600,
    "README.md": 30 * MB,
    "model.ckpt": 5_000 * MB,
    "unet/config.json": 900,
    "unet/diffusion_pytorch_model.safetensors": 2_000 * MB,
    "unet/diffusion_pytorch_model.bin": 2_000 * MB,
    "unet/diffusion_pytorch_model.fp16.safetensors": 1_000 * MB,
    "vae/diffusion_pytorch_model.bin": 300 * MB,
    "vae/diffusion_pytorch_model.fp16.bin": 150 * MB,
    "text_encoder/model-00001-of-00002.safetensors": 400 * MB,
    "text_encoder/model-00002-of-00002.safetensors": 300 * MB,
    "text_encoder/model-00001-of-00002.fp16.safetensors": 200 * MB,
    "text_encoder/model.fp16-00002-of-00002.safetensors": 150 * MB,
    "text_encoder/flax_model.msgpack": 700 * MB,
    "safety_checker/model.safetensors": 1_200 * MB,
    "tokenizer/vocab.json": 2 * MB,
}


class Hub:
    """What the hub says of a repository, and which of its files are in the cache."""

    def __init__(self) -> None:
        self.licence, self.cached, self.asked = "cc-by-nc-4.0", set(), []

    def model_info(self, _, name, *, revision, files_metadata, timeout):
        assert (name, files_metadata) == (NAME, True)
        assert timeout <= 10
        self.asked.append(revision)
        siblings = [SimpleNamespace(rfilename=file, size=size) for file, size in FILES.items()]
        return SimpleNamespace(siblings=siblings, card_data=SimpleNamespace(license=self.licence))


@pytest.fixture
def asked(monkeypatch):
    asked = Hub()
    monkeypatch.setattr(hub, "_offline", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: asked.model_info(*a, **k))
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda _, file, *place, **named: f"/cache/{file}" if file in asked.cached else None,
    )
    return asked


PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "3.0 GB"),
        ({"variant": "fp16"}, "1.5 GB"),
        ({"variant": "bf16"}, "3.0 GB"),  # there is none: diffusers says so
    ],
)
def test_weights_of_the_parts_in_their_variant(options, said, asked, caplog):
    hub.tell_download(NAME, hub.files_of_parts(PARTS, options), {})
    assert caplog.messages == [f"downloading {NAME} (licence: cc-by-nc-4.0) from the Hugging Face hub: {said}"]


def test_what_is_in_the_cache_does_not_count(asked, caplog):
    asked.cached = {"unet/diffusion_pytorch_model.safetensors", "text_encoder/model-00002-of-00002.safetensors"}
    asked.licence = ["mit", "other"]  # no text: left out
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {"revision": "main"})
    assert caplog.messages == [f"downloading {NAME} from the Hugging Face hub: 700 MB"]
    assert asked.asked == ["main"]
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {"force_download": True})
    assert caplog.messages[1].endswith(": 3.0 GB")
    asked.cached = {*FILES}
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {})
    assert len(caplog.messages) == 2


def test_little_is_not_worth_a_word(asked, caplog):
    hub.tell_download(NAME, hub.files_of_parts(("tokenizer", "scheduler"), {}), {})
    assert not caplog.messages


def test_a_hub_that_does_not_say_is_no_obstacle(asked, monkeypatch, caplog):
    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {})
    assert not caplog.messages


def test_nobody_is_asked_where_the_hub_may_not_be(asked, monkeypatch):
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {"local_files_only": True})
    monkeypatch.setattr(hub, "_offline", lambda: True)
    hub.tell_download(NAME, hub.files_of_parts(PARTS, {}), {})
    assert asked.asked == []


def test_it_is_said_where_models_are_loaded(asked, monkeypatch, tmp_path, caplog):
    """Before the files come; parts that are given are not downloaded. Single files and folders likewise."""
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path)
    said = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, file, **__: str(tmp_path / file))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: said.extend(caplog.messages) or tmp_path)
    monkeypatch.setattr(
        TextToVideoPipeline, "download", classmethod(lambda *_, **__: said.extend(caplog.messages) or str(tmp_path))
    )
    source = find_model(NAME)
    caplog.clear()
    pipe = source.load()
    assert [line.rpartition(": ")[2] for line in said] == ["3.0 GB"]
    said.clear(), caplog.clear()
    source.load(unet=pipe.unet)
    assert [line.rpartition(": ")[2] for line in said] == ["1.0 GB"]
    said.clear(), caplog.clear()
    source.load_without_weights()
    assert not said
    caplog.clear()
    hub.fetch(NAME, "model.ckpt", {})
    assert caplog.messages[0].endswith(": 5.0 GB")
    hub.fetch_folder(NAME, "text_encoder", {})
    assert said[-1].endswith(": 1.8 GB")
