"""A pipeline in a folder of diffusers' layout, part by part, so that what is wrong with one can be named. No code in
the folder is ever run.

A folder says in its `model_index.json` which class loads which part. Only classes of diffusers, transformers and of the
package that registered the family are taken, by their plain names, and no file of the folder is imported.
"""

import inspect
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fifo_diffusion.models.loading.modular_folders import is_modular_class, parts_and_settings, put_together
from fifo_diffusion.models.loading.parts import FolderError, first_line, has_variant, load_part, out_of_memory
from fifo_diffusion.models.shared.modules import text_tokenizer

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
OUR_MODULES = "fifo_diffusion.models."
OPTIONS = (
    *("use_safetensors", "low_cpu_mem_usage", "disable_mmap", "device_map", "max_memory", "offload_folder"),
    *("variant", "quantization_config"),
)
"""Arguments of `from_pretrained` that concern the weights of all parts."""

Kinds = dict[str, type]
"""The class of each part."""

_RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}  # as older folders have it


def check_index(index: Mapping[str, Any], path: Path) -> str:
    """The pipeline class that an index names.

    Raises:
        FolderError: none, or classes that are not a library's own: they would be code from the folder.
    """
    name = index.get("_class_name")
    if isinstance(name, list):
        raise FolderError(
            f"{path} names a pipeline class of its own ({json.dumps(name)[:60]}), which would run its code"
        )
    if not isinstance(name, str) or not name.isidentifier():
        raise FolderError(f"{path} names no pipeline class: _class_name is {json.dumps(name)[:60]}")
    return name


def part_kinds(index: Mapping[str, Any], path: Path, pipeline: type, package: str) -> Kinds:
    """The classes of the parts that a pipeline takes, of those that an index lists.

    Args:
        index, path: see `read_json`.
        pipeline: its class.
        package: top-level package that registered the family; its modules that are imported already may have classes
            of parts.

    Raises:
        FolderError: a class that is none of a library's own, or no kind of part.
    """
    wanted, kinds = taken_by(pipeline), {}
    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list) or entry == [None, None]:
            continue  # a plain setting
        if len(entry) != 2 or not all(isinstance(word, str) for word in entry):
            raise FolderError(f"{path}: {json.dumps(part)[:40]} must be [library, class], not {json.dumps(entry)[:60]}")
        library, name = entry
        module = _module(library, package)
        if module is None:
            raise FolderError(
                f"{path}: {json.dumps(part)[:40]} is of {json.dumps(entry)[:80]}: only parts of {', '.join(LIBRARIES)} "
                "and fifo_diffusion are loaded, others would run code of their own"
            )
        if part in wanted:
            kinds[part] = _kind(path, part, library, module, name)
    return kinds


def load_folder(
    folder: Path,
    pipeline: Any,
    index: Mapping[str, Any],
    package: str,
    *,
    dtype: torch.dtype | Mapping[str, torch.dtype] | None = None,
    variant: str | None = None,
    quantization_config: Any = None,
    given: Mapping[str, Any],
    elsewhere: Mapping[str, Path],
    **options: Any,
) -> Any:
    """The pipeline in a folder.

    Args:
        folder, pipeline, index, package: see `part_kinds`.
        dtype: of all weights, or by part and "default".
        variant: of weight files, for the parts that have it; one at least must.
        quantization_config: a `PipelineQuantizationConfig` of diffusers.
        given: parts and settings of the pipeline that are there already.
        elsewhere: folders of parts that do not lie in the folder.
        **options: for the `from_pretrained` of modules; see `OPTIONS`.

    Raises:
        FolderError: as `load_part` and `part_kinds`, or the parts make no such pipeline.
    """
    kinds = part_kinds(index, folder / INDEX, pipeline, package)
    places = {part: elsewhere.get(part) or place_of(folder, part) for part in kinds if part not in given}
    networks = [place for part, place in places.items() if issubclass(kinds[part], nn.Module)]
    if variant and networks and not any(has_variant(place, variant) for place in networks):
        raise FolderError(f"{folder} has no weights of the variant {variant!r}")
    if isinstance(dtype, Mapping) and (unknown := sorted(dtype.keys() - kinds.keys() - given.keys() - {"default"})):
        raise FolderError(f"it has no part {unknown[0]!r} to give a dtype: its parts are {', '.join(kinds)}")
    parts = {}
    for part, place in places.items():
        kind, own = kinds[part], dict(options)
        if issubclass(kind, nn.Module) and quantization_config is not None:
            is_diffusers = kind.__module__.startswith("diffusers")
            resolved = quantization_config._resolve_quant_config(is_diffusers=is_diffusers, module_name=part)
            own |= {"quantization_config": resolved} if resolved is not None else {}
        wanted = dtype.get(part, dtype.get("default", torch.float32)) if isinstance(dtype, Mapping) else dtype
        parts[part] = load_part(kind, place, wanted, variant, **own)
    parts |= given
    _fit_text(folder, parts)
    wanted = taken_by(pipeline)
    absent = [part for part, entry in index.items() if entry == [None, None] and part in wanted]
    absent += getattr(pipeline, "_optional_components", ())
    settings = {k: v for k, v in index.items() if k in wanted and not k.startswith("_") and not isinstance(v, list)}
    try:
        if is_modular_class(pipeline):
            return put_together(pipeline, settings | parts)
        # Not by its `from_pretrained`, some versions of which import files that they find in the folder.
        return pipeline(**(dict.fromkeys(absent) | settings | parts))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise FolderError(f"{folder} makes no {pipeline.__name__}: {first_line(error)}") from error


