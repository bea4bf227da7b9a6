"""What a saved state may hold: a file is believed only where every value is of its kind and in its range."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fifo_diffusion.settings import FifoSettings, specs
from fifo_diffusion.settings.spec import IN_SETTINGS

if TYPE_CHECKING:  # the command checks its arguments without PyTorch
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


def _dictionary(value: Any) -> bool:
    return isinstance(value, dict)


def _plain_values(value: Any) -> bool:
    plain = str | int | float | bool | None
    return isinstance(value, dict) and all(isinstance(v, plain) for v in value.values())


def _mixture(value: Any) -> bool:
    return list_of(lambda pair: _pair(pair, list_of(prompt), number(0, 1)))(value) and bool(value)


def _change(value: Any) -> bool:
    """A frame and what holds from it on; where it is not in the way of the run, in which."""
    way = not isinstance(value, list) or len(value) < 3 or one_of("tail", "queue", "blend", "hold")(value[2])
    return way and isinstance(value, list) and len(value) <= 3 and _pair(value[:2], whole(-MOST), _mixture)


def _pair(value: Any, first: Check, second: Check) -> bool:
    return isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def declared(settings: type, part: str) -> dict[str, Check]:
    """Checks of the declared settings that a part of the file holds."""
    return {name: spec.fits_in_file for name, spec in specs(settings).items() if spec.saved == part}


SETTINGS: dict[str, Check] = declared(FifoSettings, IN_SETTINGS) | {
    "seeds": list_of(whole(0, 2**64 - 1)),
    "batch": flag,
    "negative_prompt": maybe(list_of(prompt)),
    "pipeline_arguments": _plain_values,
}
POSITION: dict[str, Check] = {
    "frame_index": whole(),
    "iteration": whole(),
    "origin": whole(-MOST),
    "first_new": whole(),
    "from_noise": flag,
    "opening": whole(),
    "continues": flag,
    "custom_noise": flag,
    "texts": list_of(whole()),
}
OUTLET: dict[str, Check] = {"unwanted": whole()}
SHOWN: dict[str, Check] = {
    "path": maybe(text),
    "count": whole(1),
    "fps": maybe(number(1e-3, 1e4)),
    "fit": one_of("crop", "pad"),
}
HEADER: dict[str, Check] = {
    "settings": _dictionary,
    "prompts": list_of(_change),
    "position": _dictionary,
    "outlet": _dictionary,
    "shown": maybe(_dictionary),
    "around": _plain_values,
    "fingerprint": text,
    "notes": _dictionary,
}
TENSORS = ("queue", "known", "latents", "ready", "shown", "picture", "anchors")
DECODER, EMBEDS = "decoder.", "embeds."
"""What the names of further tensors begin with: of the decoder's memory, and of encoded texts."""


def check_values(what: str, values: Any, wanted: Mapping[str, Check], *, others: bool = False) -> None:
    """Every value that is wanted must be there, and be of its kind.

    Args:
        what: what the values are, for the message.
        others: there may be more than those.

    Raises:
        ValueError: one is missing, wrong or unknown.
    """
    if not isinstance(values, dict):
        raise ValueError(f"its {what} are {type(values).__name__}")
    for name, good in wanted.items():
        if name not in values:
            raise ValueError(f"its {what} lack {name}")
        if not good(values[name]):
            shown = repr(values[name])
            raise ValueError(f"{name} in its {what} is {shown if len(shown) <= 40 else shown[:37] + '...'}")
    unknown = sorted(map(str, set(values) - set(wanted)))
    if unknown and not others:
        raise ValueError(f"its {what} have an unknown {unknown[0][:40]}")


