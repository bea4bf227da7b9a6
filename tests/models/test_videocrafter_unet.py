"""VideoCrafter's U-Nets under diffusers' names, against numbers recorded from the published code."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from torch import Tensor

from fifo_diffusion.models.unet3d.hooks import PerFrameHooks
from fifo_diffusion.models.videocrafter.model import (
    UNET_PREFIX,
    load_unet,
    unet_config,
    videocrafter_alphas_cumprod,
)
from fifo_diffusion.testing import distance, golden

DATA = Path(__file__).parents[1] / "data"
TOLERANCE = 1e-5  # relative in norm

CASES = ["uniform_f4", "uniform_b2_f4", "per_frame_f4", "per_frame_f8", "per_frame_f16", "per_frame_b2_f4"]


# -- recorded numbers --------------------------------------------------------------------------------------------------


def published_unet() -> dict[str, Tensor]:
    """Fresh float32 weights of the tiny U-Net under the published names."""
    return golden.load("unet_vc2_a")[0]


def case(name: str) -> dict[str, Tensor]:
    cases, _ = golden.load("forward_vc2_a")
    return {key: cases[f"{name}.{key}"] for key in ("x", "timesteps", "context", "fps", "out")}


@cache
def full_size(variant: str) -> dict[str, list[int]]:
    return json.loads(gzip.decompress((DATA / "vc_full_keys.json.gz").read_bytes()))[variant]["state"]


def empty(shapes: dict[str, list[int]], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# -- running the stock class -------------------------------------------------------------------------------------------


@torch.no_grad()
def run(unet: UNet3DConditionModel, x: Tensor, timesteps: Tensor, context: Tensor, fps: Any = None) -> Tensor:
    """One pass; `timesteps` are one per video (B,), or one per frame (B, F) or (F,) where F is not B."""
    rate = None if fps is None else torch.as_tensor(fps).reshape(-1)
    if timesteps.shape == x.shape[:1]:
        return unet(x, timesteps, context, timestep_cond=rate).sample
    hooks = PerFrameHooks(unet)
    with hooks.active(timesteps.reshape(x.shape[0], x.shape[2])):
        result = unet(x, timesteps.reshape(-1)[0], context, timestep_cond=rate).sample
    hooks.remove()
    return result


@pytest.fixture(scope="module")
def unet() -> UNet3DConditionModel:
    return load_unet(published_unet())


# -- single passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_published_numbers(unet, name):
    given = case(name)
    result = run(unet, given["x"], given["timesteps"], given["context"], given["fps"])
    assert distance(result, given["out"]) < TOLERANCE


def test_published_numbers_from_a_checkpoint_file():
    given, _ = golden.load("tiny_checkpoint_io")
    state = torch.load(golden.find("tiny_checkpoint.ckpt"), map_location="cpu", weights_only=True)["state_dict"]
    part = {name: tensor for name, tensor in state.items() if name.startswith(UNET_PREFIX)}
    unet = load_unet(part, torch.float32)
    result = run(unet, given["x"], given["timesteps"], given["context"], given["fps"])
    assert distance(result, given["unet_out"]) < TOLERANCE
    torch.testing.assert_close(videocrafter_alphas_cumprod().float(), state["alphas_cumprod"], rtol=1e-6, atol=0)


def test_fps_may_change_and_be_left_out(unet):
    given = case("uniform_f4")
    inputs = given["x"], given["timesteps"], given["context"]
    assert distance(run(unet, *inputs, 8), given["out"]) < TOLERANCE
    for other in (28, None):
        assert distance(run(unet, *inputs, other), given["out"]) > 100 * TOLERANCE


def test_fps_count_must_fit(unet):
    given = case("uniform_b2_f4")
    with pytest.raises(ValueError, match="3 values, which does not divide the 2 rows"):
        run(unet, given["x"], given["timesteps"], given["context"], [8, 16, 24])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    given = case("per_frame_f4")
    unet = load_unet(published_unet(), dtype)
    assert {parameter.dtype for parameter in unet.parameters()} == {dtype}
    result = run(unet, given["x"].to(dtype), given["timesteps"], given["context"].to(dtype), 8)
    assert result.dtype == dtype
    assert distance(result.float(), given["out"]) < (5e-2 if dtype == torch.bfloat16 else 5e-3)


# -- the numbers above would notice ------------------------------------------------------------------------------------


def with_other_timestep(weights, given):
    given["timesteps"] = torch.where(given["timesteps"] == 143, 150, given["timesteps"])


def with_shifted_timesteps(weights, given):
    given["timesteps"] = given["timesteps"].roll(1)


def with_other_fps(weights, given):
    given["fps"] = given["fps"] + 1


def with_swapped_frames(weights, given):
    given["x"] = given["x"][:, :, [1, 0, 2, 3]]


def with_reversed_frames_and_back(weights, given):
    """The same frames at the same timesteps in another order, put back in the output."""
    given["x"], given["timesteps"], given["out"] = given["x"].flip(2), given["timesteps"].flip(0), given["out"].flip(2)


def with_swapped_temporal_convolutions(weights, given):
    one, other = (f"input_blocks.1.0.temopral_conv.conv{number}.3.weight" for number in (2, 3))
    weights[one], weights[other] = weights[other], weights[one]


def with_swapped_temporal_attention(weights, given):
    one, other = (f"middle_block.{part}.transformer_blocks.0.attn1.to_q.weight" for part in (1, 2))
    weights[one], weights[other] = weights[other], weights[one]


MUTATIONS = [
    with_other_timestep,
    with_shifted_timesteps,
    with_other_fps,
    with_swapped_frames,
    with_reversed_frames_and_back,
    with_swapped_temporal_convolutions,
    with_swapped_temporal_attention,
]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_mistakes_miss_the_tolerance_by_far(mutate):
    weights, given = published_unet(), case("per_frame_f4")
    mutate(weights, given)
    unet = load_unet(weights)
    result = run(unet, given["x"], given["timesteps"], given["context"], given["fps"])
    assert distance(result, given["out"]) > 100 * TOLERANCE


# -- names and shapes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "prefix", "tensors", "parameters"),
    [
        ("vc2", "", 1484, 1_413_284_420),
        ("vc2", UNET_PREFIX, 1484, 1_413_284_420),
        ("vc1_512", "", 1196, 1_144_485_956),
        ("vc1_1024", UNET_PREFIX, 1200, 1_146_536_516),
    ],
)
def test_full_size_names(variant, prefix, tensors, parameters):
    shapes = full_size(variant)
    unet = load_unet(empty(shapes, prefix))
    assert len(unet.state_dict()) == len(shapes) == tensors
    assert sum(parameter.numel() for parameter in unet.parameters()) == parameters
    assert not unet.training
    assert unet.transformer_in.proj_in.weight.shape == (512, 320)


def test_full_size_configuration_is_that_of_the_stock_class():
    """The defaults of the class are the network that VideoCrafter2 is, so nothing else may be read from its shapes."""
    config = unet_config(full_size("vc2"))
    with torch.device("meta"):
        defaults = UNet3DConditionModel().config
    assert {name: defaults[name] for name in config} == config


def test_every_tensor_is_used_once_and_not_copied():
    weights = {name: torch.zeros(shape) for name, shape in tiny_shapes().items()}
    loaded = load_unet(weights)
    assert len(loaded.state_dict()) == len(weights)
    assert {t.data_ptr() for t in loaded.parameters()} == {t.data_ptr() for t in weights.values()}


def tiny_shapes() -> dict[str, list[int]]:
    """The names of full size with every width divided by ten, which keeps 32 channels per 32 groups."""

    def small(name: str, shape: list[int]) -> list[int]:
        return [size // 10 if size % 320 == 0 else size for size in shape]

    shapes = {name: small(name, shape) for name, shape in full_size("vc2").items()}
    for name, shape in shapes.items():  # the one inner width that is no multiple of 320: 8 heads of 64
        if name.startswith("init_attn."):
            shapes[name] = [{512: 64, 4096: 512, 2048: 256}.get(size, size) for size in shape]
    return shapes


def test_without_fps_embedding():
    shapes = {name: shape for name, shape in full_size("vc2").items() if not name.startswith("fps_embedding")}
    assert not hasattr(load_unet(empty(shapes)), "fps_embedding")


def test_kernels_of_width_one_are_linear_layers():
    shapes = dict(full_size("vc2"))
    shapes["input_blocks.1.1.proj_in.weight"] = [320, 320, 1, 1]  # as trained with use_linear off
    assert load_unet(empty(shapes)).down_blocks[0].attentions[0].proj_in.weight.shape == (320, 320)


def broken(*, remove: str = "", add: tuple[str, list[int]] | None = None, base: str = "vc2") -> dict[str, Tensor]:
    shapes = {name: shape for name, shape in full_size(base).items() if not remove or remove not in name}
    return empty({**shapes, **dict([add] if add else [])})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: broken(remove="input_blocks.4.1.norm.bias"), "1 missing .*: input_blocks.4.1.norm.bias$"),
        (lambda: broken(remove="input_blocks.3.0.op.weight"), "1 missing .*: input_blocks.3.0.op.weight$"),
        (lambda: broken(remove="output_blocks.7.2.norm"), "2 missing .*: output_blocks.7.2.norm.bias, .*weight$"),
        (lambda: broken(remove="middle_block.0.temopral_conv"), "16 missing .* and 13 more$"),
        (lambda: broken(remove="out.2.weight"), "1 missing .*: out.2.weight$"),
        (lambda: broken(remove="middle_block.1."), "1 missing .*: middle_block.1.*to_k.weight$"),
        (lambda: broken(remove="input_blocks.3.0.op"), r"1 missing .*: input_blocks.3.\*$"),
        (lambda: broken(add=("alphas_cumprod", [1000])), "1 unknown .*: alphas_cumprod$"),
        (lambda: broken(add=("out.0.weight", [640])), r"1 misshapen .*: out.0.weight \(640,\) instead of \(320,\)"),
        (lambda: broken(remove="relative_position_v", base="vc1_512"), "34 missing .* and 31 more$"),
        (lambda: broken(remove="temopral_conv"), "unsupported .*: no temporal convolutions and no relative positions"),
        (lambda: broken(remove="middle_block.1.transformer_blocks.0.attn1.to_q", base="vc1_1024"), "1 missing"),
        (lambda: broken(remove="init_attn"), "unsupported .*: no attention before"),
        (
            lambda: broken(add=("input_blocks.1.1.transformer_blocks.0.attn2.to_k_ip.weight", [320, 1024])),
            "unsupported .*: image cross-attention",
        ),
        (lambda: broken(base="vae"), "not a VideoCrafter U-Net"),
        (dict, "not a VideoCrafter U-Net"),
    ],
)
def test_errors_are_one_line(state, message):
    with pytest.raises(ValueError, match=message) as error:
        load_unet(state())
    assert "\n" not in str(error.value)


def test_alphas():
    alphas = videocrafter_alphas_cumprod()
    diffusers = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert alphas.dtype == torch.float64
    torch.testing.assert_close(alphas.float(), diffusers, rtol=1e-4, atol=0)