def taken_by(pipeline: Any) -> frozenset[str]:
    """The names of the parts and settings of a pipeline class."""
    return (
        parts_and_settings(pipeline)
        if is_modular_class(pipeline)
        else {*inspect.signature(pipeline.__init__).parameters}
    )


def place_of(folder: Path, part: str) -> Path:
    """Where a part lies: in a folder of its own, or where there is none and it is the only one, beside the index.

    Raises:
        FolderError: nowhere.
    """
    if (folder / part).is_dir():
        return folder / part
    if (folder / "config.json").is_file():
        return folder
    raise FolderError(f"{folder} has no folder {part}/: it is not whole")


def one_device(device_map: Any) -> torch.device | None:
    """The device of a `device_map` that names one; None where nothing is given.

    Raises:
        TypeError: it spreads the pipeline.
    """
    if device_map is None:
        return None
    try:
        return torch.device(device_map)
    except (RuntimeError, TypeError):
        raise TypeError(
            f"device_map={device_map!r} is no device, as 'cuda' is: to spread a pipeline over several, load it with "
            "diffusers and give it to FIFO(pipe)"
        ) from None


def read_dtype(given: Any) -> Any:
    """A dtype, or one by part, from its name too: transformers takes names, diffusers does not.

    Raises:
        TypeError: it is none of floating point.
    """
    if isinstance(given, Mapping):
        return {part: read_dtype(one) for part, one in given.items()}
    dtype = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype is {given!r}: give torch.float32, torch.float16 or torch.bfloat16, or leave it out")
    return dtype


def with_dtype(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `from_pretrained` with the dtype by its new name, and as such.

    Raises:
        TypeError: both names, no dtype, or a `device_map` that spreads the pipeline.
    """
    if "torch_dtype" in kwargs:
        if kwargs.get("dtype") is not None:
            raise TypeError("torch_dtype is an old name of dtype: give dtype alone")
        kwargs["dtype"] = kwargs.pop("torch_dtype")
    if kwargs.get("dtype") is not None:
        kwargs["dtype"] = read_dtype(kwargs["dtype"])
    one_device(kwargs.get("device_map"))
    return kwargs


# -- inside ------------------------------------------------------------------------------------------------------------


def _module(library: str, package: str) -> Any:
    """The module of a part's class; None where the library is not one of those that may have one."""
    import diffusers

    if library in LIBRARIES:
        return import_module(library)
    if library.startswith(OUR_MODULES) and all(map(str.isidentifier, library.removeprefix(OUR_MODULES).split("."))):
        try:
            return import_module(library)
        except ImportError:
            return None
    if library.partition(".")[0] == package != "fifo_diffusion":
        return sys.modules.get(library)
    if library.isidentifier() and library in dir(diffusers.pipelines):  # a part that belongs to one pipeline
        module = getattr(diffusers.pipelines, library)
        return module if inspect.ismodule(module) else None
    return None


def _kind(path: Path, part: str, library: str, module: Any, name: str) -> type:
    from diffusers import ClassifierFreeGuidance, SchedulerMixin
    from transformers import AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    allowed: tuple[type, ...] = (nn.Module, SchedulerMixin, ClassifierFreeGuidance, AutoTokenizer)
    allowed += (PreTrainedTokenizerBase, FeatureExtractionMixin, ImageProcessingMixin, ProcessorMixin)
    kind = getattr(module, _RENAMED.get(name, name), None) if name.isidentifier() else None
    own = isinstance(kind, type) and kind.__module__.partition(".")[0] == module.__name__.partition(".")[0]
    if own and "dummy" in kind.__module__:
        raise FolderError(f"{path}: {part} is of {library}.{name}, which wants a package that is not installed")
    if not own or not issubclass(kind, allowed) or not hasattr(kind, "from_pretrained"):
        raise FolderError(f"{path}: {part} is of {library}.{name}, which is no kind of part that can be loaded")
    return kind


def _fit_text(folder: Path, parts: Mapping[str, Any]) -> None:
    """Tokenizers give what their text encoders take: no more tokens, no unknown ones."""
    for name, tokenizer in parts.items():
        encoder = parts.get(name.replace("tokenizer", "text_encoder"))
        config = getattr(encoder, "config", None)
        if not name.startswith("tokenizer") or tokenizer is None or config is None:
            continue
        tokenizer = text_tokenizer(tokenizer)
        words, known = len(tokenizer), getattr(config, "vocab_size", None)
        if known and words > known:
            raise FolderError(f"{folder / name} has {words} words, the text encoder knows {known}: not of one model")
        most = getattr(config, "max_position_embeddings", None)
        if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length >= 1:
            raise FolderError(
                f"{folder / name}/tokenizer_config.json: model_max_length is {tokenizer.model_max_length}"
            )
        if most and tokenizer.model_max_length > most:
            tokenizer.model_max_length = most
