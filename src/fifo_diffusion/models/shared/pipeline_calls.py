"""What a diffusers pipeline's own call takes and returns, and the sizes that its modules take."""

import inspect
import sys
from typing import Any


def latent_size(height: int, width: int, multiple: int, factor: int) -> tuple[int, int]:
    """Height and width of the latents, `factor` pixels to each.

    Raises:
        ValueError: not both are multiples of `multiple`.
    """
    if height < multiple or width < multiple or height % multiple or width % multiple:
        near = [max(multiple, round(x / multiple) * multiple) for x in (height, width)]
        raise ValueError(
            f"height {height} and width {width} must be multiples of {multiple}: use {near[0]} and {near[1]}"
        )
    return height // factor, width // factor


def call_arguments(pipe: Any) -> dict[str, Any] | None:
    """The named arguments of a pipeline's own call, with their defaults: of its class, and of those that it derives
    from as long as it hands on what it does not name. None where no prompt is among them."""
    found: dict[str, Any] = {}
    for kind in type(pipe).__mro__:
        if "__call__" in vars(kind):
            parameters = list(inspect.signature(kind.__call__).parameters.values())[1:]
            named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            found = {p.name: p.default for p in named} | found
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                break
    return found if "prompt" in found else None


def output_class(pipe: Any) -> Any:
    """The class of what the pipeline's own call returns, from its module or from that of the class it derives from."""
    modules = (vars(sys.modules[base.__module__]) for base in type(pipe).__mro__)
    found = (module[name] for module in modules for name in module if name.endswith("Output") and name != "BaseOutput")
    return next(found)
