"""Finding, loading and refusing models by name."""

import json
from dataclasses import dataclass

import diffusers
import pytest

import tiny
from fifo_diffusion import FIFO, Family, register_family, supported_pipelines
from fifo_diffusion.models import registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.pipeline(**tiny.LIGHT).save_pretrained(path)
    return path


def test_a_folder_loads_and_runs(folder):
    with FIFO.from_pretrained(folder) as fifo:
        assert type(fifo.pipe).__name__ == "TextToVideoPipeline"
        frame = next(fifo.stream("a cat", seed=0, num_partitions=1, window=4, lookahead=False))
        assert frame.shape == (16, 16, 3)


def test_weights_may_be_pickled(tmp_path):
    """zeroscope's folder on the hub holds .bin files."""
    tiny.pipeline(**tiny.LIGHT).save_pretrained(tmp_path, safe_serialization=False)
    assert any(tmp_path.rglob("*.bin"))
    registry.load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("name", "frames", "width"),
    [("cerspense/zeroscope_v2_576w", 24, 576), ("/models/zeroscope_v2_576w", 24, 576), ("someone/else", 16, 16)],
)
def test_known_checkpoints_bring_their_clip_length_and_size(name, frames, width):
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.register_to_config(_name_or_path=name)
    model = registry.wrap(pipe)
    assert (model.frames, model.defaults["width"]) == (frames, width)
    assert model.defaults["guidance_scale"] == 9.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "unknown model 'nonsense': give 'toybox', a folder, or a hub id"),
        ("./nowhere", "unknown model './nowhere'"),
        ("nobody/nothing-of-this-name", "cannot be loaded: .*check the spelling"),
    ],
)
def test_unknown_models(name, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message) as caught:
        FIFO.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_files_and_folders_that_are_no_pipelines(tmp_path):
    with pytest.raises(ValueError, match=r"the folder has no model_index\.json"):
        FIFO.from_pretrained(tmp_path)
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(ValueError, match="give a diffusers folder"):
        FIFO.from_pretrained(tmp_path / "model.ckpt")


def test_a_damaged_folder(folder, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    next((broken / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        FIFO.from_pretrained(broken)


def test_unsupported_pipelines_name_the_supported(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(TypeError, match="StableDiffusionPipeline is not a supported pipeline; supported: TextToVideo"):
        FIFO.from_pretrained(tmp_path)

    class SomePipeline:
        pass

    with pytest.raises(TypeError, match="SomePipeline is not a supported pipeline"):
        FIFO(SomePipeline())


def test_a_subclass_of_a_supported_pipeline_is_supported():
    class Mine(tiny.TextToVideoPipeline):
        pass

    assert registry.wrap(Mine(**tiny.components(**tiny.LIGHT))).family == "UNet3D"


def test_registering_a_family(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", list(registry._FAMILIES))

    @dataclass
    class OwnModel:
        pipe: object

    class OwnPipeline:
        config = {}  # noqa: RUF012

    register_family(Family("own", ("OwnPipeline",), OwnModel))
    assert "OwnPipeline" in supported_pipelines()
    assert isinstance(FIFO(OwnPipeline()).model, OwnModel)


def test_toybox_is_an_ordinary_diffusers_folder():
    from fifo_diffusion.toybox import PIPELINE_FOLDER

    pipe = diffusers.DiffusionPipeline.from_pretrained(PIPELINE_FOLDER)
    assert {"vae", "unet", "text_encoder", "tokenizer", "scheduler"} <= set(pipe.components)
    assert sum(path.stat().st_size for path in PIPELINE_FOLDER.rglob("*") if path.is_file()) < 22e6
