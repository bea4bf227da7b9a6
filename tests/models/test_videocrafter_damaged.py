"""Files that are no VideoCrafter checkpoint, or a damaged one: refused in one line that names what is wrong."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fifo_diffusion.models.loading.source import find_model
from fifo_diffusion.testing import published
from videocrafter_files import ONE, TEXT, UNET, VAE, hollow, refused, without, write

pytestmark = pytest.mark.usefixtures("no_traces")


def with_(**tensors: Tensor):
    return hollow() | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: without(f"{UNET}out.2.bias"), r"VideoCrafter U-Net: 1 missing tensor\(s\): out\.2\.bias$"),
        (lambda: without(f"{VAE}quant_conv"), r"autoencoder: 2 missing tensor\(s\): quant_conv\.bias, quant_conv\.w"),
        (lambda: without(f"{VAE}encoder.down.2"), r"autoencoder: .*missing tensor\(s\): encoder\.down\.2\."),
        (lambda: without(f"{TEXT}ln_final"), r"text tower: 2 missing tensor\(s\): ln_final\.bias, ln_final\.weight$"),
        (lambda: without(f"{TEXT}transformer.resblocks.3.attn.in_proj_weight"), r"text tower: 1 missing .*in_proj_w"),
        (lambda: without(f"{TEXT}transformer.resblocks.23.ln_2"), r"text tower: 2 missing tensor\(s\): .*23\.ln_2\.b"),
        (lambda: without(f"{TEXT}logit_scale"), r"text tower: 1 missing tensor\(s\): logit_scale$"),
        (lambda: without("betas", "alphas_cumprod"), r"checkpoint: 3 missing tensor\(s\): alphas_cumprod, alphas_cum"),
        (lambda: without(TEXT), r"no tensor is called cond_stage_model\.model\.\*: the text_encoder is missing"),
        (lambda: without(VAE), r"no tensor is called first_stage_model\.\*: the vae is missing"),
        (lambda: without(UNET), r"no tensor is called model\.diffusion_model\.\*: the unet is missing"),
        (lambda: without(UNET, VAE, TEXT), r"not a VideoCrafter checkpoint: no tensor is called model\.diffusion_m"),
        (lambda: with_(model_ema__decay=ONE), r"checkpoint: 1 unknown tensor\(s\): model_ema\.decay$"),
        (lambda: with_(first_stage_model__loss__logvar=ONE), r"autoencoder: 1 unknown tensor\(s\): loss\.logvar$"),
        (lambda: with_(cond_stage_model__model__visual__proj=ONE), r"text tower: 1 unknown tensor\(s\): visual\.proj$"),
        (
            lambda: with_(first_stage_model__quant_conv__bias=ONE),
            r"misshapen .* quant_conv\.bias \(1,\) instead of \(8,",
        ),
        (lambda: with_(cond_stage_model__model__ln_final__bias=ONE), r"misshapen .* ln_final\.bias \(1,\) instead"),
        (
            lambda: with_(cond_stage_model__model__transformer__resblocks__0__attn__in_proj_bias=torch.zeros(128)),
            r"1 misshapen .*resblocks\.0\.attn\.in_proj_bias \(128,\) instead of \(384,\)$",
        ),
        (lambda: with_(alphas_cumprod=torch.linspace(1, 0, 1000)), r"noise schedule \(alphas_cumprod\) is not Video"),
        (lambda: with_(scale_arr=torch.rand(1400)), r"rescaling of the signal \(scale_arr\) is not of VideoCrafter's"),
        (lambda: with_(scale_arr=torch.ones(10)), r"rescaling of the signal \(scale_arr\) is not of VideoCrafter's"),
        (
            lambda: with_(
                model__diffusion_model__input_blocks__1__1__transformer_blocks__0__attn2__to_k_ip__weight=ONE
            ),
            "unsupported VideoCrafter variant: image cross-attention",
        ),
    ],
)
def test_wrong_tensors_are_named(tmp_path, state, message):
    path = write(tmp_path / "model.ckpt", {"state_dict": state()})
    parts = {"tokenizer": published.tokenizer()}
    if "U-Net" not in message and "unet" not in message and "variant" not in message:
        parts["unet"] = nn.Identity()  # converting it takes longest
    refused(path, f"^{tmp_path}/model.ckpt: .*{message}", **parts)


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"a": ONE}, "callbacks": Code()},
            r"wants to run code when it is loaded \(\w+\.mkdir\), which is ",
        ),
        (
            {"state_dict": {"a": ONE}, "args": Path("x")},
            r"wants to run code .* if you trust whoever made it, keep its te",
        ),
        ({"state_dict": {"a": 1}}, "is no checkpoint of a model: it holds no state_dict of tensors"),
        ({}, "is no checkpoint of a model"),
        ([ONE], "is no checkpoint of a model"),
    ],
)
def test_files_that_hold_something_else(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    refused(write(tmp_path / "model.ckpt", content), message)
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(content))
    refused(tmp_path / "model.ckpt", "wants to run code|neither a PyTorch checkpoint|no checkpoint of a model|damaged")
    assert not Path("ran").exists()


def test_the_advice_for_unsafe_files_works(tmp_path):
    path = write(tmp_path / "old.ckpt", {"state_dict": hollow(), "args": Path("x")})
    with pytest.raises(ValueError, match=r"in Python: (.*)$") as caught:
        find_model(path).load()
    advice = str(caught.value).partition("in Python: ")[2]
    exec(advice, {"torch": torch, "OLD": path, "NEW": tmp_path / "new.ckpt"})
    find_model(tmp_path / "new.ckpt").load(tokenizer=published.tokenizer())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.ckpt", lambda data: data[: len(data) // 2], "is cut off: download it again"),
        ("model.ckpt", lambda data: b"", "neither a PyTorch checkpoint nor safetensors: give a diffusers folder"),
        ("model.ckpt", lambda data: b"x", "give a diffusers folder, or an original VideoCrafter checkpoint"),
        ("model.ckpt", lambda data: b"<html>no such file</html>", "neither a PyTorch checkpoint nor safetensors"),
        ("model.ckpt", lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("model.safetensors", lambda data: data, "is damaged or no checkpoint .*: download it again"),
        ("model.safetensors", lambda data: b"", "is damaged or no checkpoint"),
    ],
)
def test_damaged_files(tmp_path, name, damage, message):
    data = write(tmp_path / "whole", {"state_dict": {"a": torch.zeros(1000)}}).read_bytes()
    (tmp_path / name).write_bytes(damage(data))
    refused(tmp_path / name, message)


@pytest.mark.parametrize("name", ["model.ckpt", "models/model.ckpt", "/nowhere/model.safetensors"])
def test_files_that_are_not_there(name):
    refused(Path(name), f"there is no file {name}$")


def test_arguments_that_a_checkpoint_does_not_take(tmp_path):
    path = write(tmp_path / "model.ckpt", {"state_dict": hollow()})
    refused(path, "not loaded with an argument 'variant'", TypeError, variant="fp16")
