"""A model's name, resolved once: what it means, where its files are, and how a pipeline is made of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import EntryNotFoundError

from fifo_diffusion.errors import ArgumentError, ArgumentTypeError
from fifo_diffusion.files import is_possible
from fifo_diffusion.models.loading.adapters import put_on, read_adapters, settle
from fifo_diffusion.models.loading.checkpoints import EMBEDDED, known_like
from fifo_diffusion.models.loading.folders import (
    INDEX,
    OPTIONS,
    check_index,
    load_folder,
    part_kinds,
    place_of,
    taken_by,
    with_dtype,
)
from fifo_diffusion.models.loading.hub import (
    HUB,
    announce,
    asked_once,
    fetch,
    files_of_parts,
    not_on_hub,
    of_the_hub,
    pinned,
    tell_download,
)
from fifo_diffusion.models.loading.lighter import WAYS, check_quantize, gguf_part, quantize_denoisers, tile
from fifo_diffusion.models.loading.modular_folders import MODULAR_INDEX, Elsewhere, is_modular_class, plain_index
from fifo_diffusion.models.loading.near_pipelines import refuse_adapter
from fifo_diffusion.models.loading.originals import ORIGINALS, SUFFIXES, Original, kind_of, weights_file
from fifo_diffusion.models.loading.parts import FolderError, empty_part, first_line, read_json
from fifo_diffusion.models.loading.publishers import settle_shift_of
from fifo_diffusion.models.loading.weights import read_weights
from fifo_diffusion.models.registry import LOADED, Family, family_of, find
from fifo_diffusion.models.shared.arguments import nearest
from fifo_diffusion.models.shared.scheduler_choice import choose_scheduler, says_shift
from fifo_diffusion.text import one_line
from fifo_diffusion.toybox import PIPELINE_FOLDER

OWN = (
    *("device", "dtype", "flow_shift", "group", "lora", "offload", "offload_text_encoder", "shard_weights"),
    *("quantize", "torch_dtype", "vae_tiling"),
)
"""Arguments of `FIFO.from_pretrained` that concern no part."""


class ModelSource(ABC):
    """What a model's name means; see `find_model`. Asks nobody again what the name means.

    Attributes:
        name: as it was given.
        hub: arguments for the hub: those with which the name was looked up, and the revision that was found.
        family: the base-model family.
        is_original: whether its files are no diffusers folder.
    """

    name: str
    hub: Mapping[str, Any]
    family: Family
    is_original = True

    @property
    def half_precision(self) -> str:
        """The half precision that the model is made for: "float16" or "bfloat16"."""
        return self.family.half

    def load(
        self,
        *,
        scheduler: Any = None,
        flow_shift: float | None = None,
        lora: str | Sequence[str] = (),
        quantize: str | None = None,
        vae_tiling: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The pipeline, with the flow shift that its publisher samples with where nothing else is said.

        Args:
            scheduler: a scheduler of diffusers, or a text as in `choose_scheduler`.
            flow_shift: of a flow-matching scheduler.
            lora: LoRAs to put on it, as `read_adapter` reads them: "style.safetensors:0.8", say.
            quantize: how its denoisers are, "int8", "fp8" or FILE.gguf; see `lighter.check_quantize`.
            vae_tiling: whether its autoencoder decodes in tiles of height and width.
            **kwargs: for the pipeline's `from_pretrained`, or for the loader of an original checkpoint; `torch_dtype`
                is an old name of `dtype`.

        Raises:
            ValueError: its parts cannot be loaded. One line.
            TypeError: an argument that nothing is loaded with.
        """
        if quantize is not None:
            check_quantize(quantize)
            kwargs |= {} if quantize in WAYS else self._of_file(quantize, with_dtype(kwargs))
        adapters = read_adapters(lora)
        pipe = self._made(scheduler, flow_shift, vae_tiling, adapters, kwargs)
        put_on(pipe, adapters, of_the_hub(self.hub))
        if quantize in WAYS:
            quantize_denoisers(pipe, quantize)
        return pipe

    def _made(self, scheduler: Any, flow_shift: Any, vae_tiling: bool, adapters: Any, kwargs: dict[str, Any]) -> Any:
        """As `load`, without the weights of the LoRAs, and not quantised."""
        from diffusers import SchedulerMixin

        choice = scheduler if isinstance(scheduler, str) else None
        if scheduler is not None and choice is None:
            if not isinstance(scheduler, SchedulerMixin):
                raise ArgumentTypeError(
                    "scheduler", scheduler, "give a text such as 'euler', or a scheduler of diffusers"
                )
            kwargs["scheduler"] = scheduler
        pipe = self._load(**with_dtype(kwargs))
        setattr(pipe, LOADED, True)
        if vae_tiling:
            tile(pipe)
        settled = settle(pipe, adapters, chosen=scheduler)
        if choice is not None or flow_shift is not None:
            pipe.scheduler = choose_scheduler(pipe.scheduler, choice, flow_shift)
        if not (settled or flow_shift is not None or "scheduler" in kwargs or (choice and says_shift(choice))):
            settle_shift_of(pipe, self.name)
        return pipe

    def load_without_weights(
        self,
        *,
        scheduler: Any = None,
        flow_shift: float | None = None,
        lora: str | Sequence[str] = (),
        quantize: str | None = None,
        vae_tiling: bool = False,
    ) -> Any:
        """The pipeline with modules that have shapes and no contents: enough to check arguments and to count what a
        video costs. Reads the small files only, and of LoRAs and quantised weights nothing. Arguments and errors as
        `load`."""
        if quantize is not None:
            check_quantize(quantize)
        return self._made(scheduler, flow_shift, vae_tiling, read_adapters(lora), self._empty())

    def _of_file(self, file: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The denoiser that a GGUF file makes, as an argument of `_load`."""
        raise ArgumentError("quantize", file, "a GGUF file goes with a diffusers folder: use fp8 or int8")

    @abstractmethod
    def _load(self, **kwargs: Any) -> Any: ...

    @abstractmethod
    def _empty(self) -> dict[str, Any]:
        """Arguments of `_load` that leave the weights out."""


@dataclass(frozen=True)
class FolderSource(ModelSource):
    """A folder of diffusers' layout: in this package, here, or on the hub.

    Attributes:
        folder: where it is; None on the hub.
        index: its `model_index.json`, or what a modular pipeline's index says in that manner.
        usual: arguments that its name stands for.
        places: of a modular pipeline, where its parts lie.
    """

    name: str
    hub: Mapping[str, Any]
    family: Family
    folder: Path | None
    index: Mapping[str, Any] = field(repr=False)
    usual: Mapping[str, Any]
    places: Mapping[str, Elsewhere] = field(default_factory=dict, repr=False)
    is_original = False

    @property
    def _pipeline_class(self) -> Any:
        return self.family.pipeline_class(self.index["_class_name"])

    def _load(self, **kwargs: Any) -> Any:
        pipeline, family = self._pipeline_class, self.family
        kwargs = {**self.usual, **kwargs}
        dtype = kwargs.pop("dtype", None)
        wanted = taken_by(pipeline)
        given = {k: v for k, v in kwargs.items() if k in wanted}
        options = {k: v for k, v in kwargs.items() if k in OPTIONS}
        for argument in sorted(kwargs.keys() - given.keys() - options.keys()):
            raise TypeError(
                f"a model is not loaded with an argument {argument!r}"
                + nearest(argument, {*wanted, *OPTIONS, *HUB, *OWN})
                + (": none of its code is run" if argument in ("custom_pipeline", "trust_remote_code") else "")
                + "; load the pipeline yourself and give it to FIFO(pipe)"
            )
        folder, elsewhere = self.folder, {}
        try:
            if self.places:
                needed = [part for part in self.places if part in wanted and part not in given]
                elsewhere = {part: self.places[part].bring(folder, self.name, self.hub) for part in needed}
                folder = folder or Path(self.name)
            elif folder is None:
                tell_download(self.name, files_of_parts(self.index.keys() & wanted - given.keys(), kwargs), self.hub)
                folder = Path(pipeline.download(self.name, **self.hub, **kwargs))
        except FolderError as error:
            raise ValueError(f"model {self.name!r} cannot be loaded: {error}") from error
        except (OSError, ValueError) as error:
            raise not_on_hub(self.name, error, self.hub) from error
        if family.wide and isinstance(dtype, torch.dtype):
            wide = [part for part in family.wide if part in self.index]
            dtype = {"default": dtype} | dict.fromkeys(wide, torch.float32)
        try:
            more = {"dtype": dtype, "given": given, "elsewhere": elsewhere}
            pipe = load_folder(folder, pipeline, self.index, family.package, **more, **options)
        except FolderError as error:
            raise ValueError(f"model {self.name!r} cannot be loaded: {error}") from error
        name = self.name if self.folder is None else str(self.folder)
        if is_modular_class(pipeline):
            pipe._pretrained_model_name_or_path = name
        else:
            pipe.register_to_config(_name_or_path=name)
        return pipe

    def _of_file(self, file: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        path = (self.folder or Path(self.name)) / INDEX
        kinds = part_kinds(self.index, path, self._pipeline_class, self.family.package)
        return gguf_part(file, kinds, self._config, kwargs.get("dtype"))

    def _empty(self) -> dict[str, Any]:
        path = (self.folder or Path(self.name)) / INDEX
        modules = {}
        for part, kind in part_kinds(self.index, path, self._pipeline_class, self.family.package).items():
            if issubclass(kind, torch.nn.Module):
                try:
                    modules[part] = empty_part(kind, self._config(part).parent)
                except (OSError, ValueError) as error:
                    raise ValueError(f"model {self.name!r} cannot be loaded: {first_line(error)}") from error
        return modules

    def _config(self, part: str) -> Path:
        if part in self.places:
            return self.places[part].config(self.folder, self.name, self.hub)
        if self.folder is not None:
            return place_of(self.folder, part) / "config.json"
        return fetch(self.name, f"{part}/config.json", self.hub)


@dataclass(frozen=True)
class OriginalSource(ModelSource):
    """Published weights that are no diffusers folder, in several files.

    Attributes:
        kind: of `ORIGINALS`.
        place: as its `place` found it.
    """

    name: str
    hub: Mapping[str, Any]
    family: Family
    kind: Original
    place: Any

    def _load(self, **kwargs: Any) -> Any:
        return find(self.kind.load)(self.place, hub=self.hub, **kwargs)

    def _empty(self) -> dict[str, Any]:
        return dict(self.kind.empty)


@dataclass(frozen=True)
class FileSource(ModelSource):
    """A single file of published weights; which kind it is, its tensors' names tell.

    Attributes:
        file: here, or fetched from the hub.
    """

    name: str
    hub: Mapping[str, Any]
    file: Path

    @cached_property
    def kind(self) -> Original:
        """Of `ORIGINALS`.

        Raises:
            ValueError: see `read_weights`.
        """
        return kind_of(self.file, read_weights(self.file))

    @property
    def family(self) -> Family:  # type: ignore[override]
        """The base-model family. Raises ValueError as `kind`."""
        return family_of(self.kind.pipeline)

    def _load(self, **kwargs: Any) -> Any:
        tensors = read_weights(self.file)
        # What the file lacks lies in other repositories.
        return find(kind_of(self.file, tensors).load)(self.file, tensors, hub=of_the_hub(self.hub), **kwargs)

    def _empty(self) -> dict[str, Any]:
        return {}


def find_model(name: str | Path | ModelSource, hub: Mapping[str, Any] | None = None) -> ModelSource:
    """What a name means. Reads no weights, and asks the hub for one small file where nothing of that name is here.

    Args:
        name: "toybox", "toybox-diagonal"; a diffusers folder, an original checkpoint file, a folder with one, or a hub
            id of any of these. A `ModelSource` is itself.
        hub: arguments for the hub (cache_dir, revision, token, ...).

    Raises:
        ValueError: there is no such model; a folder that is no pipeline, is damaged or would run code; one line.
        TypeError: a pipeline class that is not supported.
    """
    hub = dict(hub or {})
    if isinstance(name, ModelSource):
        if hub:
            raise TypeError(f"{name.name} is found already: give {sorted(hub)[0]} to find_model")
        return name
    text = str(name)
    if not is_possible(text):
        raise _unknown(text)
    if text in EMBEDDED:
        return _folder(text, hub, PIPELINE_FOLDER, EMBEDDED[text])
    for kind in ORIGINALS:
        if kind.place and (place := find(kind.place)(name)) is not None:
            return OriginalSource(text, hub, family_of(kind.pipeline), kind, place)
    path = Path(name)
    if path.is_file():
        return FileSource(text, hub, path)
    if path.is_dir():
        return _in_folder(text, hub, path)
    if path.suffix in SUFFIXES and not path.exists():
        raise ValueError(f"there is no file {one_line(name)}")
    if path.is_absolute() or text.startswith(".") or text.count("/") != 1:
        raise _unknown(text)
    return _on_hub(text, hub)


def _unknown(name: str) -> ValueError:
    return ValueError(f"unknown model {name!r}: give 'toybox', a folder, or a hub id such as {known_like(name)}")


def _in_folder(name: str, hub: dict[str, Any], path: Path) -> ModelSource:
    if (path / INDEX).is_file():
        return _folder(name, hub, path)
    if not (path / INDEX).exists() and (path / weights_file(name)).is_file():
        return FileSource(name, hub, path / weights_file(name))
    refuse_adapter(name, path / "config.json")
    if (path / MODULAR_INDEX).is_file():
        return _folder(name, hub, path, index=path / MODULAR_INDEX)
    raise ValueError(f"{name} is no diffusers pipeline: the folder has no {INDEX}")


def _on_hub(name: str, hub: dict[str, Any]) -> ModelSource:
    announce(name, INDEX, hub)
    try:
        index = fetch(name, INDEX, hub)
    except (EntryNotFoundError, OSError, ValueError) as error:
        asked, hub = hub, asked_once(error, hub)
        if isinstance(error, EntryNotFoundError):
            with suppress(EntryNotFoundError, OSError):
                index = fetch(name, MODULAR_INDEX, hub)
                return _folder(name, hub | pinned(index), None, index=index)
            with suppress(EntryNotFoundError, OSError, ValueError):
                return FileSource(name, hub, fetch(name, weights_file(name), hub))
            with suppress(OSError, EntryNotFoundError):
                refuse_adapter(name, fetch(name, "config.json", hub))
        raise not_on_hub(name, error, asked) from error
    return _folder(name, hub | pinned(index), None, index=index)


def _folder(
    name: str,
    hub: Mapping[str, Any],
    folder: Path | None,
    usual: Mapping[str, Any] | None = None,
    index: Path | None = None,
) -> FolderSource:
    """A folder whose index names no class that would be code of the folder."""
    path, places = index or Path(folder or name) / INDEX, {}
    try:
        values = read_json(path)
        if path.name == MODULAR_INDEX:
            values, places = plain_index(values, path)
        class_name = check_index(values, path)
        family = family_of(class_name)
        part_kinds(values, path, family.pipeline_class(class_name), family.package)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    return FolderSource(name, hub, family, folder, values, usual or {}, places)
