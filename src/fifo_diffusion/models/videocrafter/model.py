"""VideoCrafter2 and VideoCrafter1: their U-Nets under diffusers' names, the frame rate, and the family's model.

The published U-Net and diffusers' class are the same network under other key names, but for what `VideoCrafterUNet`
adds. Here the keys are renamed at load: every tensor is used, none is copied.

The configuration is read from the names and shapes that are there. Published layout, with n = blocks per level:

* ``input_blocks.0`` is the first convolution, then every level has n blocks and, but for the last, a downsampler;
* ``output_blocks`` has n + 1 blocks per level, deepest first; the upsampler is the last part of a level's last block;
* part 0 of a block is the residual block with its temporal convolutions (spelled ``temopral_conv``), part 1 the spatial
  transformer, part 2 the temporal one;
* ``init_attn`` always has 8 heads, so its inner width tells the width of a head in the whole network;
* VideoCrafter1 has no temporal convolutions, and a table of relative positions in every temporal attention.

Image conditioning is refused. A causal mask in time would have to be, but leaves no trace in names and shapes; no
published configuration has one.

Tensor names end in their axes: R rows of the time embedding (videos, or videos x frames), D its width.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.published_weights import assign, refuse, rename
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.models.unet3d.pipeline import VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.unet import VideoCrafterUNet

UNET_PREFIX = "model.diffusion_model."
NORM_GROUPS = 32  # of every group norm in the published code
INIT_ATTENTION_HEADS = 8  # in the published code and in the stock class
NAME = "VideoCrafter U-Net"

Shapes = Mapping[str, Tensor | Sequence[int]]


def unet_config(tensors: Shapes) -> dict[str, object]:
    """Constructor arguments of ``UNet3DConditionModel`` for a published U-Net; those of its variant are `unet_variant`.

    Args:
        tensors: published names, with or without the prefix ``model.diffusion_model.``, to tensors or shapes.

    Raises:
        ValueError: a variant that the stock class cannot represent, or a name without which the layout cannot be read.
    """
    shapes = {name: _shape(tensor) for name, tensor in _without_prefix(tensors).items()}
    _refuse_variants(shapes)

    def shape(name: str) -> tuple[int, ...]:
        if name not in shapes:
            refuse(NAME, "missing", [name])
        return shapes[name]

    def attention(block: str) -> str:
        return "CrossAttn" if any(name.startswith(f"{block}.1.transformer_blocks.") for name in shapes) else ""

    blocks = _numbers(shapes, r"input_blocks\.(\d+)\.")
    refuse(NAME, "missing", (f"input_blocks.{number}.*" for number in set(range(max(blocks))) - blocks))
    downsamplers = _numbers(shapes, r"input_blocks\.(\d+)\.0\.op\.")
    layers = min(downsamplers or {len(blocks)}) - 1
    levels = range(len(downsamplers) + 1)
    first_down = [f"input_blocks.{1 + level * (layers + 1)}" for level in levels]
    first_up = [f"output_blocks.{level * (layers + 1)}" for level in levels]
    return {
        "in_channels": shape("input_blocks.0.0.weight")[1],
        "out_channels": shape("out.2.weight")[0],
        "block_out_channels": tuple(shape(f"{block}.0.out_layers.3.weight")[0] for block in first_down),
        "layers_per_block": layers,
        "down_block_types": tuple(attention(block) + "DownBlock3D" for block in first_down),
        "up_block_types": tuple(attention(block) + "UpBlock3D" for block in first_up),
        "cross_attention_dim": shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight")[1],
        "attention_head_dim": shape("init_attn.0.proj_in.weight")[0] // INIT_ATTENTION_HEADS,
        "norm_num_groups": NORM_GROUPS,
    }


def unet_variant(tensors: Shapes) -> dict[str, object]:
    """What `VideoCrafterUNet` has to know beside `unet_config`: frame rate, temporal convolutions, relative positions,
    and the widths of the embedded scales of guidance (T2V-Turbo).

    Args:
        tensors: as in `unet_config`.
    """
    names = _without_prefix(tensors)
    tables = [tensor for name, tensor in names.items() if name.endswith("relative_position_k.embeddings_table")]
    return {
        "fps_condition": any(name.startswith("fps_embedding.") for name in names),
        "temporal_convolutions": any("temopral_conv" in name for name in names),
        "relative_positions": (_shape(tables[0])[0] - 1) // 2 if tables else 0,
        **{f"{kind}_cond_proj_dim": _width(names.get(f"{kind}_cond_proj.weight")) for kind in ("time", "motion")},
    }


def load_unet(
    state_dict: Mapping[str, Tensor], dtype: torch.dtype | None = None, sample_size: tuple[int, int] | None = None
) -> VideoCrafterUNet:
    """The U-Net of a VideoCrafter checkpoint, in evaluation mode.

    Its parameters *are* the tensors of `state_dict`: nothing is held twice, a memory-mapped file stays mapped. Where
    `dtype` asks for another type, both exist until the caller lets go of `state_dict`. ``unet.fps_embedding`` is
    present where the checkpoint has it; the frame rate is given to the forward as `timestep_cond`, one for all rows or
    one per video.

    Args:
        state_dict: the U-Net's tensors only, with or without the prefix ``model.diffusion_model.``.
        dtype: type of the parameters; None keeps that of the checkpoint.
        sample_size: height and width of the latents that it was trained on; no tensor tells them.

    Raises:
        ValueError: an unsupported variant; missing or unknown names; shapes that do not fit each other. One line.
    """
    return assign(*_match(state_dict, sample_size), dtype)


def videocrafter_alphas_cumprod() -> Tensor:
    """Cumulative product of 1 - beta of VideoCrafter's 1000 training timesteps, float64: (1000,).

    The square roots of the betas are linear from 0.00085 to 0.012.
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


