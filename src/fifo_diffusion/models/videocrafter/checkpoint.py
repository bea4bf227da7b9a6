"""Original VideoCrafter checkpoints (``model.ckpt``) as a `VideoCrafterPipeline`.

One file holds the U-Net, Stable Diffusion's autoencoder, OpenCLIP's ViT-H-14 text tower and the noise schedule, under
the names of the code that trained it. Each part is converted at load into the diffusers or transformers class that is
the same network; which variant it is is read from the names and shapes. The tokenizer is not in the file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from fifo_diffusion.models.loading.parts import first_line, out_of_memory
from fifo_diffusion.models.shared.published_weights import assign, refuse, rename
from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.model import UNET_PREFIX, load_unet, unet_variant, videocrafter_alphas_cumprod
from fifo_diffusion.models.videocrafter.scheduler import SignalScaleDDIMScheduler

PREFIXES = {"unet": UNET_PREFIX, "vae": "first_stage_model.", "text_encoder": "cond_stage_model.model."}
SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
SIGNAL_SCALE = "scale_arr"  # there where the model was trained on a rescaled signal
TOKENIZER = "openai/clip-vit-large-patch14"  # the same vocabulary as OpenCLIP's
TOKENIZER_FILES = "tokenizer.json tokenizer_config.json vocab.json merges.txt special_tokens_map.json"
FPS_CONDITION = 8.0  # as in the published FIFO code
TEXT_HEAD_WIDTH = 64  # in every text tower of OpenCLIP; no tensor tells it
LATENT_SIZE, LARGE_LATENT_SIZE = (40, 64), (72, 128)  # 320x512, and 576x1024 (VideoCrafter1 1024)


def load_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    fps_condition: float = FPS_CONDITION,
    hub: Mapping[str, Any] | None = None,
    **parts: Any,
) -> VideoCrafterPipeline:
    """The pipeline of an original VideoCrafter2 or VideoCrafter1 checkpoint (text to video).

    Without `dtype` the weights stay in the file, mapped into memory, until they are used.

    Args:
        path: of the file, for messages; a folder `tokenizer` beside it is used.
        weights: published names to tensors, every one of them (`read_weights`).
        dtype: type of the weights; None keeps that of the file.
        fps_condition: the frame-rate conditioning where a call gives none; for variants that take one.
        hub: arguments for the tokenizer's `from_pretrained` (cache_dir, local_files_only, ...).
        **parts: unet, vae, text_encoder, tokenizer or scheduler to use instead of the checkpoint's. `tokenizer` may
            be None with `text_encoder=None`: calls then need `prompt_embeds`.

    Raises:
        ValueError: no such checkpoint; tensors that are missing, unknown or misshapen; no tokenizer. One line.
        TypeError: an unknown part.
    """
    unknown = parts.keys() - {*PREFIXES, "tokenizer", "scheduler"}
    if unknown:
        raise TypeError(f"an original checkpoint is not loaded with an argument {sorted(unknown)[0]!r}")
    found, rest = _split(weights)
    try:
        _check_parts(found, parts)
        if "unet" not in parts:
            parts["unet"] = load_unet(found["unet"], dtype, _latent_size(found["unet"]))
        refuse("VideoCrafter checkpoint", "unknown", rest.keys() - {*SCHEDULE, SIGNAL_SCALE})
        if "vae" not in parts:
            parts["vae"] = load_autoencoder(found["vae"], dtype)
        if "text_encoder" not in parts:
            parts["text_encoder"] = load_text_tower(found["text_encoder"], dtype)
        if "scheduler" not in parts:
            parts["scheduler"] = load_scheduler(rest)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, IndexError, KeyError, TypeError, ArithmeticError) as error:  # shapes that fit nothing
        if out_of_memory(error):
            raise
        raise ValueError(f"{path}: its tensors make no VideoCrafter model ({first_line(error)})") from error
    if "tokenizer" not in parts:
        parts["tokenizer"] = _load_tokenizer(path.parent, parts["text_encoder"], hub or {})
    told = float(fps_condition) if hasattr(parts["unet"], "fps_embedding") else None
    return VideoCrafterPipeline(**parts, fps_condition=told)


def load_autoencoder(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> AutoencoderKL:
    """Stable Diffusion's autoencoder from published names without prefix, in evaluation mode.

    Raises:
        ValueError: names that are missing or unknown, shapes that do not fit. One line.
    """
    what = "VideoCrafter autoencoder"
    levels = len({m[1] for name in tensors if (m := re.match(r"encoder\.down\.(\d+)\.", name))})
    needed = ["encoder.conv_in.weight", "decoder.conv_out.weight", "post_quant_conv.weight"]
    needed += [f"encoder.down.{level}.block.0.conv1.weight" for level in range(max(1, levels))]
    refuse(what, "missing", set(needed) - tensors.keys())
    layers = len({m[1] for name in tensors if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name))})
    with torch.device("meta"):
        vae = AutoencoderKL(
            in_channels=tensors["encoder.conv_in.weight"].shape[1],
            out_channels=tensors["decoder.conv_out.weight"].shape[0],
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(tensors[name].shape[0] for name in needed[3:]),
            layers_per_block=layers,
            latent_channels=tensors["post_quant_conv.weight"].shape[0],
            sample_size=512,
            scaling_factor=0.18215,
        )
    return assign(vae, rename(what, vae, tensors, lambda name: _autoencoder_name(name, levels)), dtype)


def load_text_tower(
    tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None, heads: int | None = None
) -> CLIPTextModel:
    """OpenCLIP's text tower from published names without prefix, in evaluation mode.

    VideoCrafter takes the output of the last but one block, through the final norm: the last block is left out here,
    and so are the projection and the temperature, so that `last_hidden_state` is what the U-Net wants.

    Args:
        tensors: all of the tower, those that are left out too.
        dtype: type of the parameters; None keeps that of the checkpoint.
        heads: of the attention; None: 64 channels each.

    Raises:
        ValueError: names that are missing or unknown, shapes that do not fit. One line.
    """
    what, first = "VideoCrafter text tower", "transformer.resblocks.0."
    needed = ["token_embedding.weight", "positional_embedding", "text_projection", f"{first}mlp.c_fc.weight"]
    refuse(what, "missing", set(needed) - tensors.keys())
    blocks = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"transformer\.resblocks\.(\d+)\.", name)))
    vocabulary, width = tensors["token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=tensors[f"{first}mlp.c_fc.weight"].shape[0],
        num_hidden_layers=blocks - 1,
        num_attention_heads=heads or max(1, width // TEXT_HEAD_WIDTH),
        max_position_embeddings=tensors["positional_embedding"].shape[0],
        projection_dim=tensors["text_projection"].shape[1],
        hidden_act="gelu",  # the exact one
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
        architectures=["CLIPTextModel"],  # as saving would set it: the same model before and after
    )
    with init_empty_weights():  # not its table of positions, which no checkpoint has
        tower = CLIPTextModel(config)
    last = f"transformer.resblocks.{blocks - 1}."
    unused = {last + name.removeprefix(first) for name in tensors if name.startswith(first)}
    return assign(tower, rename(what, tower, tensors, _text_name, unused | {"text_projection", "logit_scale"}), dtype)


def load_scheduler(buffers: Mapping[str, Tensor]) -> DDIMScheduler:
    """DDIM on the checkpoint's noise schedule: trailing spacing, last step to alpha = 1.

    Raises:
        ValueError: a buffer is missing, or the schedule is not VideoCrafter's.
    """
    refuse("VideoCrafter checkpoint", "missing", set(SCHEDULE) - buffers.keys())
    expected, tolerance = videocrafter_alphas_cumprod(), {"rtol": 0, "atol": 2e-3}  # schedules in half precision pass
    alphas = buffers["alphas_cumprod"].double()
    if alphas.shape != expected.shape or not torch.allclose(alphas, expected, **tolerance):
        raise ValueError("the noise schedule (alphas_cumprod) is not VideoCrafter's")
    usual = SignalScaleDDIMScheduler().config
    plain = {k: v for k, v in usual.items() if not k.startswith(("_", "signal_scale"))}
    if SIGNAL_SCALE not in buffers:
        return DDIMScheduler(**plain)
    scale = buffers[SIGNAL_SCALE].double()[: len(expected)]
    falling = int((scale > scale[-1] + 1e-4).sum()) + 1
    scheduler = SignalScaleDDIMScheduler(signal_scale_end=round(float(scale[-1]), 3), signal_scale_steps=falling)
    if scale.shape != expected.shape or not torch.allclose(scale, scheduler.signal_scale, **tolerance):
        raise ValueError(f"the rescaling of the signal ({SIGNAL_SCALE}) is not of VideoCrafter's kind")
    return scheduler


# -- inside ------------------------------------------------------------------------------------------------------------


def _split(weights: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The tensors of each part without their prefix, and the others."""
    found: dict[str, dict[str, Tensor]] = {part: {} for part in PREFIXES}
    rest = {}
    for name, tensor in weights.items():
        part = next((part for part, prefix in PREFIXES.items() if name.startswith(prefix)), None)
        if part is None:
            rest[name] = tensor
        else:
            found[part][name.removeprefix(PREFIXES[part])] = tensor
    return found, rest


