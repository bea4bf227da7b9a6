"""What is said of models that cannot be loaded, and of pipelines whose relatives could be used."""

from types import SimpleNamespace

import diffusers
import huggingface_hub
import pytest
import requests
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from fifo_diffusion import FIFO
from fifo_diffusion.models.loading import hub
from fifo_diffusion.models.shared import arguments
from fifo_diffusion.testing import tiny
from fifo_diffusion.testing.tiny_animatediff import LIGHT, pipeline, with_ip_adapter
from fifo_diffusion.testing.tiny_latte import pipeline as latte_pipeline

NO_FILE = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)


def refusal(kind, status=404, file="model_index.json"):
    error = kind.__new__(kind)
    Exception.__init__(error, "a first line\nand more")
    error.response = SimpleNamespace(status_code=status, url=f"https://huggingface.co/a/b/resolve/main/{file}")
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal(errors.LocalEntryNotFoundError), "there is no connection"),
        (refusal(errors.GatedRepoError, 403), "https://huggingface.co/owner/name was agreed to"),
        (refusal(errors.RepositoryNotFoundError, 401), "no such repository"),
        (refusal(errors.RevisionNotFoundError), "no revision 'v9'"),
        (
            refusal(getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)),
            "has no model_index.json: it is no diffusers pipeline",
        ),
        (refusal(errors.HfHubHTTPError, 401), "hf auth login"),
        (refusal(errors.HfHubHTTPError, 503), "status 503: try again later"),
        (errors.HFValidationError("Repo id must be ..."), "give owner/name"),
        (requests.ConnectionError("refused"), r"did not give it \(refused\): check your connection"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_why_the_hub_gave_nothing(monkeypatch, error, said):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setattr(hub, "_offline", lambda: False)
    with pytest.raises(ValueError, match=said) as raised:
        FIFO.from_pretrained("owner/name", revision="v9", device="cpu")
    assert "\n" not in str(raised.value)
    assert "model 'owner/name' cannot be loaded" in str(raised.value)


def test_offline_is_not_a_lack_of_connection(tmp_path):
    with pytest.raises(ValueError, match=f"not in the cache {tmp_path}; .* local_files_only forbids"):
        FIFO.from_pretrained("owner/name", cache_dir=tmp_path, local_files_only=True, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.pipeline(**tiny.LIGHT).save_pretrained(path)
    return path


def test_misspelt_arguments_of_loading(folder):
    with pytest.raises(TypeError, match=r"varient.*did you mean variant"):
        FIFO.from_pretrained(folder, device="cpu", varient="fp16")
    with pytest.raises(TypeError, match=r"text_encodr.*did you mean text_encoder"):
        FIFO.from_pretrained(folder, device="cpu", text_encodr=None)


def test_pipelines_whose_relatives_can_be_used(tmp_path):
    class StableDiffusionPipeline:
        pass

    class WanModularPipeline:
        pass

    class OtherModularPipeline:
        pass

    with pytest.raises(TypeError, match=r"FIFO\(AnimateDiffPipeline.from_pretrained\(NAME, motion_adapter=ADAPTER\)\)"):
        FIFO(StableDiffusionPipeline())
    with pytest.raises(TypeError, match="WanModularPipeline only has the name of a modular pipeline: load it with dif"):
        FIFO(WanModularPipeline())
    with pytest.raises(TypeError, match="modular pipeline, and FIFO takes"):
        FIFO(OtherModularPipeline())
    (tmp_path / "modular_model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"modular_model_index.json names no pipeline class: _class_name is null$"):
        FIFO.from_pretrained(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(TypeError, match="motion_adapter=ADAPTER"):
        FIFO.from_pretrained(tmp_path, motion_adapter=None, device="cpu")


def test_an_ip_adapter_without_a_picture():
    with FIFO(with_ip_adapter(pipeline(**LIGHT))) as fifo, pytest.raises(ValueError, match="no picture for it"):
        fifo.stream("a cat", window=4, num_partitions=1, height=16, width=16)


def test_a_unet_that_names_no_size_takes_the_size_that_is_given():
    pipe = tiny.pipeline(**tiny.LIGHT)
    pipe.unet.register_to_config(sample_size=None)
    assert pipe("a cat", height=16, width=16, num_frames=2, num_inference_steps=1).frames.shape == (1, 2, 16, 16, 3)
    with FIFO(pipe) as fifo:
        next(fifo.stream("a cat", window=2, num_partitions=1, height=16, width=16, lookahead=False))


def test_captions_are_cleaned_where_it_is_said_only(monkeypatch):
    pipe = latte_pipeline()
    seen = []
    original = diffusers.LattePipeline._text_preprocessing
    monkeypatch.setattr(
        diffusers.LattePipeline,
        "_text_preprocessing",
        lambda self, text, clean_caption=False: seen.append(clean_caption) or original(self, text),
    )
    with FIFO(pipe) as fifo:
        call = {"height": 16, "width": 16, "guidance_scale": 3.0}
        fifo.model.condition(["a cat"], **call)
        assert set(seen) == {False}
        monkeypatch.setattr(arguments, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="clean_caption=True needs"):
            fifo.stream("a cat", window=4, num_partitions=1, height=16, width=16, clean_caption=True)
        with pytest.raises(ValueError, match="clean_caption=True needs the package beautifulsoup4"):
            fifo.model.condition(["a cat"], clean_caption=True, **call)
        monkeypatch.setattr(arguments, "find_spec", lambda name: True)
        fifo.model.condition(["a cat"], clean_caption=True, **call)
        assert seen[-1] is True


def test_the_hub_is_asked_once_where_there_is_no_connection_and_that_is_said(monkeypatch, caplog, tmp_path):
    """Each try waits for a minute; what is in the cache may still do."""
    asked = []

    def fail(repository, file, **arguments):
        asked.append((file, arguments.get("local_files_only", False), caplog.text.count("looking for owner/name")))
        raise refusal(errors.LocalEntryNotFoundError)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setattr(hub, "_offline", lambda: False)
    with pytest.raises(ValueError, match="there is no connection"):
        FIFO.from_pretrained("owner/name", cache_dir=tmp_path, device="cpu")
    assert asked[0] == ("model_index.json", False, 1)
    assert len(asked) > 1
    assert all(alone for _, alone, _ in asked[1:])
    caplog.clear()
    with pytest.raises(ValueError, match="local_files_only forbids"):
        FIFO.from_pretrained("owner/name", cache_dir=tmp_path, local_files_only=True, device="cpu")
    assert "looking for" not in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("blocks.0.self_attn.q.weight", "is the transformer of a Wan model alone: give the whole pipeline, Wan-AI"),
        ("model.diffusion_model.blocks.0.self_attn.q.weight", "is the transformer of a Wan model alone"),
        ("double_blocks.0.img_attn.qkv.weight", "is a transformer alone: give a folder of the whole pipeline"),
        ("transformer.blocks.0.attn1.to_q.lora_A.weight", "is a LoRA, not a model: give it as lora$"),
        ("lora_unet_down_blocks_0.lora_down.weight", "is a LoRA, not a model"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "is a motion module of AnimateDiff alone"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "AnimateDiffPipeline.from_single_file"),
        ("conditioner.embedders.0.transformer.text_model.weight", "AnimateDiffSDXLPipeline.from_single_file"),
    ],
)
def test_single_files_that_people_have(tmp_path, name, said):
    """A part of a model, or a model of pictures: what it is, and what to give instead."""
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=said) as raised:
        FIFO.from_pretrained(path, device="cpu")
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
