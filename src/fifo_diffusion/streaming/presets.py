"""What a preset is for a model, and the settings that were given with it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fifo_diffusion.layout_list import LAYOUTS
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.settings import QueueSettings, StreamSettings, checked, specs
from fifo_diffusion.settings.presets import FEW_STEPS, PRESETS, Preset
from fifo_diffusion.streaming.steps import shape_of


def with_preset(model: VideoModel, given: Mapping[str, Any]) -> StreamSettings:
    """The settings of a stream, checked: what was given, and in the places of what was not, the preset's. Models of few
    steps have one where none is given.

    Args:
        given: settings by name; None stands for left out.

    Raises:
        ArgumentError: there is no such preset, or another setting does not fit.
    """
    given = {name: value for name, value in given.items() if value is not None}
    asked = checked(StreamSettings(**given))
    name = asked.preset or (FEW_STEPS if model.few_steps and asked.compat is None else None)
    if name is None:
        return asked
    values = preset_values(PRESETS[name], model.frames, asked, told_guidance=model.told_guidance)
    return replace(asked, preset=name, **{name: value for name, value in values.items() if name not in given})


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
        window, steps = asked.window or frames, _steps(asked)
        numbers = [steps] if steps else range(preset.steps, max(preset.steps, window) + 1)
        shapes = (shape_of(window, number, changeable=asked.window is None) for number in numbers)
        fitted = next((shape for shape in shapes if shape is not None), None)
        if fitted is not None:
            values |= dict(zip(("window", "num_partitions", "frames_per_level"), fitted, strict=True))
    if preset.unguided and not told_guidance:
        values["guidance_scale"] = 1.0
    if values.get("window") == frames:
        del values["window"]
    untaken = specs(QueueSettings).keys() - {"window", *LAYOUTS[asked.layout].takes}
    return {name: value for name, value in values.items() if name not in untaken}


def _steps(asked: StreamSettings) -> int | None:
    """The number of denoising steps that was given, if one was."""
    given = asked.timesteps or asked.sigmas
    # A last sigma of 0 is the end, and no step.
    return asked.num_inference_steps or (len(given) - (given[-1] == 0) if given else None)
