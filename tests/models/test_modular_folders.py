"""Folders of modular pipelines (`modular_model_index.json`), here and on the hub."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import ClassifierFreeGuidance, MiniMaxH3ModularPipeline, Wan22ModularPipeline
from huggingface_hub.errors import EntryNotFoundError

from fifo_diffusion import FIFO
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import tiny_minimax_h3, tiny_modular

INDEX = "modular_model_index.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "wan22"
    tiny_modular.wan22().save_pretrained(str(folder))
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "wan22"))


def changed(folder: Path, **entries: object) -> None:
    """Entries of the index; of parts what is different about their place."""
    index = json.loads((folder / INDEX).read_text())
    for name, value in entries.items():
        if isinstance(value, dict):
            index[name][2] |= value
        else:
            index[name] = value
    (folder / INDEX).write_text(json.dumps(index))


ALL = ("transformer", "transformer_2", "vae", "text_encoder")


def assert_same_weights(ours: object, theirs: object, names: tuple[str, ...] = ALL) -> None:
    for name in names:
        found, expected = getattr(ours, name).state_dict(), getattr(theirs, name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_loaded_as_diffusers_loads_it(folder, dtype):
    theirs = Wan22ModularPipeline.from_pretrained(str(folder))
    theirs.load_components(dtype={"default": dtype, "vae": torch.float32})
    source = find_model(folder)
    ours, empty = source.load(dtype=dtype), source.load_without_weights()
    assert (type(ours), type(empty)) == (Wan22ModularPipeline, Wan22ModularPipeline)
    assert_same_weights(ours, theirs)
    assert dict(ours.scheduler.config) == dict(theirs.scheduler.config)
    assert (ours.config.boundary_ratio, empty.config.boundary_ratio) == (0.6, 0.6)
    assert ours.guider.guidance_scale == theirs.guider.guidance_scale
    assert {part.device.type for part in (empty.transformer, empty.transformer_2, empty.vae)} == {"meta"}


def test_minimax_h3_is_loaded_as_diffusers_loads_it(tmp_path):
    """Without the transformer for references, of which nothing is read; the autoencoder has tiles, as it comes."""
    tiny_minimax_h3.pipeline().save_pretrained(str(tmp_path))
    index = json.loads((tmp_path / INDEX).read_text())
    index["transformer_ref"] = [*index["transformer"][:2], index["transformer"][2] | {"subfolder": "transformer_ref"}]
    (tmp_path / INDEX).write_text(json.dumps(index))
    (tmp_path / "transformer_ref").mkdir()
    theirs = MiniMaxH3ModularPipeline.from_pretrained(str(tmp_path), workflow="t2va")
    theirs.load_components(dtype=torch.float32)
    ours, empty = find_model(tmp_path).load(dtype=torch.float32), find_model(tmp_path).load_without_weights()
    assert_same_weights(ours, theirs, ("transformer", "vae", "text_encoder"))
    assert (ours.scheduler.shift, ours.audio_scheduler.shift) == (12.0, 3.0)
    assert (ours.vae.use_tiling, empty.transformer.device.type) == (True, "meta")


def test_parts_may_lie_in_another_folder_and_a_guider_beside_them(folder, tmp_path):
    """As in repositories that share an autoencoder."""
    shutil.move(folder / "vae", tmp_path / "shared" / "autoencoder")
    changed(folder, vae={"pretrained_model_name_or_path": str(tmp_path / "shared"), "subfolder": "autoencoder"})
    ClassifierFreeGuidance(guidance_scale=2.0).save_pretrained(folder / "guider")
    place = {"pretrained_model_name_or_path": "somebody/wan22", "subfolder": "guider"}
    changed(folder, guider=["diffusers", "ClassifierFreeGuidance", place])
    changed(folder, transformer={"pretrained_model_name_or_path": "somebody/wan22"})  # a copy of a repository
    with FIFO.from_pretrained(folder, device="cpu", dtype=torch.float32) as fifo:
        assert_same_weights(fifo.pipe, tiny_modular.wan22())
        assert fifo.model.defaults["guidance_scale"] == 2.0
        assert fifo.name == str(folder)


def test_on_the_hub_parts_come_from_the_repositories_that_are_named(folder, tmp_path, monkeypatch):
    """Each of the revision that the index says, this one's of the revision that was found; nothing else is fetched."""
    cache, asked = tmp_path / "cache", []

    def place(name: str) -> Path:
        return cache / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT

    shutil.copytree(folder, place("somebody/wan22"))
    (place("somebody/wan22") / "of_others").mkdir()
    shutil.move(place("somebody/wan22") / "vae", place("other/vae") / "vae")
    for part in ("transformer", "transformer_2", "text_encoder", "tokenizer", "scheduler"):
        changed(place("somebody/wan22"), **{part: {"pretrained_model_name_or_path": "somebody/wan22"}})
    changed(place("somebody/wan22"), vae={"pretrained_model_name_or_path": "other/vae", "revision": "v2"})

    def fetch(name, file, **kwargs):
        asked.append((name, file, kwargs.get("revision")))
        if not (place(name) / file).is_file():
            raise EntryNotFoundError(file)
        return str(place(name) / file)

    def snapshot(name, allow_patterns, **kwargs):
        asked.append((name, allow_patterns, kwargs.get("revision")))
        return str(place(name))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    source = find_model("somebody/wan22")
    assert_same_weights(source.load(), tiny_modular.wan22())
    assert asked[:2] == [("somebody/wan22", "model_index.json", None), ("somebody/wan22", INDEX, None)]
    own = ("transformer", "transformer_2", "text_encoder", "tokenizer", "scheduler")
    expected = {("somebody/wan22", f"{part}/*", COMMIT) for part in own} | {("other/vae", "vae/*", "v2")}
    assert set(asked[2:]) == expected
    asked.clear()
    source.load_without_weights()
    assert ("other/vae", "vae/config.json", "v2") in asked
    assert not any(name == "other/vae" and file.endswith("*") for name, file, _ in asked)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"_blocks_class_name": "MyBlocks"}, r"names blocks of its own \(\"MyBlocks\"\), which would run its code$"),
        ({"vae": ["diffusers", "AutoencoderKLWan"]}, r"\"vae\" must be \[library, class, place\], not "),
        ({"vae": {"subfolder": "../vae"}}, r"\"vae\" lies nowhere: "),
        ({"vae": ["mine", "Vae", {"subfolder": "vae"}]}, "others would run code of their own$"),
        ({"vae": {"subfolder": "no", "pretrained_model_name_or_path": None}}, "has no folder no/: it is not whole$"),
        ({"vae": ["diffusers", "AutoencoderKLWan", {}]}, "no vae yet"),
        ({"transformer_2": ["diffusers", "WanTransformer3DModel", {}]}, "has one of its two transformers only"),
    ],
)
def test_a_damaged_index_is_refused_in_one_line(folder, entries, what):
    changed(folder, **entries)
    with pytest.raises(ValueError, match=what) as error:
        FIFO.from_pretrained(folder, device="cpu")
    assert "\n" not in str(error.value)


def test_a_folder_of_a_class_that_is_refused(folder):
    changed(folder, _class_name="Wan22VaceModularPipeline")
    with pytest.raises(
        TypeError, match="Wan22VaceModularPipeline is not a supported pipeline: it follows given frames"
    ):
        FIFO.from_pretrained(folder, device="cpu")
