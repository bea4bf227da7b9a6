"""Finding, loading and refusing models by name."""

import json
import os
import shutil
from dataclasses import dataclass

import diffusers
import pytest
import torch

from fifo_diffusion import FIFO, Family, register_family, supported_pipelines
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import tiny


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


@pytest.fixture(scope="module")
def zeroscope(folder, tmp_path_factory):
    """A folder as zeroscope's on the hub: pickled weights, the old class, its own schedule."""
    path = tmp_path_factory.mktemp("hub") / "zeroscope_v2_576w"
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.scheduler = tiny.scheduler(timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False)
    pipe.save_pretrained(path)
    names = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    for part, name in names.items():
        (path / part / f"{name}.safetensors").unlink()
        name = "pytorch_model" if part == "text_encoder" else name
        torch.save(getattr(pipe, part).state_dict(), path / part / f"{name}.bin")
    index = json.loads((path / "model_index.json").read_text())
    index["_class_name"] = "TextToVideoSDPipeline"
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_weights_may_be_pickled(zeroscope):
    fifo, stock = FIFO.from_pretrained(zeroscope, device="cpu"), FIFO(tiny.pipeline(**tiny.LIGHT))
    assert (fifo.model.frames, fifo.model.defaults["height"], fifo.model.defaults["width"]) == (24, 320, 576)
    assert fifo.model.defaults["guidance_scale"] == 9.0
    timesteps = fifo.model.levels(4 * 24).timestep
    assert (int(timesteps[0]), int(timesteps[-1])) == (1, 951)
    stock.pipe.scheduler = fifo.pipe.scheduler
    call = {"num_partitions": 1, "window": 4, "lookahead": False, "seed": 0, "height": 16, "width": 16}
    frames = [next(one.stream("a cat", **call)) for one in (fifo, stock)]
    assert (frames[0] == frames[1]).all()


def test_pickled_weights_that_run_code_are_refused(zeroscope, tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for part in ("unet", "text_encoder"):
        path = tmp_path / part / "zeroscope_v2_576w"
        shutil.copytree(zeroscope, path)
        torch.save({"weight": Code()}, next((path / part).glob("*.bin")))
        with pytest.raises(ValueError, match="cannot be loaded: ") as caught:
            find_model(path).load()
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)  # no advice to run it after all
    assert not (tmp_path / "ran").exists()


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
        ("zeroscope", "or a hub id such as cerspense/zeroscope_v2_576w"),
        ("Wan_2.2", "or a hub id such as Wan-AI/Wan2.2-T2V-A14B-Diffusers"),
        ("or", "or a hub id such as owner/name"),
        ("./nowhere", "unknown model './nowhere'"),
        ("nobody/nothing-of-this-name", "cannot be loaded: .*not in the cache"),
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
    assert find_model(tmp_path).file == tmp_path / "model.ckpt"
    with pytest.raises(ValueError, match="give a diffusers folder"):
        FIFO.from_pretrained(tmp_path / "model.ckpt")


def test_a_damaged_folder(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    next((broken / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        FIFO.from_pretrained(broken)


def test_unsupported_pipelines_name_the_supported(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(TypeError, match=r"StableDiffusionPipeline is not a supported pipeline: .*AnimateDiffPipeline"):
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
    monkeypatch.setattr(registry, "_REGISTERED", [])

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
    assert sum(path.stat().st_size for path in PIPELINE_FOLDER.rglob("*") if path.is_file()) < 40e6


def test_a_variant_is_not_missed_where_no_weights_are_read():
    """As for `generate`, which counts the cost before it loads anything."""
    sister, toybox = (registry.wrap(find_model(name).load_without_weights()) for name in ("toybox-diagonal", "toybox"))
    assert sister.defaults == toybox.defaults


def test_the_diagonal_sister_differs_in_its_unet_only():
    toybox, sister = (FIFO.from_pretrained(name) for name in ("toybox", "toybox-diagonal"))
    assert toybox.model.defaults == sister.model.defaults
    assert toybox.model.fingerprint() != sister.model.fingerprint()
    for name in ("unet", "vae", "text_encoder"):
        pairs = zip(getattr(toybox.pipe, name).parameters(), getattr(sister.pipe, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == (name != "unet")
