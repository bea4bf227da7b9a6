"""LoRA files by name, as `from_pretrained(lora=...)` and the command's `--lora` say them."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.files import is_possible
from fifo_diffusion.models.loading.few_step_loras import FewStepLora, known_lora, settle_few_steps, titles_of
from fifo_diffusion.models.loading.hub import fetch
from fifo_diffusion.models.loading.parts import first_line
from fifo_diffusion.models.videocrafter.turbo import add_turbo, prepare_turbo, takes_turbo

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
LIST_SUFFIX = ".pt"
"""Of files that hold a list of tensors: T2V-Turbo's. No code in them is run."""
ONLY_FILES = {"jiachenli-ucsb/T2V-Turbo-VC2": "unet_lora.pt"}
"""By hub id, what diffusers would not find."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+\.(safetensors|pt))?")
_EXPERTS = {"high": (False,), "low": (True,), "": (False, True)}
"""Of two-expert models (Wan 2.2): whether weights go into the second transformer, by what follows the name."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA.

    Attributes:
        place: a file, a folder, or a hub id.
        file: the file in it, where it is named.
        expert: "high" or "low" noise of a two-expert model; "" for both.
        scale: how strongly it acts; 1 is as trained.
    """

    place: str
    file: str | None
    expert: str
    scale: float

    @property
    def is_list(self) -> bool:
        """Whether its file holds a list of tensors (T2V-Turbo)."""
        return self.file is not None and self.file.endswith(LIST_SUFFIX)

    @property
    def path(self) -> Path | None:
        """Where its file is; None on the hub."""
        return Path(self.place) / str(self.file) if Path(self.place).is_absolute() else None

    @property
    def kind(self) -> FewStepLora | None:
        """What is known of it by its name or by its file's metadata, if it distils to few steps and acts at all."""
        if not self.scale or self.is_list:
            return None
        names = [f"{self.place}/{self.file or ''}"] if self.path is None else [Path(self.place).name, self.path.name]
        return known_lora(names + ([] if self.path is None else titles_of(str(self.path))))

    def __str__(self) -> str:
        name = self.place if self.file is None else f"{self.place}/{self.file}"
        return f"{name}{'@' * bool(self.expert)}{self.expert}:{self.scale:g}"


def read_adapter(text: Any) -> Adapter:
    """FILE_OR_ID[@high|@low][:scale], with an absolute path where it is a file.

    Raises:
        ValueError: no such file, neither `.safetensors` nor T2V-Turbo's `.pt`, or no name that a hub has.
    """
    if not isinstance(text, str) or not text:
        raise ArgumentError("lora", text, "give texts such as style.safetensors:0.8")
    name, colon, number = text.rpartition(":")
    try:
        scale = float(number) if colon else 1.0
    except ValueError:  # the colon of C:\\style.safetensors
        name, scale = text, 1.0
    name = name if colon and name else text
    if not abs(scale) < 100:
        raise ArgumentError("lora", text, "its scale must be a number, 0.8 say")
    expert = next((word for word in ("high", "low") if name.endswith(f"@{word}")), "")
    name = name.removesuffix(f"@{expert}")
    if not is_possible(name):
        raise ArgumentError("lora", text, "no file can have this name")
    path = Path(name)
    if path.is_file():
        if path.suffix not in (SUFFIX, LIST_SUFFIX):
            raise ArgumentError("lora", text, f"give a {SUFFIX} file: other kinds may run code when they are read")
        return Adapter(str(path.resolve().parent), path.name, expert, scale)
    if path.is_dir():
        files = sorted(p.name for p in path.glob(f"*{SUFFIX}"))
        if len(files) != 1:
            found = f"holds {', '.join(files)}: name one of them" if files else f"holds no {SUFFIX} file"
            raise ArgumentError("lora", text, f"the folder {found}")
        return Adapter(str(path.resolve()), files[0], expert, scale)
    if path.suffix in (SUFFIX, LIST_SUFFIX) and (path.is_absolute() or name.count("/") < 2):
        raise ArgumentError("lora", text, "there is no such file")
    if not _HUB_ID.fullmatch(name):
        raise ArgumentError("lora", text, "there is no such file, and no such name on a hub (owner/name)")
    owner, repository, *rest = name.split("/", 2)
    place = f"{owner}/{repository}"
    return Adapter(place, rest[0] if rest else ONLY_FILES.get(place), expert, scale)


def read_adapters(texts: str | Sequence[str]) -> list[Adapter]:
    """One text, or several; see `read_adapter`.

    Raises:
        ValueError: as `read_adapter`, or one is there twice.
    """
    found = [read_adapter(text) for text in ([texts] if isinstance(texts, str) else texts)]
    for k, adapter in enumerate(found):
        if any((adapter.place, adapter.file, adapter.expert) == (a.place, a.file, a.expert) for a in found[:k]):
            raise ArgumentError("lora", str(adapter), "it is given twice: give it once, with its scale")
    return found


