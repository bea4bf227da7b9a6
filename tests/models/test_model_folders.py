"""Model folders that are damaged, or that want to run code: refused in one line that names the file, before anything is
run."""

import json
import shutil
import sys

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from fifo_diffusion import FIFO
from fifo_diffusion.models import registry
from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline
from fifo_diffusion.testing import tiny
from model_files import change, refused, weights

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"


# ------------------------------------------------------------------------------------- code in the folder


@pytest.fixture
def evil(folder, tmp_path, monkeypatch):
    """A folder with code under every name that some version of diffusers would import."""
    monkeypatch.chdir(tmp_path)
    code = f"""open({str(tmp_path / "ran")!r}, "w")
from fifo_diffusion.models.text_to_video import TextToVideoPipeline
class Evil(TextToVideoPipeline): pass
UNet3DConditionModel = Evil"""
    for name in ("evil.py", "None.py", "unet/evil.py", "unet/diffusers.py", "pipeline.py", "../evil.py"):
        (folder / name).write_text(code)
    yield folder
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_files_of_code_are_never_run(evil, monkeypatch):
    """A folder is read without diffusers' own loader, versions of which import what they find."""

    def no(*_, **__):
        raise AssertionError

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", no)
    with FIFO.from_pretrained(evil, device="cpu") as fifo:
        assert type(fifo.pipe).__name__ == "TextToVideoPipeline"
    registry.wrap(find_model(str(evil)).load_without_weights()).close()


@pytest.mark.parametrize("class_name", [["evil", "TextToVideoPipeline"], ["evil"], {"evil": 1}, None, "os.system", 5])
def test_a_pipeline_class_of_its_own_is_refused(evil, class_name):
    change(evil / "model_index.json", _class_name=class_name)
    refused(evil, "model_index.json names (a|no) pipeline class")
    with pytest.raises(ValueError, match="pipeline class"):
        registry.wrap(find_model(str(evil)).load_without_weights())


@pytest.mark.parametrize(
    "entry",
    [
        ["evil", "Evil"],
        ["../evil", "Evil"],
        ["unet/evil", "Evil"],
        ["os", "system"],
        ["builtins", "exec"],
        ["diffusers", "os"],
        ["diffusers.utils", "logging"],
        ["diffusers.os", "system"],
        ["diffusers", "utils.logging"],
        ["diffusers", "DiffusionPipeline"],  # would bring an index of its own
        ["diffusers", "AutoModel"],
        ["transformers", "pipeline"],
        ["transformers", "AutoModel"],
        ["torch.hub", "load"],
        ["fifo_diffusion", "FIFO"],
        ["fifo_diffusion.cli.main", "app"],
        ["fifo_diffusion.models.registry", "Family"],
        ["fifo_diffusion.models.class_latte.pipeline", "AutoencoderKL"],
        ["diffusers"],
        [1, 2],
    ],
)
def test_parts_of_other_libraries_are_refused(evil, entry):
    change(evil / "model_index.json", unet=entry)
    refused(evil, r"model_index.json: \"?unet\"? (is of|must be)")
    with pytest.raises(ValueError, match="unet"):
        registry.wrap(find_model(str(evil)).load_without_weights())


def test_a_part_that_the_pipeline_does_not_take_may_not_be_code_either(evil):
    change(evil / "model_index.json", extra=["evil", "Evil"])
    refused(evil, "others would run code")
    change(evil / "model_index.json", extra=["stable_diffusion", "StableDiffusionSafetyChecker"])
    find_model(evil)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"attn_implementation": "someone/kernel"}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    ],
)
def test_configurations_that_name_code_are_refused(evil, file, changes):
    change(evil / file, **changes)
    refused(evil, f"{file} names code of its own")


def test_asking_for_code_is_refused_too(evil):
    for argument in ({"custom_pipeline": "evil"}, {"trust_remote_code": True}):
        with pytest.raises(TypeError, match="none of its code is run; load the pipeline yourself"):
            FIFO.from_pretrained(evil, **argument)
    with pytest.raises(TypeError, match="not loaded with an argument 'unett'"):
        FIFO.from_pretrained(evil, unett=None)


