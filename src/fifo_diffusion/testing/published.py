"""Random VideoCrafter checkpoints in the published format: every published name, at a tenth of the widths."""

import gzip
import json
from functools import cache
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import CLIPTokenizer

from fifo_diffusion.testing import golden

PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text": "cond_stage_model.model."}
VOCABULARY = 256 + 256 + 2  # bytes, bytes that end a word, start and end of a text
TINY = {1024: 128, 3072: 384, 4096: 512, 49408: VOCABULARY}


@cache
def _recorded(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(golden.find(f"{name}.json.gz").read_bytes()))


def full_shapes(variant: str) -> dict[str, list[int]]:
    """All names of the published file of "vc2", "vc1_512" or "vc1_1024", with their shapes."""
    shapes = {PREFIXES["unet"] + name: shape for name, shape in _recorded("vc_full_keys")[variant]["state"].items()}
    shapes |= {PREFIXES["vae"] + name: shape for name, shape in _recorded("vc_full_keys")["vae"]["state"].items()}
    return shapes | _recorded("text_full_keys") | {name: list(value.shape) for name, value in schedule(variant).items()}


def tiny_shapes(variant: str) -> dict[str, list[int]]:
    """The same names: U-Net at a tenth of its widths (heads of 8), autoencoder at a quarter, text tower 128 wide."""
    return {name: [_small(name, size) for size in shape] for name, shape in full_shapes(variant).items()}


def _small(name: str, size: int) -> int:
    if name.startswith(PREFIXES["unet"]):
        if "relative_position" in name:
            return {64: 8}.get(size, size)
        if "init_attn." in name:  # the one inner width that is no multiple of 320: 8 heads of 64
            size = {512: 640, 4096: 5120, 2048: 2560, 64: 80}.get(size, size)
        return size // 10 if size % 320 == 0 else TINY.get(size, size)
    if name.startswith(PREFIXES["vae"]):
        return size // 4 if size % 128 == 0 else size
    return TINY.get(size, size) if name.startswith(PREFIXES["text"]) else size


def schedule(variant: str) -> dict[str, Tensor]:
    """The buffers of the noise schedule, in closed form."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    abar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])
    variance = betas * (1 - before) / (1 - abar)
    buffers = {
        "betas": betas,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": abar**0.5,
        "sqrt_one_minus_alphas_cumprod": (1 - abar) ** 0.5,
        "log_one_minus_alphas_cumprod": (1 - abar).log(),
        "sqrt_recip_alphas_cumprod": abar**-0.5,
        "sqrt_recipm1_alphas_cumprod": (1 / abar - 1) ** 0.5,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp_min(1e-20).log(),
        "posterior_mean_coef1": betas * before**0.5 / (1 - abar),
        "posterior_mean_coef2": (1 - before) * (1 - betas) ** 0.5 / (1 - abar),
    }
    if variant != "vc1_512":  # VideoCrafter2 keeps a table that is 400 too long
        end, constant = (0.7, 1000) if variant == "vc2" else (0.3, 600)
        buffers["scale_arr"] = torch.cat([torch.linspace(1, end, 400), torch.full((constant,), end)])
    return {name: value.float() for name, value in buffers.items()}


def state_dict(variant: str = "vc2", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A complete random checkpoint. No tensor is zero, where mistakes would hide."""
    generator, state = torch.Generator().manual_seed(0), schedule(variant)
    for name, shape in tiny_shapes(variant).items():
        if name in state:
            continue
        value = torch.randn(shape, generator=generator)
        if len(shape) > 1 and "embedding" not in name:
            value *= value[0].numel() ** -0.5
        elif name.endswith("weight") and len(shape) == 1:
            value = 1 + 0.1 * value
        else:
            value *= 0.1 if len(shape) < 2 else 0.5
        state[name] = value.to(dtype)
    return state


def small_state_dict(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A VideoCrafter2 checkpoint with the recorded U-Net, which has two levels, and a narrow text tower to match it."""
    narrow = {128: 24, 384: 72, 512: 96}
    state = {}
    for name, value in state_dict("vc2").items():
        if name.startswith(PREFIXES["text"]):
            state[name] = value[tuple(slice(narrow.get(size, size)) for size in value.shape)]
        elif not name.startswith(PREFIXES["unet"]):
            state[name] = value
    state |= {PREFIXES["unet"] + name: value for name, value in golden.load("unet_vc2_a")[0].items()}
    return {name: value if name in schedule("vc2") else value.to(dtype).contiguous() for name, value in state.items()}


def meta(variant: str) -> dict[str, Tensor]:
    """A complete checkpoint at full size, without its contents; only the noise schedule has any."""
    return {n: torch.empty(shape, device="meta") for n, shape in full_shapes(variant).items()} | schedule(variant)


def tokenizer() -> CLIPTokenizer:
    """CLIP's own, with its letters (ids as in the real one, from "!" = 0) and no merges."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(k) for k in letters] + [chr(256 + k) for k in range(256 - len(letters))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    made = CLIPTokenizer(vocab={word: k for k, word in enumerate(words)}, merges=[], model_max_length=77)
    assert isinstance(made.bos_token, str | AddedToken)
    assert len(made) == VOCABULARY
    return made
