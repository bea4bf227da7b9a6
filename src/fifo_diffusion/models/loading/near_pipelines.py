"""What to say of what is no pipeline, or none that is supported, where a relative of it is."""

import re
from collections.abc import Collection
from pathlib import Path

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.models.loading.refused_pipelines import REFUSED

_PICTURES = (
    "it makes pictures. With a motion adapter it makes videos: give "
    "FIFO({video}.from_pretrained(NAME, motion_adapter=ADAPTER))"
)
_NEAR = {
    "StableDiffusionPipeline": _PICTURES.format(video="AnimateDiffPipeline"),
    "StableDiffusionXLPipeline": _PICTURES.format(video="AnimateDiffSDXLPipeline"),
}
"""Pipelines whose parts can be used, and how."""
_IN_ONE_FILE = (
    "a Stable Diffusion checkpoint, which makes pictures: in Python give "
    "FIFO({video}.from_single_file(FILE, motion_adapter=ADAPTER))"
)


def way_round(class_name: str, supported: Collection[str]) -> str | None:
    """How a pipeline of a supported class is made of one of this class; None where nothing is known.

    Args:
        class_name: of the pipeline that was given or named.
        supported: names of the supported classes.
    """
    if class_name in _NEAR:
        return f"{class_name} is not a supported pipeline: {_NEAR[class_name]}"
    if class_name in REFUSED:
        return f"{class_name} is not a supported pipeline: {REFUSED[class_name].why}; {REFUSED[class_name].instead}"
    if class_name.endswith("ModularPipeline"):
        return f"{class_name} is a modular pipeline, and FIFO takes pipelines of these classes: {', '.join(supported)}"
    return None


def refuse_adapter(name: str | Path, config: Path) -> None:
    """Raises ValueError where the configuration of what is no pipeline is that of a motion adapter (AnimateDiff)."""
    if not config.is_file() or '"MotionAdapter"' not in config.read_text(errors="replace"):
        return
    raise ValueError(
        f"{name} is a motion adapter, not a pipeline: join it with a Stable Diffusion model once, "
        f"AnimateDiffPipeline.from_pretrained(BASE, motion_adapter=MotionAdapter.from_pretrained({str(name)!r}))"
        ".save_pretrained(FOLDER), and give FOLDER"
    )


_LONE = (
    (r"\.lora_(A|B|up|down)\b|\.lora\.(up|down)\.", "a LoRA, not a model: give it as ", Setting("lora")),
    (r"\bmotion_modules\.", "a motion module of AnimateDiff alone: join it with a Stable Diffusion model first"),
    (
        r"^((model\.)?diffusion_model\.)?blocks\.0\.self_attn\.q\.",
        "the transformer of a Wan model alone: give the whole pipeline, Wan-AI/Wan2.1-T2V-1.3B-Diffusers say",
    ),
    (r"^((model\.)?diffusion_model\.)?double_blocks\.0\.", "a transformer alone: give a folder of the whole pipeline"),
    (r"^conditioner\.embedders\.", _IN_ONE_FILE.format(video="AnimateDiffSDXLPipeline")),
    (r"^cond_stage_model\.transformer\.text_model\.", _IN_ONE_FILE.format(video="AnimateDiffPipeline")),
)
"""By how tensors of single files are called, what such a file is."""


def refuse_lone(file: Path, tensors: Collection[str]) -> None:
    """Raises ValueError where the names of tensors are those of a part of a model, or of a model of pictures."""
    for pattern, *what in _LONE:
        if any(map(re.compile(pattern).search, tensors)):
            raise ValueError(Message(f"{file} is ", *what))
