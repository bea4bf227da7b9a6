"""A model's name is resolved once, and the hub is asked once; the registry is data."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from unittest import SkipTest

import huggingface_hub
import pytest
import torch

from fifo_diffusion import FIFO, Family, supported_pipelines
from fifo_diffusion.cli.main import main
from fifo_diffusion.models import family_list, registry
from fifo_diffusion.models.loading.originals import ORIGINALS
from fifo_diffusion.models.loading.source import ModelSource, find_model
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline
from fifo_diffusion.testing import published, tiny
from fifo_diffusion.testing.tiny_opensora import published_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny"


class Hub:
    """A hub with one repository, in a cache as the hub's own library has it."""

    def __init__(self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = cache / "models--someone--tiny" / "snapshots" / COMMIT
        shutil.copytree(folder, self.place)
        self.files: list[tuple[str, dict]] = []
        self.downloads: list[dict] = []

        def fetch(repository: str, file: str, **kwargs: object) -> str:
            assert repository == NAME
            self.files.append((file, kwargs))
            return str(self.place / file)

        def download(_: type, name: str, **kwargs: object) -> str:
            assert name == NAME
            self.downloads.append(kwargs)
            return str(self.place)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
        monkeypatch.setattr(TextToVideoPipeline, "download", classmethod(download))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "tiny")
    return Hub(tmp_path / "tiny", tmp_path / "cache", monkeypatch)


def test_one_run_asks_the_hub_once(hub, tmp_path):
    words = ["--num-frames", "2", "--num-partitions", "1", "--window", "2", "--no-lookahead", "--start", "noise"]
    words += ["--height", "16", "--width", "16", "--device", "cpu", "-q", "-o", str(tmp_path / "x.gif")]
    assert main(["generate", "a red ball", "--model", NAME, *words]) == 0
    asked = Counter(file for file, _ in hub.files)
    assert asked == {"model_index.json": 1, **{f"{part}/config.json": 1 for part in ("unet", "vae", "text_encoder")}}
    assert hub.files[0][0] == "model_index.json"
    small, whole = hub.downloads  # tokenizer and scheduler for the plan; the weights
    assert {"unet", "vae", "text_encoder"} <= small.keys()
    assert not {"unet", "vae", "text_encoder"} & whole.keys()


def test_all_that_is_fetched_is_of_the_revision_that_was_found(hub):
    source = find_model(NAME, {"revision": "main", "token": "secret"})
    source.load_without_weights()
    source.load()
    assert hub.files[0] == ("model_index.json", {"revision": "main", "token": "secret"})
    later = [kwargs for _, kwargs in hub.files[1:]] + hub.downloads
    assert len(later) == 5
    assert {(kwargs["revision"], kwargs["token"]) for kwargs in later} == {(COMMIT, "secret")}


def test_what_was_found_is_taken_in_place_of_a_name(hub):
    source = find_model(NAME)
    before = list(hub.files)
    assert find_model(source) is source
    with FIFO.from_pretrained(source, device="cpu") as fifo:
        assert fifo.name == NAME
        assert fifo.pipe.config["_name_or_path"] == NAME
    assert hub.files == before
    with pytest.raises(TypeError, match="someone/tiny is found already: give revision to find_model"):
        FIFO.from_pretrained(source, revision="main")


# ------------------------------------------------------------------------------------------------- all kinds of names


def made(kind: str, folder: Path) -> str:
    """A model of this kind; its name."""
    if kind == "Open-Sora Plan":
        return str(published_folder(folder))
    if kind == "VideoCrafter":
        torch.save({"state_dict": published.state_dict()}, folder / "model.ckpt")
        published.tokenizer().save_pretrained(folder / "tokenizer")
        return str(folder / "model.ckpt")
    if kind == "folder":
        tiny.pipeline(**tiny.LIGHT).save_pretrained(folder)
        return str(folder)
    return kind


@pytest.mark.parametrize("kind", ["toybox", "toybox-diagonal", "folder", "Open-Sora Plan", "VideoCrafter"])
def test_every_kind_of_name(kind, tmp_path):
    """With and without weights it is the same pipeline, of the family that its source names before it loads any."""
    source = find_model(made(kind, tmp_path))
    assert source.is_original == (kind in ("Open-Sora Plan", "VideoCrafter"))
    assert source.half_precision == "float16"
    empty, whole = source.load_without_weights(), source.load()
    assert type(empty) is type(whole)
    assert type(whole).__name__ in source.family.pipelines or kind.startswith("toybox")
    for name, part in whole.components.items():
        if hasattr(part, "state_dict"):
            shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in (part, empty.components[name])]
            assert shapes[0] == shapes[1], name
    if kind != "VideoCrafter":  # whose weights are mapped from the file
        assert empty.vae.device.type == "meta"