# -- published names ---------------------------------------------------------------------------------------------------

_RENAMED_MODULES = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_cond_proj",
    "time_embedding.motion_proj": "motion_cond_proj",
    "time_embedding.combine_proj": "combine_proj",
    "time_embedding.fps_embedding.linear_1": "fps_embedding.0",
    "time_embedding.fps_embedding.linear_2": "fps_embedding.2",
    "transformer_in": "init_attn.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RENAMED_IN_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_PART_OF_BLOCK = {"resnets": "0", "temp_convs": "0.temopral_conv", "attentions": "1", "temp_attentions": "2"}
_PART_OF_MIDDLE = {
    "resnets.0": "0",
    "temp_convs.0": "0.temopral_conv",
    "attentions.0": "1",
    "temp_attentions.0": "2",
    "resnets.1": "3",
    "temp_convs.1": "3.temopral_conv",
}


def published_name(name: str, config: Mapping[str, object]) -> str:
    """Published name of the parameter that ``VideoCrafterUNet(**config)`` calls `name`."""
    for module, published in _RENAMED_MODULES.items():
        if name.startswith(module + "."):
            return published + name.removeprefix(module)

    room, _, rest = name.partition(".")
    per_level = config["layers_per_block"] + 1
    if room == "mid_block":
        kind, index, rest = rest.split(".", 2)
        place = f"middle_block.{_PART_OF_MIDDLE[f'{kind}.{index}']}"
    else:
        level, kind, index, rest = rest.split(".", 3)
        level, index = int(level), int(index)
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_level}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            part = 3 if config["up_block_types"][level].startswith("CrossAttn") else 1
            return f"output_blocks.{level * per_level + per_level - 1}.{part}.{rest}"
        number = level * per_level + index
        place = f"input_blocks.{1 + number}" if room == "down_blocks" else f"output_blocks.{number}"
        place += "." + _PART_OF_BLOCK[kind]

    if kind == "resnets":
        part, _, leaf = rest.partition(".")
        rest = f"{_RENAMED_IN_RESNET[part]}.{leaf}"
    return f"{place}.{rest}"


def _match(
    state_dict: Mapping[str, Tensor], sample_size: tuple[int, int] | None = None
) -> tuple[VideoCrafterUNet, dict[str, Tensor]]:
    """The U-Net on the meta device, and its state dict made of the given tensors; strict about names and shapes."""
    tensors = _without_prefix(state_dict)
    config = unet_config(tensors)
    with torch.device("meta"):
        unet = VideoCrafterUNet(sample_size=sample_size, **config, **unet_variant(tensors))
    return unet, rename(NAME, unet, tensors, lambda name: published_name(name, config))


