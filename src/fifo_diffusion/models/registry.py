"""The family of a pipeline class: ours (`family_list.py`), registered ones, those of installed packages."""

import logging
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fifo_diffusion.errors import Message, message_of
from fifo_diffusion.models.family_list import FAMILIES, Family, find
from fifo_diffusion.models.loading.checkpoints import checkpoint_of
from fifo_diffusion.models.loading.near_pipelines import way_round
from fifo_diffusion.models.loading.refused_pipelines import REFUSED

if TYPE_CHECKING:
    from fifo_diffusion.models.shared.base import VideoModel

logger = logging.getLogger(__name__)

PLUGINS = "fifo_diffusion.models"
"""Entry-point group in which an installed package names a `Family` of its own."""
LOADED = "_fifo_loaded"
"""Attribute of pipelines that were loaded by us, not by their user."""

_REGISTERED: list[Family] = []


def register_family(family: Family) -> None:
    """Make FIFO accept another pipeline class; a later registration wins over an earlier one."""
    _REGISTERED.insert(0, family)


def families() -> tuple[Family, ...]:
    """All families: registered ones, those of installed packages (entry points `PLUGINS`), ours."""
    return (*_REGISTERED, *_plugins(), *FAMILIES)


def supported_pipelines() -> list[str]:
    """Names of the pipeline classes that `FIFO(pipe)` accepts."""
    return [name for family in families() for name in family.every]


def family_of(*class_names: str) -> Family:
    """The family of the first of these pipeline classes that has one.

    Raises:
        TypeError: none has, or one before it is refused; the message names the supported ones.
    """
    for name in class_names:
        family = next((family for family in families() if name in family.every), None)
        if family is not None:
            return family
        if name in REFUSED:
            raise TypeError(_unsupported(name))
    raise TypeError(_unsupported(class_names[0]))


def wrap(pipe: Any) -> "VideoModel":
    """The `VideoModel` of a loaded pipeline.

    Raises:
        TypeError: no family is registered for its class; the message names the supported ones.
    """
    import torch

    if pipe is None or isinstance(pipe, str | Path | torch.nn.Module):
        raise TypeError(_no_pipeline(pipe))
    family = family_of(*(base.__name__ for base in type(pipe).__mro__))
    loaded = getattr(pipe, LOADED, False)
    name = getattr(pipe, "config", {}).get("_name_or_path") or getattr(pipe, "_pretrained_model_name_or_path", None)
    name = str(name or "")
    if any(base.__name__ in family.modular for base in type(pipe).__mro__):
        pipe = _standard(pipe, family)
    known = checkpoint_of(name)
    try:
        if known and known.flow_shift and not loaded:
            from fifo_diffusion.models.loading.publishers import hint_shift

            hint_shift(pipe, Path(name).name, known.flow_shift)
        return find(family.model)(pipe, **({"frames": known.frames, "defaults": known.defaults} if known else {}))
    except (ValueError, TypeError) as error:
        if not Path(name).is_dir() or not name:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(Message(f"{name}: ", message_of(error))) from error
    except AttributeError as error:
        from diffusers import DiffusionPipeline

        if isinstance(pipe, DiffusionPipeline):
            raise
        kind = type(pipe)
        raise TypeError(
            f"{kind.__module__}.{kind.__name__} is no {kind.__name__} of diffusers, it only has its name ({error}): "
            "load the pipeline with diffusers"
        ) from error


def _standard(modular: Any, family: Family) -> Any:
    """The standard pipeline of the parts of a modular one."""
    from fifo_diffusion.models.shared.modular import is_modular, standard

    if not is_modular(modular):
        raise TypeError(f"{type(modular).__name__} only has the name of a modular pipeline: load it with diffusers")
    return standard(modular, family.pipeline_class(family.pipelines[0]))


@cache
def _plugins() -> tuple[Family, ...]:
    found = []
    for point in entry_points(group=PLUGINS):
        try:
            family = point.load()
        except Exception as error:  # whatever that package does
            logger.warning("%s (entry point %s) cannot be imported: %s", point.value, point.name, error)
            continue
        if isinstance(family, Family):
            found.append(family)
        else:
            logger.warning("%s (entry point %s) is no fifo_diffusion.Family", point.value, point.name)
    return tuple(found)


def _no_pipeline(given: Any) -> str:
    if given is None:
        return 'None is no pipeline: FIFO takes a loaded one, FIFO(pipe), or FIFO.from_pretrained("toybox") loads one'
    if not isinstance(given, str | Path):
        return f"FIFO takes the whole pipeline, not its {type(given).__name__} alone: FIFO(pipe)"
    return f"FIFO takes a loaded pipeline, not a name: FIFO.from_pretrained({str(given)!r}) loads one"


def _unsupported(class_name: str) -> str:
    return way_round(class_name, supported_pipelines()) or (
        f"{class_name} is not a supported pipeline; supported: {', '.join(supported_pipelines())} "
        "(add one with fifo_diffusion.register_family, see docs/adding-a-model.md)"
    )
