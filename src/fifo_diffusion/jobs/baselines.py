"""`generate --method`: the baselines that FIFO-Diffusion is compared with."""

from dataclasses import dataclass
from typing import Any

from fifo_diffusion.errors import Setting, usage
from fifo_diffusion.execution.torchrun import torchrun_rank
from fifo_diffusion.settings import Settings, names_of, specs
from fifo_diffusion.settings.spec import STREAM

STREAMS = ("fifo", "chunked")


def check_method(settings: Settings) -> None:
    """Refuse settings that do not go with the method."""
    every, method = specs(settings), Setting("method", settings.method)
    for name, value in settings.given.items():
        methods = every[name].methods
        if methods is None or settings.method in methods:
            continue
        if "fifo" not in methods:
            raise usage(Setting(name), " goes with ", Setting("method"), f" {' or '.join(methods)}")
        shown = Setting(name, value) if isinstance(value, bool | str) and name == "lookahead" else Setting(name)
        raise usage(shown, " belongs to FIFO-Diffusion and not to ", method, ": leave it out")
    if settings.method == "fifo":
        return
    if settings.method not in STREAMS and (settings.forever or not settings.length_given):
        advice = " computes all frames at once, before the first is there: give "
        raise usage(method, advice, Setting("num_frames"), " N")
    if torchrun_rank() is not None:
        raise usage(method, " runs in one process: leave torchrun out")


def baseline_settings(model: Any, settings: Settings, seed: int, num_frames: int | None) -> Any:
    """Arguments of the first video, checked and completed."""
    from fifo_diffusion.baselines import BaselineSettings

    arguments = baseline_arguments(settings) | {"seed": seed, "num_frames": num_frames}
    return BaselineSettings.collect(model, settings.method, **arguments)


def baseline_arguments(settings: Settings) -> dict[str, Any]:
    """The settings that were given and shape the video, as arguments of `baseline_stream`."""
    taken = set(names_of(Settings, stages=[STREAM], method=settings.method)) - {"prompt", "seed", "num_frames"}
    return {name: value for name, value in settings.given.items() if name in taken}


@dataclass(frozen=True)
class BaselineCost:
    """The work of one video in frame-forwards, as `Cost` has it for FIFO."""

    settings: Any

    @property
    def passes(self) -> int:
        return 2 if self.settings.guidance_scale > 1 else 1

    def until(self, frames: int) -> float:
        """Frame-forwards that have been computed when so many frames are there."""
        from dataclasses import replace

        from fifo_diffusion.baselines import BASELINES

        baseline, settings = BASELINES[self.settings.method], self.settings
        if frames < 1:
            return 0
        if baseline.streams:
            settings = replace(settings, num_frames=frames)
        return baseline.frames_per_step(settings) * settings.num_inference_steps * self.passes