def test_an_index_from_the_hub_is_checked_before_anything_else_is_fetched(evil, monkeypatch):
    change(evil / "model_index.json", _class_name=["evil", "TextToVideoPipeline"])
    fetched = []

    def fetch(repository, file, **_):
        fetched.append(file)
        return str(evil / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    refused("someone/model", "names a pipeline class of its own")
    assert set(fetched) == {"model_index.json"}


def test_a_model_from_the_hub_is_loaded_from_what_was_fetched(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, file, **__: str(folder / file))
    monkeypatch.setattr(TextToVideoPipeline, "download", classmethod(lambda *_, **__: str(folder)))
    pipe = find_model("someone/zeroscope_v2_576w").load()
    assert pipe.config["_name_or_path"] == "someone/zeroscope_v2_576w"
    assert registry.wrap(pipe).frames == 24
    assert registry.wrap(find_model("someone/zeroscope_v2_576w").load_without_weights()).frames == 24


# ------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no JSON"),
        ("[]", "must hold an object, not"),
        ("null", "must hold an object, not null"),
        ("{}", "names no pipeline class"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{\x80", "no JSON"),
        (b'{"_class_name": "\xe9"}', "no JSON"),
        ('{"_class_name": ' + "9" * 5000 + "}", "no JSON"),
        (POINTER, "only points to the file: fetch it with `git lfs pull`"),
        (" " * 5_000_000, "5 MB, which is no configuration"),
    ],
)
def test_a_damaged_index(folder, text, match):
    (folder / "model_index.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(folder, f"model_index.json.*{match}")


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("unet/config.json", {"in_channels": -4}, "unet/config.json makes no UNet3DConditionModel"),
        ("unet/config.json", {"in_channels": "x"}, "unet/config.json makes no UNet3DConditionModel"),
        ("unet/config.json", {"in_channels": 0}, "unet: .*misshapen"),
        ("unet/config.json", {"in_channels": 10**12}, "unet/config.json: in_channels is 1000000000000, which no"),
        ("unet/config.json", {"layers_per_block": 10**6}, "unet/config.json: layers_per_block is 1000000"),
        ("unet/config.json", {"block_out_channels": [32] * 5000}, "block_out_channels has 5000 entries"),
        ("unet/config.json", {"block_out_channels": [10**6]}, "unet.* asks for .* numbers"),
        ("unet/config.json", {"cross_attention_dim": 10**8}, "unet.* asks for .* they do not belong together"),
        ("unet/config.json", {"norm_eps": float("nan")}, "norm_eps is nan"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ("text_encoder/config.json", {"hidden_size": -24}, "text_encoder/config.json makes no CLIPTextModel"),
        ("text_encoder/config.json", {"vocab_size": 3}, "text_encoder: .*misshapen"),
        ("vae/config.json", {"latent_channels": None}, "vae/config.json makes no AutoencoderKL"),
        ("vae/config.json", {"block_out_channels": "abc"}, "vae/config.json makes no AutoencoderKL"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "num_train_timesteps is 1000000000000"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}, "scheduler makes no DDIMScheduler"),
        ("scheduler/scheduler_config.json", {"beta_start": float("nan")}, "beta_start is nan"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": -5}, "model_max_length is -5"),
    ],
)
def test_configurations_that_no_model_has(folder, file, changes, match):
    change(folder / file, **changes)
    refused(folder, match)


def test_a_tokenizer_without_a_length_gets_that_of_its_text_encoder(folder):
    change(folder / "tokenizer/tokenizer_config.json", model_max_length=10**30)
    assert find_model(folder).load().tokenizer.model_max_length == 8


def test_a_tokenizer_of_another_model(folder):
    fast = json.loads((folder / "tokenizer/tokenizer.json").read_text())
    fast["model"]["vocab"] |= {f"word{k}": 100 + k for k in range(100)}
    (folder / "tokenizer/tokenizer.json").write_text(json.dumps(fast))
    refused(folder, "tokenizer has 121 words, the text encoder knows 64: not of one model")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGE = {
    "cut": (cut, "damaged .*: download it again"),
    "empty": (lambda path: path.write_bytes(b""), "is empty: download it again"),
    "pointer": (lambda path: path.write_text(POINTER), "only points to the file: fetch it with `git lfs pull`"),
    "noise": (lambda path: path.write_bytes(b"noise" * 1000), "damaged"),
    "missing": (lambda path: path.unlink(), "has no weights .*: the model is not whole"),
    "header": (lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_damaged_weights(folder, part, damage):
    make, match = DAMAGE[damage]
    make(weights(folder, part))
    refused(folder, f"copy/{part}.*{match}")


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("unet", "copy has no folder unet/: it is not whole"),
        ("unet/config.json", "there is no file .*unet/config.json: the model is not whole"),
        ("text_encoder/config.json", "there is no file .*text_encoder/config.json"),
        ("scheduler/scheduler_config.json", "scheduler makes no DDIMScheduler"),
        ("tokenizer", "has no folder tokenizer/"),
    ],
)
def test_what_is_missing_is_named(folder, path, match):
    gone = folder / path
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    refused(folder, match)


def test_shards(folder):
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    names = load_file(weights(folder, "unet"))
    for shard, match in (("gone.safetensors", "gone.safetensors is missing"), ("../x", "names a file elsewhere")):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
        refused(folder, match)
    index.write_text("{}")
    refused(folder, "has no weight_map")


# ------------------------------------------------------------------------------------- what is asked for


@pytest.fixture
def both(folder):
    """With the weights a second time, as the variant fp16."""
    tiny.pipeline(**tiny.LIGHT).to(torch.float16).save_pretrained(folder, variant="fp16")
    return folder


def as_pointers(folder, pattern):
    for path in folder.rglob(pattern):
        path.write_text(POINTER)


def test_only_the_weights_that_are_read_have_to_be_there(both):
    """Of a repository with several formats and variants, one is fetched."""
    whole = load_file(both / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        (both / part / f"{name}.bin").write_text(POINTER)
        (both / part / "optimizer.pt").touch()
    find_model(both).load()
    as_pointers(both, "*model.safetensors")
    index = both / "text_encoder" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    pipe = find_model(both).load(variant="fp16", dtype=torch.float16)
    assert all(torch.equal(value, whole[name]) for name, value in pipe.unet.state_dict().items())
    refused(both, "is missing|only points to the file")
    as_pointers(both, "*.fp16.safetensors")
    with pytest.raises(ValueError, match=r"model\.fp16\.safetensors only points to the file"):
        find_model(both).load(variant="fp16")


def test_a_variant_that_is_not_there(both):
    for variant in ("bf16", "fp1"):
        with pytest.raises(ValueError, match=f"has no weights of the variant '{variant}'"):
            find_model(both).load(variant=variant)
    for path in both.rglob("*model.safetensors"):
        path.unlink()
    refused(both, "has weights of the variant fp16 only: in Python, variant='fp16' loads it")


def test_a_dtype_is_that_of_all_parts(folder):
    """Also by its name, which transformers would read and diffusers would not."""
    for dtype in ("float16", torch.float16):
        pipe = find_model(folder).load(dtype=dtype)
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float16}
    pipe = find_model(folder).load(dtype={"unet": "bfloat16"})
    assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.bfloat16, torch.float32)
    for dtype in ("auto", "fp16", torch.int8, 16, {"unet": "auto"}):
        with pytest.raises(TypeError, match=r"give torch\.float32, torch\.float16 or"):
            find_model(folder).load(dtype=dtype)
    with pytest.raises(ValueError, match="it has no part 'transformer' to give a dtype"):
        find_model(folder).load(dtype={"transformer": torch.float16})
    with pytest.raises(TypeError, match="give dtype alone"):
        find_model(folder).load(dtype=torch.float16, torch_dtype=torch.float32)


@pytest.mark.parametrize("device_map", ["balanced", "auto", {"unet": 0}])
def test_a_pipeline_is_not_spread_over_devices(folder, device_map):
    with pytest.raises(TypeError, match=r"device_map=.* is no device, .* FIFO\(pipe\)"):
        FIFO.from_pretrained(folder, device_map=device_map)


def test_a_device_map_of_one_device_is_the_device(folder):
    assert FIFO.from_pretrained(folder, device_map="cpu").pipe.device == torch.device("cpu")
