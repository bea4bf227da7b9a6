"""Which pipeline class belongs to which base-model family, and how to load one by name."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fifo_diffusion import toybox
from fifo_diffusion.models.base import VideoModel
from fifo_diffusion.models.text_to_video import TextToVideoPipeline
from fifo_diffusion.models.unet3d import UNet3DModel
from fifo_diffusion.models.videocrafter import VideoCrafterModel
from fifo_diffusion.toybox import PIPELINE_FOLDER


@dataclass(frozen=True)
class Family:
    """A base-model family.

    Attributes:
        name: for people.
        pipelines: names of the pipeline classes that it wraps.
        model: `model(pipe, frames=..., defaults=...)` makes the `VideoModel`; leaves out what the checkpoint table
            does not say.
        loader: class used in place of the named one by `from_pretrained`, where diffusers' own is deprecated.
        verified: how support was checked.
    """

    name: str
    pipelines: tuple[str, ...]
    model: Callable[..., VideoModel]
    loader: Any = None
    verified: str = "not verified"


@dataclass(frozen=True)
class Checkpoint:
    """What is known of one published checkpoint: its clip length and good defaults."""

    frames: int
    defaults: dict[str, Any] = field(default_factory=dict)
    verified: str = "random weights, recorded numbers; quality not seen by us"


CHECKPOINTS = {
    "toybox": Checkpoint(
        toybox.NUM_FRAMES, {"guidance_scale": toybox.GUIDANCE_SCALE, "fps": toybox.FPS}, "its videos seen by us"
    ),
    "cerspense/zeroscope_v2_576w": Checkpoint(24, {"height": 320, "width": 576, "fps": 8}),
    "damo-vilab/text-to-video-ms-1.7b": Checkpoint(16, {"fps": 8}),
    "ali-vilab/text-to-video-ms-1.7b": Checkpoint(16, {"fps": 8}),
}


def _unet3d(pipe: Any, **known: Any) -> VideoModel:
    """VideoCrafter2's converted U-Net is told apart by its embedding of the frame rate."""
    return (VideoCrafterModel if hasattr(pipe.unet, "fps_embedding") else UNet3DModel)(pipe, **known)


_FAMILIES: list[Family] = [
    Family(
        "UNet3D (ModelScope, zeroscope, toybox; VideoCrafter2's U-Net once converted)",
        ("TextToVideoSDPipeline", "TextToVideoPipeline"),
        _unet3d,
        TextToVideoPipeline,
        "contract tests on random weights, recorded numbers",
    )
]


def register_family(family: Family) -> None:
    """Make FIFO accept another pipeline class; a later registration wins over an earlier one."""
    _FAMILIES.insert(0, family)


def families() -> tuple[Family, ...]:
    """All registered families."""
    return tuple(_FAMILIES)


def supported_pipelines() -> list[str]:
    """Names of the pipeline classes that `FIFO(pipe)` accepts."""
    return [name for family in _FAMILIES for name in family.pipelines]


def wrap(pipe: Any) -> VideoModel:
    """The `VideoModel` of a loaded pipeline.

    Raises:
        TypeError: no family is registered for its class; the message names the supported ones.
    """
    family = _family_of([base.__name__ for base in type(pipe).__mro__])
    if family is None:
        raise TypeError(_unsupported(type(pipe).__name__))
    known = _checkpoint_of(str(getattr(pipe, "config", {}).get("_name_or_path", "")))
    return family.model(pipe, **({"frames": known.frames, "defaults": known.defaults} if known else {}))


def find_pipeline(name: str | Path, **kwargs: Any) -> tuple[str, Family, dict[str, Any]]:
    """Where a model lies (folder or hub id), its family and its `model_index.json`; loads nothing else.

    Args:
        name: "toybox", a folder or a hub id.
        **kwargs: as for `load_pipeline`; those that concern the hub are used.

    Raises:
        ValueError: no such model, a folder that is no pipeline, or a file.
        TypeError: a pipeline class that is not supported.
    """
    from diffusers import DiffusionPipeline

    path = PIPELINE_FOLDER if str(name) == "toybox" else Path(name)
    if path.is_file():
        raise ValueError(f"{name} is a file: original checkpoint files cannot be loaded yet, give a diffusers folder")
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise ValueError(f"{name} is no diffusers pipeline: the folder has no model_index.json")
    if not path.exists() and (path.is_absolute() or str(name).startswith(".") or str(name).count("/") != 1):
        raise ValueError(f"unknown model {str(name)!r}: give 'toybox', a folder, or a hub id such as owner/name")
    try:
        index = DiffusionPipeline.load_config(str(path), **_hub_arguments(kwargs))
    except (OSError, ValueError) as error:
        reason = str(error) if path.exists() else "it is no folder here, and the Hugging Face hub did not give it"
        raise _not_loaded(name, reason) from error
    class_name = index["_class_name"]
    class_name = class_name if isinstance(class_name, str) else class_name[-1]
    family = _family_of([class_name])
    if family is None:
        raise TypeError(_unsupported(class_name))
    return str(path), family, index


def load_pipeline(name: str | Path, **kwargs: Any) -> Any:
    """A pipeline by hub id, folder or "toybox"; keywords go to its `from_pretrained`.

    Raises:
        ValueError, TypeError: as `find_pipeline`; or its parts cannot be loaded.
    """
    from diffusers import DiffusionPipeline

    source, family, _ = find_pipeline(name, **kwargs)
    try:
        with warnings.catch_warnings():
            # diffusers renames the argument to `dtype`; the old name is the one that all supported versions know.
            warnings.filterwarnings("ignore", message=".*torch_dtype.*", category=FutureWarning)
            return (family.loader or DiffusionPipeline).from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, str(error)) from error


def _family_of(class_names: list[str]) -> Family | None:
    return next((f for n in class_names for f in _FAMILIES if n in f.pipelines), None)


def _checkpoint_of(name_or_path: str) -> Checkpoint | None:
    if Path(name_or_path) == PIPELINE_FOLDER:
        return CHECKPOINTS["toybox"]
    if name_or_path in CHECKPOINTS:
        return CHECKPOINTS[name_or_path]
    # A local copy usually keeps the name of its repository.
    return next((c for n, c in CHECKPOINTS.items() if "/" in n and Path(name_or_path).name == n.split("/")[1]), None)


def _unsupported(class_name: str) -> str:
    return (
        f"{class_name} is not a supported pipeline; supported: {', '.join(supported_pipelines())} "
        "(add one with fifo_diffusion.register_family, see docs/architecture.md)"
    )


def _hub_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    names = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
    return {k: v for k, v in kwargs.items() if k in names}


def _not_loaded(name: str | Path, reason: str) -> ValueError:
    reason = (reason.strip().splitlines() or ["no reason given"])[0]
    hint = "check the spelling, your connection and, for private models, `hf auth login`"
    return ValueError(f"model {str(name)!r} cannot be loaded: {reason} ({hint})")
