"""What a saved state may hold: a file is believed only where every value is of its kind and in its range."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fifo_diffusion.settings import FifoSettings, specs
from fifo_diffusion.settings.spec import IN_SETTINGS, REQUIRED

if TYPE_CHECKING:  # the command checks what was typed without PyTorch
    from torch import Tensor

Check = Callable[[Any], bool]
MOST = 2**53
"""No counter gets so far."""
MOST_FRAMES_HELD = 64
"""A latent is fewer frames with every autoencoder."""


def whole(least: int = 0, most: int = MOST) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def number(least: float = -1e6, most: float = 1e6) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return check


def one_of(*values: Any) -> Check:
    return lambda value: any(type(value) is type(v) and value == v for v in values)


def maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def prompt(value: Any) -> bool:
    """A text, or what stands for one that is encoded."""
    return text(value) or (isinstance(value, dict) and set(value) == {"embeds"} and text(value["embeds"]))


def _plain_arguments(value: Any) -> bool:
    plain = str | int | float | bool | None
    return isinstance(value, dict) and all(isinstance(v, plain) for v in value.values())


def _mixture(value: Any) -> bool:
    return list_of(lambda pair: _pair(pair, list_of(prompt), number(0, 1)))(value) and bool(value)


def _pair(value: Any, first: Check, second: Check) -> bool:
    return isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


@dataclass(frozen=True)
class Optional:
    """A value that older files do not have."""

    check: Check


def declared(settings: type, part: str) -> dict[str, Check | Optional]:
    """Checks of the declared settings that a part of the file holds."""
    checks: dict[str, Check | Optional] = {}
    for name, spec in specs(settings).items():
        if spec.saved == part:
            checks[name] = spec.fits_in_file if spec.older is REQUIRED else Optional(spec.fits_in_file)
    return checks


SETTINGS: dict[str, Check | Optional] = declared(FifoSettings, IN_SETTINGS) | {
    "seeds": list_of(whole(0, 2**64 - 1)),
    "batch": flag,
    "negative_prompt": maybe(list_of(prompt)),
    "pipeline_arguments": _plain_arguments,
    "prompts": list_of(lambda key: _pair(key, whole(-MOST), _mixture)),
}
COUNTERS: dict[str, Check | Optional] = {
    "frame_index": whole(),
    "iteration": whole(),
    "origin": whole(-MOST),
    "first_new": whole(),
    "from_noise": flag,
    "lags": Optional(flag),
    "opening": Optional(whole()),
    "unwanted": Optional(whole()),
    "continues": Optional(flag),
    "custom_noise": flag,
    "shown": maybe(text),
    "shown_count": whole(),
    "shown_fps": Optional(maybe(number(1e-3, 1e4))),
    "shown_fit": Optional(one_of("crop", "pad")),
    "around": Optional(_plain_arguments),
}


def check_values(what: str, values: Any, wanted: Mapping[str, Check | Optional]) -> None:
    """Every value that is wanted must be there, and be of its kind.

    Args:
        what: what the values are, for the message.

    Raises:
        ValueError: one is missing or wrong.
    """
    if not isinstance(values, dict):
        raise ValueError(f"its {what} are {type(values).__name__}")
    for name, check in wanted.items():
        if name not in values:
            if not isinstance(check, Optional):
                raise ValueError(f"its {what} lack {name}")
            continue
        good = check.check if isinstance(check, Optional) else check
        if not good(values[name]):
            shown = repr(values[name])
            raise ValueError(f"{name} in its {what} is {shown if len(shown) <= 40 else shown[:37] + '...'}")


def check_state(tensors: "dict[str, Tensor]", settings: Any, counters: Any, fingerprint: Any, notes: Any) -> None:
    """Check what was read from a file, as far as it can be without the model.

    Raises:
        ValueError: what is wrong with it.
    """
    from fifo_diffusion.method import QueueLayout

    check_values("settings", settings, SETTINGS)
    check_values("counters", counters, COUNTERS)
    unknown = sorted(map(str, set(settings) - set(SETTINGS)))
    if unknown:
        raise ValueError(f"its settings have an unknown {unknown[0]}")
    if not text(fingerprint) or not isinstance(notes, dict):
        raise ValueError("its fingerprint or its notes are wrong")
    videos = len(settings["seeds"])
    mixtures = [mixture for _, mixture in settings["prompts"]]
    if not videos or not mixtures or any(len(p) != videos for mixture in mixtures for p, _ in mixture):
        raise ValueError("it has not one prompt for each seed")
    if settings["negative_prompt"] is not None and len(settings["negative_prompt"]) != videos:
        raise ValueError("it has not one negative prompt for each seed")
    layout = QueueLayout(*(settings[n] for n in ("window", "num_partitions", "lookahead", "frames_per_level")))
    _check_tensors(tensors, videos, layout.size)
    held = tensors["known"].shape[2] + layout.size
    if counters.get("unwanted", 0) > MOST_FRAMES_HELD * held:
        raise ValueError(f"unwanted in its counters is {counters['unwanted']}")
    # The first new frame enters at the tail, at the latest when the queue was made.
    if not 0 <= counters["first_new"] - counters["origin"] <= layout.slots:
        raise ValueError(f"first_new in its counters is {counters['first_new']}, with the origin {counters['origin']}")


def _check_tensors(tensors: "dict[str, Tensor]", videos: int, size: int) -> None:
    for name in ("queue", "known"):
        if name not in tensors:
            raise ValueError(f"it has no {name}")
    queue = tensors["queue"]
    for name, tensor in tensors.items():
        if name in ("queue", "known", "latents", "ready"):
            if tensor.ndim != 5 or tensor.shape[0] != videos or not tensor.is_floating_point():
                raise ValueError(f"its {name} is {tensor.dtype} {tuple(tensor.shape)}")
            if name == "ready" and tensor.shape[2] != 3:
                raise ValueError(f"its {name} is {tuple(tensor.shape)}, which are no pictures")
            if name in ("known", "latents") and tensor.shape[3:] != queue.shape[3:]:
                raise ValueError(f"its {name} is of another size than the queue")
    if queue.shape[2] != size or 0 in queue.shape:
        raise ValueError(f"its queue is {tuple(queue.shape)}, not of {size} slots")
    if not queue.isfinite().all():
        raise ValueError("its queue is not of numbers (NaN)")
    shown = tensors.get("shown")
    if shown is not None and (shown.ndim != 4 or shown.shape[3] != 3 or str(shown.dtype) != "torch.uint8"):
        raise ValueError(f"its shown frames are {shown.dtype} {tuple(shown.shape)}")
