"""`generate --method`: the baselines that FIFO-Diffusion is compared with."""

from typing import Any

from fifo_diffusion.errors import Setting, usage
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.method_list import methods
from fifo_diffusion.settings import Settings, names_of, specs
from fifo_diffusion.settings.spec import STREAM


def check_method(settings: Settings) -> None:
    """Refuse settings that do not go with the method."""
    every, method = specs(settings), Setting("method", settings.method)
    for name, value in settings.given.items():
        known_by = every[name].methods
        if known_by is None or settings.method in known_by:
            continue
        if "fifo" not in known_by:
            raise usage(Setting(name), " goes with ", Setting("method"), f" {' or '.join(known_by)}")
        shown = Setting(name, value) if isinstance(value, bool | str) and name == "lookahead" else Setting(name)
        raise usage(shown, " belongs to FIFO-Diffusion and not to ", method, ": leave it out")
    if settings.method == "fifo":
        return
    if not methods()[settings.method].streams and (settings.forever or not settings.length_given):
        advice = " computes all frames at once, before the first is there: give "
        raise usage(method, advice, Setting("num_frames"), " N")
    if torchrun_rank() is not None:
        raise usage(method, " runs in one process: leave torchrun out")


def baseline_settings(model: Any, settings: Settings, seed: int, num_frames: int | None) -> Any:
    """Arguments of the first video, checked and completed."""
    from fifo_diffusion.baselines.settings import BaselineSettings

    arguments = baseline_arguments(settings) | {"seed": seed, "num_frames": num_frames}
    return BaselineSettings.collect(model, settings.method, **arguments)


def baseline_arguments(settings: Settings) -> dict[str, Any]:
    """The settings that were given and shape the video, as arguments of `baseline_stream`."""
    taken = set(names_of(Settings, stages=[STREAM], method=settings.method)) - {"prompt", "seed", "num_frames"}
    return {name: value for name, value in settings.given.items() if name in taken}
