"""`generate --method`: the baselines that FIFO-Diffusion is compared with."""

from dataclasses import dataclass
from typing import Any

from fifo_diffusion.errors import LOOKAHEAD_OPTIONS, as_option, usage
from fifo_diffusion.execution.torchrun import torchrun_rank

METHODS = {
    "fifo": (),
    "freenoise": ("stride",),
    "genl": ("stride",),
    "chunked": ("overlap",),
    "plain": (),
}
"""The options that belong to each method alone."""

STREAMS = ("fifo", "chunked")

FIFO_ONLY = (
    "num_partitions",
    "lookahead",
    "frames_per_level",
    "windows_per_batch",
    "compat",
    "start",
    "include_start",
    "start_every_frame",
    "start_fit",
    "prompt_change",
    "state",
    "state_every",
    "compile",
)

BASELINE_ARGUMENTS = (
    "num_inference_steps",
    "window",
    "stride",
    "overlap",
    "eta",
    "guidance_scale",
    "negative_prompt",
    "height",
    "width",
    "scheduler_exact",
)


def check_method(given: dict[str, Any]) -> None:
    """Options that do not go with the method that was typed."""
    method = given.get("method", "fifo")
    for name in ("stride", "overlap"):
        if name in given and name not in METHODS[method]:
            fitting = " or ".join(m for m, own in METHODS.items() if name in own)
            raise usage(f"{as_option(name)} goes with --method {fitting}")
    if method == "fifo":
        return
    for name in FIFO_ONLY:
        if name in given:
            option = LOOKAHEAD_OPTIONS[given[name]] if name == "lookahead" else as_option(name)
            raise usage(f"{option} belongs to FIFO-Diffusion and not to --method {method}: leave it out")
    if method not in STREAMS and ("forever" in given or not {"num_frames", "seconds"} & given.keys()):
        raise usage(f"--method {method} computes all frames at once, before the first is there: give --num-frames N")
    if torchrun_rank() is not None:
        raise usage(f"--method {method} runs in one process: leave torchrun out")


def baseline_settings(model: Any, given: dict[str, Any], seed: int, num_frames: int | None) -> Any:
    """Arguments of the first video, checked and completed."""
    from fifo_diffusion.baselines import BaselineSettings

    return BaselineSettings.collect(
        model, given["method"], seed=seed, num_frames=num_frames, **baseline_arguments(given)
    )


def baseline_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The options that shape the video, as arguments of `baseline_stream`."""
    return {name: given[name] for name in BASELINE_ARGUMENTS if name in given}


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
