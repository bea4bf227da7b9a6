"""Window, partitions and frames per level that give a number of steps; presets fitted to a window by them."""

from collections.abc import Mapping
from typing import Any

from fifo_diffusion.settings.presets import Preset
from fifo_diffusion.settings.queue import QueueSettings
from fifo_diffusion.settings.spec import specs
from fifo_diffusion.settings.stream import StreamSettings

SMALLEST_WINDOW = 0.75
"""Of the window that the model was trained on."""


def shape_of(frames: int, steps: int, *, changeable: bool = True) -> tuple[int, int, int] | None:
    """Window, partitions and frames per level that give exactly so many steps: the longest window and the fewest
    partitions, with as many frames at every level, or else nearly as many. None where that would take a much smaller
    window, or a longer queue than so many steps need.

    Args:
        frames: f, the window that the model was trained on.
        changeable: whether the window may be smaller, so that all levels have as many frames.
    """
    for window in range(frames, int(frames * SMALLEST_WINDOW) if changeable else frames - 1, -1):
        for partitions in range(1, -(-steps // window) + 1):
            if partitions * window % steps == 0:
                return window, partitions, partitions * window // steps
    for partitions in range(1, -(-steps // frames) + 1):
        most = -(-partitions * frames // steps)
        if -(-partitions * frames // most) == steps:
            return frames, partitions, most
    return None


def preset_values(
    preset: Preset, frames: int, asked: StreamSettings | None = None, *, told_guidance: bool = False
) -> dict[str, Any]:
    """All settings of a preset for a model.

    Args:
        frames: f, the window that the model was trained on.
        asked: settings that are given beside it: it is fitted to their window and to their number of steps, and has
            nothing that their layout does not take.
        told_guidance: as `VideoModel` says it.
    """
    asked = StreamSettings() if asked is None else asked
    values = dict(preset.values)
    if preset.steps is not None:
        window, steps = max(2, (asked.window or frames) - asked.anchors), _steps(asked)
        numbers = [steps] if steps else range(preset.steps, max(preset.steps, window) + 1)
        shapes = (shape_of(window, number, changeable=asked.window is None) for number in numbers)
        fitted = next((shape for shape in shapes if shape is not None), None)
        if fitted is not None:
            values |= dict(zip(("window", "num_partitions", "frames_per_level"), fitted, strict=True))
            values["window"] += asked.anchors
    if preset.unguided and not told_guidance:
        values["guidance_scale"] = 1.0
    if values.get("window") == frames:
        del values["window"]
    untaken = specs(QueueSettings).keys() - {"window", *QueueSettings.of_layout(asked.layout)}
    return {name: value for name, value in values.items() if name not in untaken}


def _steps(asked: StreamSettings) -> int | None:
    """The number of denoising steps that was given, if one was."""
    given = asked.timesteps or asked.sigmas
    # A last sigma of 0 is the end, and no step.
    return asked.num_inference_steps or (len(given) - (given[-1] == 0) if given else None)


def frame_forwards(values: Mapping[str, Any]) -> float:
    """Frames that go through the model for one frame of video with the settings of a preset, all of them of the paper's
    layout, without guidance: n f / b, rounded up, and twice that with lookahead (`Layout.frame_forwards_per_frame`)."""
    once = -(-values["num_partitions"] * values["window"] // values["frames_per_level"])
    return 2 * once if values["lookahead"] else once