def check_state(tensors: "dict[str, Tensor]", header: Any) -> None:
    """Check what was read from a file of the current format, as far as it can be without the model.

    Raises:
        ValueError: what is wrong with it.
    """
    from fifo_diffusion.method import layout_of

    check_values("values", header, HEADER)
    settings, position, shown = header["settings"], header["position"], header["shown"]
    check_values("settings", settings, SETTINGS)
    check_values("position", position, POSITION)
    check_values("outlet", header["outlet"], OUTLET)
    if shown is not None:
        check_values("shown frames", shown, SHOWN)
    videos = len(settings["seeds"])
    mixtures = [mixture for _, mixture, *_ in header["prompts"]]
    if not videos or not mixtures or any(len(p) != videos for mixture in mixtures for p, _ in mixture):
        raise ValueError("it has not one prompt for each seed")
    if settings["negative_prompt"] is not None and len(settings["negative_prompt"]) != videos:
        raise ValueError("it has not one negative prompt for each seed")
    layout = layout_of(SimpleNamespace(**settings))
    _check_tensors(tensors, videos, layout.size)
    if layout.anchors != (tensors["anchors"].shape[2] if "anchors" in tensors else 0):
        raise ValueError(f"it has not its {layout.anchors} anchors")
    if len(position["texts"]) not in ((0, layout.size) if settings["cache"] > 1 else (0,)):
        raise ValueError(f"its position has {len(position['texts'])} texts for {layout.size} slots")
    _check_shown(tensors.get("shown"), shown)
    picture = tensors.get("picture")
    if picture is not None and not (_are_pictures(picture) and picture.ndim == 3):
        raise ValueError(f"its picture is {picture.dtype} {tuple(picture.shape)}")
    held, unwanted = tensors["known"].shape[2] + layout.size, header["outlet"]["unwanted"]
    if unwanted > MOST_FRAMES_HELD * held:
        raise ValueError(f"unwanted in its outlet is {unwanted}")
    # The first new frame enters at the tail, at the latest when the queue was made.
    first_new, origin = position["first_new"], position["origin"]
    if not 0 <= first_new - origin <= layout.slots:
        raise ValueError(f"first_new in its position is {first_new}, with the origin {origin}")


def _check_tensors(tensors: "dict[str, Tensor]", videos: int, size: int) -> None:
    for name in ("queue", "known"):
        if name not in tensors:
            raise ValueError(f"it has no {name}")
    queue = tensors["queue"]
    for name, tensor in tensors.items():
        if name not in TENSORS and not name.startswith((DECODER, EMBEDS)):
            raise ValueError(f"it has an unknown tensor {name[:40]}")
        if name in ("queue", "known", "anchors", "latents", "ready"):
            if tensor.ndim != 5 or tensor.shape[0] != videos or not tensor.is_floating_point():
                raise ValueError(f"its {name} is {tensor.dtype} {tuple(tensor.shape)}")
            if name == "ready" and tensor.shape[2] != 3:
                raise ValueError(f"its {name} is {tuple(tensor.shape)}, which are no pictures")
            if name in ("known", "anchors", "latents") and tensor.shape[3:] != queue.shape[3:]:
                raise ValueError(f"its {name} is of another size than the queue")
    if queue.shape[2] != size or 0 in queue.shape:
        raise ValueError(f"its queue is {tuple(queue.shape)}, not of {size} slots")
    if not queue.isfinite().all():
        raise ValueError("its queue is not of numbers (NaN)")


def _check_shown(frames: "Tensor | None", shown: dict[str, Any] | None) -> None:
    """Frames that come from no file are in the state."""
    if (frames is not None) != (shown is not None and shown["path"] is None):
        raise ValueError("its shown frames are in no file and not in it, or both")
    if frames is None or shown is None:
        return
    if frames.ndim != 4 or not _are_pictures(frames) or len(frames) != shown["count"]:
        raise ValueError(f"its {shown['count']} shown frames are {frames.dtype} {tuple(frames.shape)}")


def _are_pictures(frames: "Tensor") -> bool:
    return frames.shape[-1:] == (3,) and str(frames.dtype) == "torch.uint8"