def _check_parts(found: Mapping[str, Mapping[str, Tensor]], given: Mapping[str, Any]) -> None:
    if not any(found.values()):
        raise ValueError(
            "not a VideoCrafter checkpoint: no tensor is called "
            + " or ".join(f"{prefix}*" for prefix in PREFIXES.values())
        )
    for part, prefix in PREFIXES.items():
        if not found[part] and part not in given:
            raise ValueError(f"no tensor is called {prefix}*: the {part} is missing (in Python: give {part}=)")


def _latent_size(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """VideoCrafter1 1024 alone is conditioned on a frame rate and has no temporal convolutions."""
    variant = unet_variant(tensors)
    large = variant["fps_condition"] and not variant["temporal_convolutions"]
    return LARGE_LATENT_SIZE if large else LATENT_SIZE


def _load_tokenizer(folder: Path, tower: CLIPTextModel, hub: Mapping[str, Any]) -> CLIPTokenizer:
    beside = folder / "tokenizer"
    source = str(beside) if beside.is_dir() else TOKENIZER
    vocabulary = tower.config.vocab_size
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source, **hub)
        if len(tokenizer) != vocabulary:
            raise ValueError(f"it has {len(tokenizer)} words, the text tower {vocabulary}")
    except Exception as error:  # whatever its files lead to
        reason = first_line(error)
        raise ValueError(
            f"the tokenizer is not part of a checkpoint, and {source} cannot be loaded ({reason}): where "
            f"there is a connection run `hf download {TOKENIZER} {TOKENIZER_FILES} --local-dir {beside}`"
        ) from error
    tokenizer.model_max_length = tower.config.max_position_embeddings
    return tokenizer


_RENAMED_IN_AUTOENCODER = {
    "down_blocks.": "down.",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    ".resnets.": ".block.",
    ".downsamplers.0": ".downsample",
    ".upsamplers.0": ".upsample",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "group_norm": "norm",
    ".to_q.": ".q.",
    ".to_k.": ".k.",
    ".to_v.": ".v.",
    ".to_out.0.": ".proj_out.",
}
_RENAMED_IN_TEXT_TOWER = {
    "text_model.": "",  # in transformers 4
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers.": "transformer.resblocks.",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def _autoencoder_name(name: str, levels: int) -> str:
    """Published name of what `AutoencoderKL` calls `name`; its decoder counts levels the other way."""
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    for ours, published in _RENAMED_IN_AUTOENCODER.items():
        name = name.replace(ours, published)
    return name


def _text_name(name: str) -> str:
    """Published name of what `CLIPTextModel` calls `name`; query, key and value are one tensor there."""
    for ours, published in _RENAMED_IN_TEXT_TOWER.items():
        name = name.replace(ours, published)
    return re.sub(
        r"self_attn\.([qkv])_proj\.(weight|bias)$",
        lambda found: f"attn.in_proj_{found[2]}:{'qkv'.index(found[1])}",
        name,
    )
