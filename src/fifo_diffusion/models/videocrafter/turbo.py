"""T2V-Turbo (arXiv 2405.18750) and T2V-Turbo-v2 (arXiv 2410.05677): VideoCrafter2 distilled to few steps, from their
published files.

The first is a LoRA on VideoCrafter2, `unet_lora.pt`: a list of tensors, up and down of each layer that is linear or a
convolution over pictures or time, in the order in which the U-Net of the published code holds them. The second is a
whole U-Net, `unet_mg.pt` or `unet_no_mg.pt` (with and without motion guidance); all else is VideoCrafter2's.

Both are told the scale of guidance. The published code draws the layer that embeds it anew for the first, below the
LoRA, wherever it is loaded; that layer is in no file. Here it is zero, which is the mean of what it draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fifo_diffusion.models.loading.hub import fetch, not_on_hub
from fifo_diffusion.models.loading.originals import CHECKPOINT_FILE
from fifo_diffusion.models.loading.weights import read_list, read_weights
from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.checkpoint import LATENT_SIZE, load_checkpoint
from fifo_diffusion.models.videocrafter.model import load_unet, published_name
from fifo_diffusion.models.videocrafter.scheduler import T2VTurboScheduler

BASE = "VideoCrafter/VideoCrafter2"
SCALE_WIDTH = 256
"""Of the embedded scale of guidance."""
ORIGINAL_STEPS, ORIGINAL_STEPS_V2 = 50, 200
"""Timesteps that they were distilled on."""

_CONVOLUTIONS_OVER_POSITIONS = ("init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight")
"""Matrices here, and in the published code layers that its LoRA leaves out."""
_ORDER = {
    word: place
    for words in (
        "time_embed fps_embedding time_cond_proj input_blocks init_attn middle_block output_blocks out",
        "in_layers emb_layers out_layers skip_connection temopral_conv",
        "conv1 conv2 conv3 conv4",
        "proj_in transformer_blocks proj_out",
        "attn1 ff attn2",
        "to_q to_k to_v to_out",
        "net proj op conv weight",
    )
    for place, word in enumerate(words.split())
}
"""In which order a module of the published code holds those below it, as far as layers of the LoRA are there."""


def load_turbo(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    hub: Mapping[str, Any] | None = None,
    **parts: Any,
) -> VideoCrafterPipeline:
    """The pipeline of T2V-Turbo-v2: its U-Net, and all else of VideoCrafter2.

    Args:
        path: of the file; VideoCrafter2's `model.ckpt` is looked for beside it, then on the hub.
        weights: published names to tensors, every one of them.
        dtype, hub, **parts: as `load_checkpoint` takes them.

    Raises:
        ValueError: VideoCrafter2 cannot be had, or tensors are missing, unknown or misshapen. One line.
    """
    base = path.parent / CHECKPOINT_FILE
    if not base.is_file():
        try:
            base = fetch(BASE, CHECKPOINT_FILE, hub or {})
        except (OSError, ValueError) as error:
            reason = not_on_hub(BASE, error, hub or {})
            raise ValueError(
                f"{path} is T2V-Turbo-v2's U-Net alone; put VideoCrafter2's {CHECKPOINT_FILE} beside it ({reason})"
            ) from error
    if "unet" not in parts:
        try:
            parts["unet"] = load_unet(weights, dtype, LATENT_SIZE)
        except (ValueError, RuntimeError, LookupError, TypeError, ArithmeticError) as error:
            raise ValueError(f"{path}: {error}") from error
    parts.setdefault("scheduler", T2VTurboScheduler(original_inference_steps=ORIGINAL_STEPS_V2))
    return load_checkpoint(base, read_weights(base), dtype=dtype, hub=hub, **parts)


def takes_turbo(pipe: Any) -> bool:
    """Whether a pipeline is VideoCrafter2, which the LoRA was made for, and not distilled yet."""
    config = getattr(getattr(pipe, "unet", None), "config", {})
    variant = {"fps_condition": True, "temporal_convolutions": True, "time_cond_proj_dim": None}
    return isinstance(pipe, VideoCrafterPipeline) and all(config.get(key) == value for key, value in variant.items())


def prepare_turbo(pipe: Any) -> None:
    """Make a VideoCrafter2 pipeline one that is told the scale of guidance, and samples as T2V-Turbo does. What it is
    told has no effect yet."""
    unet = pipe.unet
    embedding = unet.time_embedding
    weight = embedding.linear_1.weight
    layer = nn.Linear(SCALE_WIDTH, weight.shape[1], bias=False, device=weight.device, dtype=weight.dtype)
    nn.init.zeros_(layer.weight)
    embedding.cond_proj = layer.eval()
    unet.register_to_config(time_cond_proj_dim=SCALE_WIDTH)
    pipe.scheduler = T2VTurboScheduler(original_inference_steps=ORIGINAL_STEPS)


def add_turbo(unet: nn.Module, path: Path, scale: float = 1.0) -> None:
    """Add T2V-Turbo's LoRA to the weights of a U-Net that `prepare_turbo` made ready: W + scale x up @ down.

    Args:
        path: of `unet_lora.pt`.

    Raises:
        ValueError: it is no such file, or made for another U-Net. Then nothing is changed.
    """
    add_pairs(unet, read_list(path), scale)


@torch.no_grad()
def add_pairs(unet: nn.Module, tensors: Sequence[Tensor], scale: float = 1.0) -> None:
    """As `add_turbo`, of the tensors themselves."""
    layers = lora_layers(unet)
    if len(tensors) != 2 * len(layers):
        raise ValueError(f"it holds {len(tensors)} tensors, and this U-Net takes {2 * len(layers)}")
    pairs = list(zip(layers.items(), tensors[::2], tensors[1::2], strict=True))
    for (name, weight), up, down in pairs:
        rank = down.shape[:1]
        wanted = weight.shape[:1] + rank + (1,) * (weight.dim() - 2), rank + weight.shape[1:]
        if (up.shape, down.shape) != wanted:
            found = f"{tuple(up.shape)} and {tuple(down.shape)}"
            raise ValueError(f"its tensors for {name} {tuple(weight.shape)} have shapes {found}")
    for (name, weight), up, down in pairs:
        added = (up.float().flatten(1) @ down.float().flatten(1)).reshape(weight.shape)
        summed = (weight.float() + scale * added.to(weight.device)).to(weight.dtype)
        module, _, leaf = name.rpartition(".")
        # Not in place: the weights may be mapped from a file.
        setattr(unet.get_submodule(module), leaf, nn.Parameter(summed, requires_grad=False))


def lora_layers(unet: Any) -> dict[str, Tensor]:
    """The weights that T2V-Turbo's LoRA changes, by our names, in the order of its file."""
    found = {published_name(name, unet.config): (name, weight) for name, weight in unet.named_parameters()}
    of_layers = {
        published: each
        for published, each in found.items()
        if published.endswith(".weight") and each[1].dim() > 1 and published not in _CONVOLUTIONS_OVER_POSITIONS
    }
    return dict(of_layers[published] for published in sorted(of_layers, key=_place))


def _place(published: str) -> tuple[int, ...]:
    return tuple(int(word) if word.isdigit() else _ORDER[word] for word in published.split("."))