def check_fits(pipe: Any, adapters: Sequence[Adapter]) -> None:
    """Whether a pipeline, perhaps one without weights, takes LoRAs; whether these fit it is seen by `put_on`.

    Raises:
        ValueError: it does not, or the package that does it is missing.
    """
    if not adapters:
        return
    lists = [adapter for adapter in adapters if adapter.is_list]
    if lists and not takes_turbo(pipe):
        raise ArgumentError("lora", str(lists[0]), f"a {LIST_SUFFIX} file must be T2V-Turbo's, for VideoCrafter2 alone")
    if len(lists) > 1:
        raise ArgumentError("lora", str(lists[1]), "one LoRA of T2V-Turbo is enough: leave it out")
    if len(lists) == len(adapters):
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(Message(f"{type(pipe).__name__} takes no LoRA: leave ", Setting("lora"), " out"))
    if find_spec("peft") is None:
        raise ValueError("a LoRA needs the package peft: pip install peft")
    for adapter in adapters:
        _experts(pipe, adapter)


def settle(pipe: Any, adapters: Sequence[Adapter], *, chosen: Any = None) -> bool:
    """Make a pipeline sample as these LoRAs want it, as far as they are known; they need not be on it yet.

    Args:
        chosen: the scheduler that the caller chose, which stays; a text is for later.

    Returns:
        Whether its scheduler is now what a LoRA wants.

    Raises:
        ValueError: as `check_fits`.
    """
    check_fits(pipe, adapters)
    if any(adapter.is_list for adapter in adapters):
        before = pipe.scheduler
        prepare_turbo(pipe)
        if chosen is not None and not isinstance(chosen, str):
            pipe.scheduler = before
        return pipe.scheduler is not before
    known = [(str(adapter), adapter.kind) for adapter in adapters]
    return settle_few_steps(pipe, [(name, kind) for name, kind in known if kind], chosen=chosen is not None)


def put_on(pipe: Any, adapters: Sequence[Adapter], hub: Mapping[str, Any]) -> None:
    """Load them into a pipeline that `settle` has seen, with their scales.

    Args:
        hub: arguments for the hub.

    Raises:
        ValueError: one cannot be read or fits nothing in the pipeline.
    """
    for adapter in adapters:
        if adapter.is_list:
            _add_list(pipe, adapter, hub)
    adapters = [adapter for adapter in adapters if not adapter.is_list]
    if not adapters:
        return
    kind = type(pipe).__name__
    unet = getattr(pipe, "unet", None)
    if unet is not None and not hasattr(unet, "load_lora_adapter"):
        unet.__class__ = _with_adapters(type(unet))
    names: list[str] = []
    for adapter in adapters:
        name = f"lora_{len(names)}"
        with _complaints() as complaints, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # what the LoRA before this one left
            for into in _experts(pipe, adapter):
                try:
                    pipe.load_lora_weights(
                        adapter.place, weight_name=adapter.file, adapter_name=name, use_safetensors=True, **hub, **into
                    )
                except Exception as error:  # of diffusers, peft, safetensors and the hub; each of its own kind
                    cannot = f"it cannot be put on {kind}: {first_line(error)}"
                    raise ArgumentError("lora", str(adapter), cannot) from error
        loaded = {part for part, found in pipe.get_list_adapters().items() if name in found}
        if not loaded or not _has_weights(pipe, loaded, name):
            raise ArgumentError("lora", str(adapter), f"it fits nothing in {kind}: it was made for another model")
        if complaints:
            logger.warning("LoRA %s fits only in part: %s", adapter, complaints[0])
        names.append(name)
    pipe.set_adapters(names, [adapter.scale for adapter in adapters])


def _add_list(pipe: Any, adapter: Adapter, hub: Mapping[str, Any]) -> None:
    try:
        add_turbo(pipe.unet, adapter.path or fetch(adapter.place, str(adapter.file), hub), adapter.scale)
    except (OSError, ValueError) as error:
        raise ArgumentError("lora", str(adapter), f"it cannot be put on: {first_line(error)}") from error


@cache
def _with_adapters(kind: Any) -> Any:
    """`UNet3DConditionModel` is the one U-Net of diffusers that lacks the methods by which LoRAs come: the class with
    them, under its own name."""
    from diffusers.loaders import PeftAdapterMixin

    return type(kind.__name__, (kind, PeftAdapterMixin), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _experts(pipe: Any, adapter: Adapter) -> list[dict[str, bool]]:
    """Arguments of each call that loads it."""
    if getattr(pipe, "transformer_2", None) is None:
        if adapter.expert:
            what = f"@{adapter.expert} is for models with two transformers: leave it out"
            raise ArgumentError("lora", str(adapter), what)
        return [{}]
    return [{"load_into_transformer_2": second} for second in _EXPERTS[adapter.expert]]


def _has_weights(pipe: Any, parts: set[str], name: str) -> bool:
    return any(f".{name}." in weight for part in parts for weight, _ in getattr(pipe, part).named_parameters())


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What diffusers and peft warn of in this block."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.getMessage().startswith("No LoRA keys associated"):  # to a text encoder: most have none
                found.append(first_line(record.getMessage())[:200])

    listener, loggers = Listener(logging.WARNING), [logging.getLogger(n) for n in ("diffusers", "peft")]
    before = [(each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(listener)
        each.setLevel(logging.WARNING)
        each.propagate = False
    try:
        yield found
    finally:
        for each, (level, propagate) in zip(loggers, before, strict=True):
            each.removeHandler(listener)
            each.setLevel(level)
            each.propagate = propagate
