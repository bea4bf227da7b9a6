"""Modular pipelines of diffusers (`ModularPipeline`), whose parts are those of a standard pipeline and a guider.

FIFO runs none of their blocks: it makes the standard pipeline of the same parts once, and looks at the modular one
whenever it uses that, so that what is replaced there counts here.
"""

import math
from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

STANDARD, MODULAR, PARTS = "_fifo_standard", "_fifo_modular", "_fifo_parts"
"""Attributes: on a modular pipeline its standard one, and on that the modular one and the names of the parts."""
GUIDERS = {"guider": "guidance_scale", "guider_2": "guidance_scale_2"}
"""Guiders by their names on a pipeline, and what a standard pipeline calls their weight."""
TEXT_TO_VIDEO = ("text2video", "t2va")
"""What diffusers calls the workflow for texts alone."""
_NEEDED = ("transformer", "vae", "scheduler")
"""Parts without which nothing can be made. Texts may come encoded."""


def is_modular(pipe: Any) -> bool:
    """Whether it is a `ModularPipeline` of diffusers."""
    from diffusers import ModularPipeline

    return isinstance(pipe, ModularPipeline)


def text_to_video(modular: Any) -> str | None:
    """What diffusers calls the workflow for texts alone of these blocks; None where they have no others."""
    flows = getattr(modular.blocks, "_workflow_map", None) or ()
    return next((name for name in TEXT_TO_VIDEO if name in flows), None)


def check_loaded(modular: Any) -> None:
    """Whether the parts are there and the blocks those of diffusers.

    Raises:
        ValueError: not all; one line that says what to type.
    """
    parts, workflow = modular.components, text_to_video(modular)
    blocks = modular.blocks if workflow is None else modular.blocks.get_workflow(workflow)
    absent = [spec.name for spec in blocks.expected_components if parts.get(spec.name) is None]
    if missing := [name for name in _NEEDED if parts.get(name) is None]:
        call = "pipe.load_components()" if workflow is None else f'pipe.load_components(workflow="{workflow}")'
        raise ValueError(
            f"this {type(modular).__name__} has no {', '.join(absent or missing)} yet: call {call}, or "
            f"pipe.update_components({missing[0]}=...)"
        )
    own = sorted({type(block).__name__ for block in _steps(modular.blocks)} - _stock(modular))
    if own:
        raise ValueError(
            f"this {type(modular).__name__} has blocks that are none of its own in diffusers, which FIFO would leave "
            f"out: {', '.join(own)}; make the pipeline without them"
        )


def standard(modular: Any, kind: type) -> Any:
    """The standard pipeline of the parts of a modular one; always the same.

    Args:
        modular: loaded.
        kind: class of the standard pipeline.

    Raises:
        ValueError: as `check_loaded` and `guidance`, or the two classes do not agree about the autoencoder.
    """
    check_loaded(modular)
    guidance(modular)
    found = vars(modular).get(STANDARD)
    if found is None:
        wanted = signature(kind.__init__).parameters.values()  # type: ignore[misc]
        names = {p.name for p in wanted if p.name != "self" and p.kind is not Parameter.VAR_KEYWORD}
        needed = {p.name: None for p in wanted if p.default is Parameter.empty and p.name in names}
        parts = {name: part for name, part in modular.components.items() if name in names}
        found = kind(**needed | parts)
        vars(found).update({MODULAR: modular, PARTS: tuple(parts)})
        vars(modular)[STANDARD] = found
    pixels = [getattr(pipe, "vae_scale_factor_spatial", None) for pipe in (modular, found)]
    if pixels[0] != pixels[1]:
        raise ValueError(
            f"{type(modular).__name__} makes {pixels[0]} pixels of a latent, its autoencoder makes {pixels[1]}: "
            f"load the model with {kind.__name__}"
        )
    return as_it_stands(found)


def as_it_stands(pipe: Any) -> Any:
    """The same pipeline; one that stands for a modular pipeline with the parts and settings that that has now."""
    modular = getattr(pipe, "__dict__", {}).get(MODULAR)
    if modular is None:
        return pipe
    own, noted = vars(pipe), {k: v for k, v in vars(modular).items() if k.startswith("_fifo_") and k != STANDARD}
    own.update(noted)  # what was said of it when it was loaded
    for name in own[PARTS]:
        part = getattr(modular, name, None)
        if own.get(name) is not part:
            setattr(pipe, name, part)
    for name in modular._config_specs:
        if pipe.config.get(name, modular.config[name]) != modular.config[name]:
            pipe.register_to_config(**{name: modular.config[name]})
    return pipe


def guidance_of(pipe: Any) -> dict[str, float]:
    """`guidance` of the modular pipeline for which a standard one stands; of others nothing."""
    modular = getattr(pipe, "__dict__", {}).get(MODULAR)
    return {} if modular is None else guidance(modular)


def guidance(modular: Any) -> dict[str, float]:
    """The weights of a modular pipeline's guiders as they are now, as arguments of a standard pipeline's call.

    Raises:
        ValueError: a guider that guides in another way than one weight for all steps; one line that names it.
    """
    found = {}
    for part, name in GUIDERS.items():
        guider = getattr(modular, part, None)
        if guider is not None:
            change = f"pipe.update_components({part}=ClassifierFreeGuidance(guidance_scale=5.0))"
            found[name] = weight_of(f"pipe.{part}", guider, change)
    if found.get("guidance_scale") == 1 != found.get("guidance_scale_2", 1):
        raise ValueError("pipe.guider is off and pipe.guider_2 is on: give both a weight, or turn both off")
    return found


def call_inputs(modular: Any) -> Mapping[str, Any]:
    """The named inputs of a modular pipeline's call with their defaults."""
    return {p.name: p.default for p in modular.blocks.inputs if p.name is not None}


def weight_of(part: str, guider: Any, change: str) -> float:
    """The weight of a guider; 1 where it is off.

    Args:
        part: what people call it.
        change: what to type for another one.

    Raises:
        ValueError: a guider that guides in another way than one weight for all steps; one line that names it.
    """
    from diffusers import ClassifierFreeGuidance

    what, scale = "", 1.0
    if type(guider) is not ClassifierFreeGuidance:
        what = f"is {type(guider).__name__}"
    elif guider.guidance_rescale:
        what = "has guidance_rescale, an argument of FIFO's own"
    elif (guider._start, guider._stop) != (0.0, 1.0):
        what = "guides a part of the steps only (start, stop), which is FIFO's argument guidance_interval"
    else:
        scale = float(guider.guidance_scale) + bool(guider.use_original_formulation)
        scale = scale if guider._enabled and not math.isclose(scale, 1.0) else 1.0
        what = f"has a weight below 1, {guider.guidance_scale:g}" if not scale >= 1 else ""
    if what:
        raise ValueError(f"{part} {what}; FIFO takes no more than a weight of at least 1 from it: {change}")
    return scale


# -- inside ------------------------------------------------------------------------------------------------------------


def _steps(blocks: Any) -> Iterator[Any]:
    """The blocks that do something, in whatever groups they stand."""
    for block in blocks.sub_blocks.values():
        yield from _steps(block)
    if not blocks.sub_blocks:
        yield blocks


def _stock(modular: Any) -> set[str]:
    """The names of the steps that the pipeline's class has in diffusers."""
    import diffusers

    kinds = [base for base in type(modular).__mro__ if base.__module__.startswith("diffusers.")]
    blocks = getattr(diffusers, kinds[0].default_blocks_name)()
    return {type(block).__name__ for block in _steps(blocks)}