def _refuse_variants(names: Iterable[str]) -> None:
    """Raise where the network is none of ours."""
    names = list(names)
    if not any(name.startswith("input_blocks.") for name in names):
        raise ValueError("not a VideoCrafter U-Net: no tensor is called input_blocks.*")
    found = [
        text
        for text, is_so in (
            (
                "no temporal convolutions and no relative positions",
                not any("temopral_conv" in name or "relative_position" in name for name in names),
            ),
            ("image cross-attention", any(re.search(r"\.to_[kv]_ip\.", name) for name in names)),
            ("no attention before the first block", not any(name.startswith("init_attn.") for name in names)),
        )
        if is_so
    ]
    if found:
        raise ValueError(
            f"unsupported VideoCrafter variant: {', '.join(found)} (supported: VideoCrafter2 and VideoCrafter1, text "
            "to video)"
        )


def _without_prefix(tensors: Mapping) -> dict:
    return {name.removeprefix(UNET_PREFIX): tensor for name, tensor in tensors.items()}


def _shape(tensor: Tensor | Sequence[int]) -> tuple[int, ...]:
    return tuple(tensor.shape if isinstance(tensor, Tensor) else tensor)


def _width(projection: Tensor | Sequence[int] | None) -> int | None:
    """Of what goes into a projection."""
    return None if projection is None else _shape(projection)[1]


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    return {int(found[1]) for name in names if (found := re.match(pattern, name))}


def published_levels(count: int, *, eta: float = 0.0) -> NoiseLevels:
    """Noise levels of the published FIFO code: timesteps evenly from 0 to 999 with both ends, and a lowest level whose
    step changes nothing (its target is itself), so that frames leave with that level's noise."""
    timestep = torch.linspace(0, 999, count, dtype=torch.float64).round().long()
    abar = videocrafter_alphas_cumprod()[timestep]
    return NoiseLevels.diffusion(timestep, abar, torch.cat([abar[:1], abar[:-1]]), eta=eta)


class VideoCrafterModel(UNet3DModel):
    """`VideoCrafterPipeline`: a text-to-video pipeline around a VideoCrafter U-Net.

    Its scheduler should have the betas of `videocrafter_alphas_cumprod`, trailing spacing and a last step to alpha = 1.
    Where that is a `SignalScaleDDIMScheduler`, the rescaled signal is honoured in queue, start and sampling; the
    published profile honours it in the sampling of the clip only, as the published code does.

    Raises:
        ValueError: a U-Net that is conditioned on the frame rate, in a pipeline that does not give it one.
    """

    def __init__(self, pipe: Any, *, frames: int | None = None, defaults: dict[str, Any] | None = None) -> None:
        super().__init__(pipe, frames=frames, defaults=defaults)
        self.family = "VideoCrafter2" if pipe.unet.config.get("temporal_convolutions", True) else "VideoCrafter1"
        self.fps_condition = pipe.config.get("fps_condition") if pipe.unet.config.get("fps_condition") else None

    def check_denoisers(self) -> None:
        super().check_denoisers()
        if self.pipe.unet.config.get("fps_condition") and not isinstance(self.pipe, VideoCrafterPipeline):
            raise ValueError(
                f"this U-Net is conditioned on the frame rate, which {type(self.pipe).__name__} does not give it: put "
                "it into a VideoCrafterPipeline"
            )

    def usual(self) -> dict[str, Any]:
        own = {"guidance_scale": 12.0, "fps": 10, "eta": 1.0}
        if self.told_guidance:  # T2V-Turbo, whose scheduler draws its noise anew
            own |= {"guidance_scale": 7.5, "eta": 0.0}
        return super().usual() | own

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        if self.fps_condition is not None:
            call.setdefault("fps_condition", self.fps_condition)
        return super().condition(prompts, **call)

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False, **steps: Any
    ) -> NoiseLevels:
        if published:
            return published_levels(count, eta=eta)
        return super().levels(count, eta=eta, scheduler_exact=scheduler_exact, **steps)

    def published_clip_levels(self, levels: NoiseLevels) -> NoiseLevels:
        scale = getattr(self.pipe.scheduler, "signal_scale", None)
        if scale is None:
            return levels
        of_level = scale[levels.timestep]
        return levels.with_signal_scale(of_level, torch.cat([scale[:1], of_level[:-1]]))