@pytest.mark.parametrize("version", ["65x512x512", "221x512x512"])
def test_the_half_precision_of_an_original_of_several_files_on_the_hub(version):
    """Nothing is asked for it: its layout is known."""
    source = find_model(f"LanguageBind/Open-Sora-Plan-v1.1.0/{version}")
    assert source.half_precision == "float16"
    assert source.is_original


def test_convert_takes_every_original(tmp_path, capsys):
    name = made("Open-Sora Plan", tmp_path / "published")
    assert main(["convert", name, str(tmp_path / "converted")]) == 0
    assert find_model(tmp_path / "converted").family is find_model(name).family
    assert main(["convert", str(tmp_path / "converted"), str(tmp_path / "again")]) == 2
    assert "is a diffusers pipeline already" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- registry as data


def test_every_class_that_the_registry_names_is_there():
    for family in registry.FAMILIES:
        assert callable(registry.find(family.model)), family.name
        assert family.package == "fifo_diffusion"
        for name in () if family.too_old else family.every:
            assert family.pipeline_class(name) is not None
    for kind in ORIGINALS:
        assert callable(registry.find(kind.load))
        assert kind.place is None or callable(registry.find(kind.place))
        assert kind.pipeline in supported_pipelines()


@pytest.mark.parametrize(
    ("installed", "missing"),
    [
        ("5.0.0", ["LTX2Pipeline", "MotifVideoPipeline"]),
        ("5.1.0", ["LTX2Pipeline"]),
        ("5.9.0", ["LTX2Pipeline"]),
        ("5.10.1", []),
        ("5.23.0", []),
    ],
)
def test_a_family_says_which_transformers_it_needs(installed, missing, monkeypatch):
    """diffusers imports its text encoder from there."""
    monkeypatch.setattr(family_list, "version", lambda name: {"transformers": installed}[name])
    for family in registry.FAMILIES:
        name = family.pipelines[0]
        if name not in missing:
            assert not family.too_old
            continue
        with pytest.raises(TypeError, match=rf"needs transformers>=5\.1.*, here is {installed}: .* -m pip install"):
            family.pipeline_class(name)
        with pytest.raises(SkipTest, match="needs transformers"):
            tiny.pipeline_class(name)


def test_listing_models_imports_none():
    code = (
        "import sys\n"
        "from fifo_diffusion.cli.models_table import table\n"
        "assert 'WanPipeline' in table()\n"
        "heavy = {'torch', 'diffusers', 'transformers'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Installs packages that name families: {entry point: value}."""
    registry._plugins.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)

    def install(**points: str) -> None:
        (tmp_path / "outside-1.0.dist-info").mkdir()
        (tmp_path / "outside-1.0.dist-info" / "METADATA").write_text("Name: outside\nVersion: 1.0\n")
        lines = [f"[{registry.PLUGINS}]", *(f"{name} = {value}" for name, value in points.items())]
        (tmp_path / "outside-1.0.dist-info" / "entry_points.txt").write_text("\n".join(lines))
        (tmp_path / "outside_models.py").write_text(
            "from fifo_diffusion import Family\n"
            "class Model:\n    def __init__(self, pipe): self.pipe = pipe\n"
            "FAMILY = Family('outside', ('OutsidePipeline',), 'outside_models:Model')\n"
        )

    yield install
    registry._plugins.cache_clear()
    sys.modules.pop("outside_models", None)


def test_an_installed_package_brings_a_family(plugins, caplog):
    plugins(mine="outside_models:FAMILY", gone="no_such_module:FAMILY", none="outside_models:Model")

    class OutsidePipeline:
        config: dict = {}  # noqa: RUF012

    model = registry.wrap(OutsidePipeline())
    assert type(model).__name__ == "Model"
    assert isinstance(registry.family_of("OutsidePipeline"), Family)
    assert "no_such_module:FAMILY (entry point gone) cannot be imported" in caplog.text
    assert "outside_models:Model (entry point none) is no fifo_diffusion.Family" in caplog.text
    assert "WanPipeline" in supported_pipelines()


def test_one_call_registers_a_family_by_where_it_is(plugins, monkeypatch, tmp_path):
    """Its package counts too: parts of its own are loaded from a folder."""
    plugins()
    monkeypatch.setattr(registry, "_REGISTERED", [])
    registry.register_family(Family("mine", ("TextToVideoPipeline",), "outside_models:Model"))
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path / "tiny")
    monkeypatch.setattr("diffusers.TextToVideoPipeline", TextToVideoPipeline, raising=False)
    assert isinstance(source := find_model(tmp_path / "tiny"), ModelSource)
    assert source.family.package == "outside_models"
    assert type(registry.wrap(source.load())).__name__ == "Model"


def test_an_index_names_the_family_and_nothing_else_does(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    assert find_model(tmp_path).family.name.startswith("Wan")
    assert find_model(tmp_path).half_precision == "bfloat16"


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + "/b", "a\0b", ""])
def test_what_can_be_the_name_of_nothing_is_no_model(name):
    with pytest.raises(ValueError, match=r"^unknown model"):
        find_model(name)
