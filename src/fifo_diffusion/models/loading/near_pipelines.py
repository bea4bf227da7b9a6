"""What to say of pipelines that are not supported where a relative of theirs is."""

import inspect
from collections.abc import Collection
from typing import Any

_PICTURES = {"StableDiffusionPipeline": "AnimateDiffPipeline", "StableDiffusionXLPipeline": "AnimateDiffSDXLPipeline"}
"""Pipelines that make pictures, and those that make videos of the same parts and a motion adapter."""
MODULAR_INDEX = "modular_model_index.json"


def way_round(class_name: str, supported: Collection[str]) -> str | None:
    """How a pipeline of a supported class is made of one of this class; None where nothing is known.

    Args:
        class_name: of the pipeline that was given or named.
        supported: names of the supported classes.
    """
    if class_name in _PICTURES:
        video = _PICTURES[class_name]
        return (
            f"{class_name} is not a supported pipeline: it makes pictures. With a motion adapter it makes videos: give "
            f"FIFO({video}.from_pretrained(NAME, motion_adapter=ADAPTER))"
        )
    plain = class_name.replace("Modular", "")
    if plain == class_name or not class_name.endswith("Pipeline"):
        return None
    if plain not in supported:
        return f"{class_name} is a modular pipeline, and FIFO takes pipelines of these classes: {', '.join(supported)}"
    return (
        f"{class_name} is a modular pipeline: after pipe.load_components() give "
        f"FIFO({plain}(**{{name: pipe.components[name] for name in {_parts(plain)}}}))"
    )


def _parts(class_name: str) -> tuple[str, ...]:
    """The parts that a pipeline cannot be made without."""
    import diffusers

    kind: Any = getattr(diffusers, class_name)
    given = inspect.signature(kind.__init__).parameters.values()
    return tuple(p.name for p in given if p.name != "self" and p.default is p.empty and p.kind != p.VAR_KEYWORD)
