"""Which pipeline class belongs to which base-model family, and how to load one by name."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from huggingface_hub.errors import EntryNotFoundError

from fifo_diffusion.models.animatediff.model import AnimateDiffModel, AnimateDiffXLModel
from fifo_diffusion.models.class_latte.model import ClassLatteModel
from fifo_diffusion.models.class_latte.pipeline import ClassLattePipeline, is_class_latte, load_class_latte
from fifo_diffusion.models.latte.model import LatteModel
from fifo_diffusion.models.loading.checkpoints import BY_CONTRACT, checkpoint_of
from fifo_diffusion.models.loading.folders import (
    INDEX,
    OPTIONS,
    Kinds,
    check_index,
    load_folder,
    one_device,
    part_kinds,
    place_of,
    read_dtype,
)
from fifo_diffusion.models.loading.near_pipelines import MODULAR_INDEX, way_round
from fifo_diffusion.models.loading.parts import FolderError, read_json
from fifo_diffusion.models.loading.publishers import hint_shift, settle_shift
from fifo_diffusion.models.loading.sources import (
    EMBEDDED,
    HUB,
    fetch,
    find_checkpoint,
    hub_arguments,
    not_on_hub,
    refuse_adapter,
)
from fifo_diffusion.models.opensora.checkpoint import find_opensora, load_opensora
from fifo_diffusion.models.opensora.model import OpenSoraPlanModel
from fifo_diffusion.models.shared.arguments import nearest, short
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler, says_shift
from fifo_diffusion.models.unet3d.model import UNet3DModel
from fifo_diffusion.models.unet3d.pipeline import TextToVideoPipeline, VideoCrafterPipeline
from fifo_diffusion.models.videocrafter.checkpoint import load_checkpoint, read_weights
from fifo_diffusion.models.videocrafter.model import VideoCrafterModel
from fifo_diffusion.models.wan.model import SkyReelsForcingModel, WanModel
from fifo_diffusion.toybox import PIPELINE_FOLDER


@dataclass(frozen=True)
class Family:
    """A base-model family.

    Attributes:
        name: for people.
        pipelines: names of the pipeline classes that it wraps.
        model: `model(pipe, frames=..., defaults=...)` makes the `VideoModel`; leaves out what the checkpoint table
            does not say.
        loader: class used in place of the named one by `from_pretrained`, where diffusers has none or its own is
            deprecated; or a function without arguments that imports it.
        verified: how support was checked.
        half: the half precision that it is made for.
        wide: parts that stay in float32 beside it.
    """

    name: str
    pipelines: tuple[str, ...]
    model: Callable[..., VideoModel]
    loader: Any = None
    verified: str = "not verified"
    half: str = "float16"
    wide: tuple[str, ...] = ()


def _unet3d(pipe: Any, **known: Any) -> VideoModel:
    """A VideoCrafter U-Net in a pipeline of another family is told apart by its configuration, or by its embedding of
    the frame rate."""
    videocrafter = "relative_positions" in pipe.unet.config or hasattr(pipe.unet, "fps_embedding")
    return (VideoCrafterModel if videocrafter else UNet3DModel)(pipe, **known)


def _opensora_pipeline() -> type:
    """Our pipeline class, imported when it is wanted: it stands on parts of diffusers that few models need."""
    from fifo_diffusion.models.opensora.pipeline import OpenSoraPlanPipeline

    return OpenSoraPlanPipeline


_FAMILIES: list[Family] = [
    Family(
        "UNet3D (ModelScope, zeroscope, toybox)",
        ("TextToVideoSDPipeline", "TextToVideoPipeline"),
        _unet3d,
        TextToVideoPipeline,
        "contract tests on random weights, recorded numbers",
    ),
    Family(
        "VideoCrafter2 and VideoCrafter1, text to video (original model.ckpt, or converted)",
        ("VideoCrafterPipeline",),
        VideoCrafterModel,
        VideoCrafterPipeline,
        "contract tests on random weights, recorded numbers of every part",
    ),
    Family(
        "AnimateDiff (Stable Diffusion 1.5 with a motion adapter)",
        ("AnimateDiffPipeline",),
        AnimateDiffModel,
        verified=BY_CONTRACT,
    ),
    Family(
        "AnimateDiff XL (Stable Diffusion XL with a motion adapter)",
        ("AnimateDiffSDXLPipeline",),
        AnimateDiffXLModel,
        verified=BY_CONTRACT,
    ),
    Family(
        "Wan 2.1 and 2.2, text to video",
        ("WanPipeline",),
        WanModel,
        verified=BY_CONTRACT,
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "SkyReels-V2 diffusion forcing, text to video",
        ("SkyReelsV2DiffusionForcingPipeline",),
        SkyReelsForcingModel,
        verified=BY_CONTRACT,
        half="bfloat16",
        wide=("vae",),
    ),
    Family(
        "Open-Sora Plan v1.1.0 (folders as published)",
        ("OpenSoraPlanPipeline",),
        OpenSoraPlanModel,
        _opensora_pipeline,
        verified="contract tests on random weights, recorded numbers; quality not seen by us",
    ),
    Family(
        "Latte, class-conditional (original ucf101.pt and the like)",
        ("ClassLattePipeline",),
        ClassLatteModel,
        ClassLattePipeline,
        "contract tests on random weights, the network against one written out; no published file seen",
    ),
    Family(
        "Latte (text to video)",
        ("LattePipeline",),
        LatteModel,
        verified="contract tests on random weights, recorded numbers; quality not seen by us",
    ),
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
    if pipe is None or isinstance(pipe, str | Path | torch.nn.Module):
        raise TypeError(_no_pipeline(pipe))
    family = _family_of([base.__name__ for base in type(pipe).__mro__])
    if family is None:
        raise TypeError(_unsupported(type(pipe).__name__))
    name = str(getattr(pipe, "config", {}).get("_name_or_path", ""))
    known = checkpoint_of(name)
    try:
        if known and known.flow_shift and not getattr(pipe, _LOADED, False):
            hint_shift(pipe, Path(name).name, known.flow_shift)
        return family.model(pipe, **({"frames": known.frames, "defaults": known.defaults} if known else {}))
    except (ValueError, TypeError) as error:
        if not Path(name).is_dir() or not name:
            raise
        raise type(error)(f"{name}: {error}") from error
    except AttributeError as error:
        from diffusers import DiffusionPipeline

        if isinstance(pipe, DiffusionPipeline):
            raise
        kind = type(pipe)
        raise TypeError(
            f"{kind.__module__}.{kind.__name__} is no {kind.__name__} of diffusers, it only has its name ({error}): "
            "load the pipeline with diffusers"
        ) from error


def find_pipeline(name: str | Path, **kwargs: Any) -> tuple[str, Family, dict[str, Any]]:
    """Where a model lies (folder or hub id), its family and its `model_index.json`; loads nothing else.

    Args:
        name: "toybox", "toybox-diagonal", a folder or a hub id.
        **kwargs: as for `load_pipeline`; those that concern the hub are used.

    Raises:
        ValueError: no such model, a folder that is no pipeline, is damaged or would run code, or a file (see
            `find_checkpoint`).
        TypeError: a pipeline class that is not supported.
    """
    if not str(name):
        raise ValueError("unknown model '': give 'toybox', a folder, or a hub id such as owner/name")
    path = PIPELINE_FOLDER if str(name) in EMBEDDED else Path(name)
    if path.is_file():
        raise ValueError(f"{name} is a file, not a diffusers folder")
    if path.is_dir() and not (path / INDEX).is_file():
        refuse_adapter(name, path / "config.json")
        if (path / MODULAR_INDEX).is_file():
            raise ValueError(
                f"{name} is a folder of a modular pipeline: load it with ModularPipeline.from_pretrained and make a "
                "pipeline of a supported class of its parts (FIFO(pipe) says how)"
            )
        raise ValueError(f"{name} is no diffusers pipeline: the folder has no {INDEX}")
    if not path.exists() and (path.is_absolute() or str(name).startswith(".") or str(name).count("/") != 1):
        raise ValueError(f"unknown model {str(name)!r}: give 'toybox', a folder, or a hub id such as owner/name")
    try:
        place = path / INDEX if path.exists() else fetch(str(name), INDEX, kwargs)
    except (OSError, ValueError) as error:
        if isinstance(error, EntryNotFoundError):
            with suppress(OSError, EntryNotFoundError):
                refuse_adapter(name, fetch(str(name), "config.json", kwargs))
        raise not_on_hub(name, error, kwargs) from error
    family, index = _read_index(place)
    return str(path), family, index


def part_file(source: str, part: str, file: str) -> Path:
    """A small file of a part, fetched from the hub where `find_pipeline` found the model there.

    Raises:
        OSError, ValueError: it is not there.
    """
    if Path(source).is_dir():
        return place_of(Path(source), part) / file
    return fetch(source, f"{part}/{file}", {})


def parts_of(source: str, family: Family, index: dict[str, Any]) -> Kinds:
    """The classes of a pipeline's parts, as `find_pipeline` found it.

    Raises:
        ValueError: a class that would run code of the folder.
    """
    return part_kinds(index, Path(source) / INDEX, _pipeline_class(family, index), _package(family))


def half_precision(name: str | Path, **kwargs: Any) -> str:
    """The half precision that a model is made for: "float16" or "bfloat16". Arguments and errors as `find_pipeline`."""
    return "float16" if find_checkpoint(name, **kwargs) else find_pipeline(name, **kwargs)[1].half


OWN = ("device", "dtype", "flow_shift", "group", "offload_text_encoder", "torch_dtype")
"""Arguments of `FIFO.from_pretrained` that concern no part."""
_LOADED = "_fifo_loaded"


def load_pipeline(name: str | Path, *, flow_shift: float | None = None, **kwargs: Any) -> Any:
    """A pipeline by hub id, folder, original checkpoint or "toybox", with the flow shift that its publisher samples
    with where nothing else is said.

    Args:
        name: what to load.
        flow_shift: of a flow-matching scheduler.
        **kwargs: for the pipeline's `from_pretrained`, or for `load_checkpoint` or `load_opensora`; `torch_dtype` is
            an old name of `dtype`. `scheduler` may be a text as in `choose_scheduler`.

    Raises:
        ValueError, TypeError: as `find_pipeline`, `load_checkpoint` or `load_opensora`; or its parts cannot be loaded.
    """
    given = kwargs.get("scheduler")
    choice = kwargs.pop("scheduler") if isinstance(given, str) else None
    if given is None:
        kwargs.pop("scheduler", None)
    elif choice is None and not isinstance(given, SchedulerMixin):
        raise TypeError(f'scheduler must be a text such as "euler", or a scheduler of diffusers, not {short(given)}')
    pipe = _load(name, **kwargs)
    setattr(pipe, _LOADED, True)
    if choice is not None or flow_shift is not None:
        pipe.scheduler = choose_scheduler(pipe.scheduler, choice, flow_shift)
    known = checkpoint_of(str(name))
    said = flow_shift is not None or "scheduler" in kwargs or (choice is not None and says_shift(choice))
    if known and known.flow_shift and not said:
        both = [known.defaults.get(key) for key in ("guidance_scale", "guidance_scale_2")]
        guidance = None if both[1] is None else (both[0], both[1])
        settle_shift(pipe, Path(name).name, known.flow_shift, known.large_shift, guidance)
    return pipe


def _load(name: str | Path, **kwargs: Any) -> Any:
    if "torch_dtype" in kwargs:
        if kwargs.get("dtype") is not None:
            raise TypeError("torch_dtype is an old name of dtype: give dtype alone")
        kwargs["dtype"] = kwargs.pop("torch_dtype")
    if kwargs.get("dtype") is not None:
        kwargs["dtype"] = read_dtype(kwargs["dtype"])
    one_device(kwargs.get("device_map"))
    published = find_opensora(name)
    checkpoint = None if published else find_checkpoint(name, **kwargs)
    if published is not None or checkpoint is not None:
        hub = hub_arguments(kwargs)
        others = {k: v for k, v in kwargs.items() if k not in hub} | {"hub": hub}
        if published is not None:
            return load_opensora(published, **others)
        if checkpoint.suffix in (".pt", ".pth", ".safetensors") and is_class_latte(tensors := read_weights(checkpoint)):
            return load_class_latte(checkpoint, tensors, **others)
        return load_checkpoint(checkpoint, **others)
    source, family, index = find_pipeline(name, **kwargs)
    pipeline = _pipeline_class(family, index)
    kwargs = EMBEDDED.get(str(name), {}) | kwargs
    dtype = kwargs.pop("dtype", None)
    given = {k: v for k, v in kwargs.items() if k in inspect.signature(pipeline.__init__).parameters}
    options = {k: v for k, v in kwargs.items() if k in OPTIONS}
    for argument in sorted(kwargs.keys() - given.keys() - options.keys() - set(HUB)):
        raise TypeError(
            f"a model is not loaded with an argument {argument!r}"
            + nearest(argument, {*inspect.signature(pipeline.__init__).parameters, *OPTIONS, *HUB, *OWN})
            + (": none of its code is run" if argument in ("custom_pipeline", "trust_remote_code") else "")
            + "; load the pipeline yourself and give it to FIFO(pipe)"
        )
    folder = Path(source)
    if not folder.is_dir():
        try:
            folder = Path(pipeline.download(source, **kwargs))
        except (OSError, ValueError) as error:
            raise not_on_hub(name, error, kwargs) from error
        family, index = _read_index(folder / INDEX)
    if family.wide and isinstance(dtype, torch.dtype):
        dtype = {"default": dtype} | dict.fromkeys(family.wide, torch.float32)
    try:
        pipe = load_folder(folder, pipeline, index, _package(family), dtype=dtype, given=given, **options)
    except FolderError as error:
        raise ValueError(f"model {str(name)!r} cannot be loaded: {error}") from error
    pipe.register_to_config(_name_or_path=source)
    return pipe


def _read_index(path: Path) -> tuple[Family, dict[str, Any]]:
    """The family and the content of a `model_index.json`, none of whose classes is code of the folder."""
    try:
        index = read_json(path)
        class_name = check_index(index, path)
        family = _family_of([class_name])
        if family is None:
            raise TypeError(_unsupported(class_name))
        part_kinds(index, path, _pipeline_class(family, index), _package(family))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    return family, index


def _pipeline_class(family: Family, index: dict[str, Any]) -> Any:
    import diffusers

    if family.loader is None:
        if not hasattr(diffusers, index["_class_name"]):
            raise TypeError(f"diffusers {diffusers.__version__} has no {index['_class_name']}: install a newer one")
        return getattr(diffusers, index["_class_name"])
    return family.loader if isinstance(family.loader, type) else family.loader()


def _package(family: Family) -> str:
    return family.model.__module__.partition(".")[0]


def _family_of(class_names: list[str]) -> Family | None:
    return next((f for n in class_names for f in _FAMILIES if n in f.pipelines), None)


def _no_pipeline(given: Any) -> str:
    if given is None:
        return 'None is no pipeline: FIFO takes a loaded one, FIFO(pipe), or FIFO.from_pretrained("toybox") loads one'
    if isinstance(given, torch.nn.Module):
        return f"FIFO takes the whole pipeline, not its {type(given).__name__} alone: FIFO(pipe)"
    return f"FIFO takes a loaded pipeline, not a name: FIFO.from_pretrained({str(given)!r}) loads one"


def _unsupported(class_name: str) -> str:
    return way_round(class_name, supported_pipelines()) or (
        f"{class_name} is not a supported pipeline; supported: {', '.join(supported_pipelines())} "
        "(add one with fifo_diffusion.register_family, see docs/adding-a-model.md)"
    )
