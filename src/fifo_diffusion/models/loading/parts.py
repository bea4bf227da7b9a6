"""One part of a pipeline (a network, a tokenizer, a scheduler) from its folder: whole, or an error that names the file
and what is wrong with it."""

import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fifo_diffusion.models.shared.published_weights import refuse

LARGEST_CONFIG = 4 * 2**20  # bytes
LARGEST_NUMBER = 10**8  # in a configuration of a network: far beyond any width or vocabulary
LARGEST_COUNT = 1000  # of layers, and of entries in a list
LARGEST_OF = {
    r"layers|blocks|depth": LARGEST_COUNT,
    r"sample_(size|frames|height|width)$|video_length|size_(height|width)$": 2048,  # sides of tables that are made
    r"seq_len|train_timesteps": 100_000,
}
"""By what is in a number's name."""
POINTER = b"version https://git-lfs"
_READ = ("scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_FORMATS = ("safetensors", "bin", "pt", "pth")
_SHARD = re.compile(r"-\d+-of-\d+$")


class FolderError(ValueError):
    """A model folder that is damaged, or that would run code. One line that names the file."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        FolderError: there is none.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST_CONFIG:
        raise FolderError(f"{path} has {size / 2**20:.0f} MB, which is no configuration")
    text = path.read_bytes()
    if text.startswith(POINTER):
        raise FolderError(_pointer(path))
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise FolderError(f"{path} is no configuration: it is nested too deeply") from error
    except ValueError as error:
        raise FolderError(f"{path} is damaged: no JSON ({first_line(error)})") from error
    if not isinstance(values, dict):
        raise FolderError(f"{path} must hold an object, not {json.dumps(values)[:40]}")
    return values


def check_config(values: Any, path: Path, key: str = "") -> None:
    """Refuse numbers that no network has, and names of code.

    Raises:
        FolderError: there is one.
    """
    if isinstance(values, dict):
        if "auto_map" in values:
            raise FolderError(f"{path} names code of its own (auto_map), which is refused")
        for name, value in values.items():
            check_config(value, path, name)
    elif isinstance(values, list):
        if len(values) > LARGEST_COUNT and not all(isinstance(value, str) for value in values):
            raise FolderError(f"{path}: {key[:40]} has {len(values)} entries")
        for value in values:
            check_config(value, path, key)
    elif isinstance(values, str):
        if key.endswith("attn_implementation") and "/" in values:
            raise FolderError(f"{path} names code of its own ({key} {values[:40]}), which is refused")
    elif isinstance(values, int | float) and not isinstance(values, bool):
        large = next((most for pattern, most in LARGEST_OF.items() if re.search(pattern, key)), LARGEST_NUMBER)
        if (abs(values) > large) if isinstance(values, int) else math.isnan(values):
            raise FolderError(f"{path}: {key[:40]} is {str(values)[:20]}, which no model has")


def empty_part(kind: type, place: Path) -> nn.Module:
    """A module with shapes and no contents, as its configuration says.

    Raises:
        FolderError: the configuration is missing, damaged, or makes no such module.
    """
    path = place / "config.json"
    try:
        check_config(read_json(path), path)
        with torch.device("meta"):
            if kind.__module__.partition(".")[0] == "transformers":
                return kind(kind.config_class.from_pretrained(str(place)))
            return kind.from_config(kind.load_config(str(place)))
    except FolderError:
        raise
    except FileNotFoundError as error:
        raise FolderError(f"there is no file {path}: the model is not whole") from error
    except Exception as error:  # whatever its numbers lead to
        raise FolderError(f"{path} makes no {kind.__name__}: {first_line(error)}") from error


def load_part(
    kind: type, place: Path, dtype: torch.dtype | None = None, variant: str | None = None, **options: Any
) -> Any:
    """A part, whole.

    Args:
        kind: its class; see `part_kinds`.
        place: its folder.
        dtype: of a module's weights; None: as the library chooses.
        variant: of the weight files, where the part has any of that name.
        **options: for the `from_pretrained` of a module.

    Raises:
        FolderError: something of it is missing, damaged or does not fit; it would run code.
    """
    if not issubclass(kind, nn.Module):
        return _load_small(kind, place)
    variant = variant if variant and has_variant(place, variant) else None
    empty = empty_part(kind, place)
    size = _check_weight_files(place, variant, options.get("use_safetensors"))
    count = sum(p.numel() for p in empty.parameters())
    if count > max(LARGEST_NUMBER, 100 * size):  # else the names of what is missing tell more
        raise FolderError(
            f"{place / 'config.json'} asks for {count:,} numbers, and the weights beside it have {size:,} bytes: they "
            "do not belong together"
        )
    del empty
    return _read(kind, str(place), dtype, options | ({"variant": variant} if variant else {}))


def has_variant(place: Path, variant: str) -> bool:
    """Whether a part has weights of a variant."""
    return any(_variant_of(path) == variant for path in _weight_files(place))


def load_from(kind: type, source: str, dtype: torch.dtype | None, hub: Mapping[str, Any]) -> Any:
    """A network that may lie on the hub.

    Args:
        kind, dtype: as in `load_part`.
        source: a folder or a hub id.
        hub: arguments for the hub.

    Raises:
        FolderError: as `load_part`, or the hub does not give it.
    """
    if Path(source).is_dir():
        return load_part(kind, Path(source), dtype)
    return _read(kind, source, dtype, dict(hub))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, which is not the folder's fault."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


# -- inside ------------------------------------------------------------------------------------------------------------


def _load_small(kind: type, place: Path) -> Any:
    """A tokenizer, a scheduler or the like."""
    for path in sorted(place.glob("*.json")):
        if path.name in _READ:
            values = read_json(path)
            if path.name != "tokenizer_config.json":  # which may say that a text is as long as it likes
                check_config(values, path)
            elif "auto_map" in values:
                raise FolderError(f"{path} names code of its own (auto_map), which is refused")
        elif _is_pointer(path):
            raise FolderError(_pointer(path))
    try:
        return kind.from_pretrained(str(place))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise FolderError(f"{place} makes no {kind.__name__}: {first_line(error)}") from error


def _variant_of(path: Path) -> str:
    """ "fp16" of model.fp16.safetensors, model.fp16-00001-of-00002.safetensors or model.safetensors.index.fp16.json."""
    words = [_SHARD.sub("", word) for word in path.name.split(".")[1:]]
    return ".".join(word for word in words if word not in (*_FORMATS, "index", "json"))


def _weight_files(place: Path) -> list[Path]:
    """Weights and indices of their shards, by the names under which the libraries look for them."""
    names = "(diffusion_)?(pytorch_)?model"
    return [
        path
        for path in sorted(place.iterdir())
        if re.fullmatch(names, _SHARD.sub("", path.name.split(".")[0]))
        and (path.suffix[1:] in _FORMATS or (".index." in path.name and path.suffix == ".json"))
    ]


def _check_weight_files(place: Path, variant: str | None, safetensors: bool | None) -> int:
    """Bytes of the weights of a part that are read. What lies there in another variant or format may only point to
    the real files, or name shards that nobody fetched.

    Raises:
        FolderError: there are none, or one is missing, empty, cut off, or only points to the real one.
    """
    there = _weight_files(place)
    read = [path for path in there if _variant_of(path) == (variant or "")]
    safe = [path for path in read if ".safetensors" in path.name]
    read = safe if safe and safetensors is not False else [path for path in read if path not in safe]
    for index in (path for path in read if path.suffix == ".json"):
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict):
            raise FolderError(f"{index} is damaged: it has no weight_map")
        for shard in sorted({str(name) for name in shards.values()}):
            if Path(shard).name != shard:
                raise FolderError(f"{index} names a file elsewhere: {shard[:60]}")
            if not (place / shard).is_file():
                raise FolderError(f"{place / shard} is missing: the model is not whole")
    files = [path for path in read if path.suffix != ".json"]
    if not files and (others := sorted({_variant_of(path) for path in there} - {variant or ""})):
        raise FolderError(
            f"{place} has weights of the variant {others[0]} only: in Python, variant={others[0]!r} loads it"
        )
    if not files:
        raise FolderError(f"{place} has no weights (*.safetensors): the model is not whole")
    for path in files:
        if _is_pointer(path):
            raise FolderError(_pointer(path))
        if path.stat().st_size == 0:
            raise FolderError(f"{path} is empty: download it again")
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise FolderError(f"{path} is damaged ({first_line(error)}): download it again") from error
        elif _begins(path, b"PK") and not zipfile.is_zipfile(path):
            raise FolderError(f"{path} is cut off: download it again")
    return sum(path.stat().st_size for path in files)


def _read(kind: type, source: str, dtype: torch.dtype | None, options: dict[str, Any]) -> Any:
    if kind.__module__.partition(".")[0] == "transformers":
        options = {k: v for k, v in options.items() if k not in ("low_cpu_mem_usage", "disable_mmap")}
        options["ignore_mismatched_sizes"] = True
    elif not any(Path(source).glob("*.safetensors")):  # else diffusers looks for them first, and calls it an error
        options = {"use_safetensors": False} | options
    try:
        module, found = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise FolderError(f"{source}: {_reason(error, kind)}") from error
    _check_loaded(source, found)
    return module


def _check_loaded(place: str, found: Mapping[str, Any]) -> None:
    """Refuse weights that did not all come."""
    if found.get("mismatched_keys"):
        names = [
            f"{name} {tuple(there)} instead of {tuple(wanted)}"
            for name, there, wanted in (tuple(one)[:3] for one in found["mismatched_keys"])
        ]
        _refuse(place, "misshapen", names)
    _refuse(place, "missing", found.get("missing_keys") or ())
    if errors := found.get("error_msgs"):
        raise FolderError(f"{place}: {str(next(iter(errors))).strip().splitlines()[0]}")


def _refuse(place: str, kind: str, names: Any) -> None:
    try:
        refuse(place, kind, names)
    except ValueError as error:
        raise FolderError(f"{error}: its weights are not those of its config.json, or not whole") from None


def _reason(error: Exception, kind: type) -> str:
    import pickle

    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "its pickled weights are damaged, or want to run code, which is refused"
    text = first_line(error)
    shapes = re.search(r"([\w.]+) expected shape .*?(\[[\d, ]*\]).*?got .*?(\[[\d, ]*\])", text)
    if shapes:
        name, wanted, there = shapes.groups()
        return f"1 misshapen tensor(s): {name} {there} instead of {wanted}"
    return f"no {kind.__name__} ({text})"


def _is_pointer(path: Path) -> bool:
    return path.stat().st_size < 1024 and _begins(path, POINTER)


def _begins(path: Path, start: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _pointer(path: Path) -> str:
    return f"{path} only points to the file: fetch it with `git lfs pull`"
