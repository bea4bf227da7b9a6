"""What a preset is for a model, and the settings that were given with it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.spacing import STEPS
from fifo_diffusion.settings import StreamSettings, checked
from fifo_diffusion.settings.fitting import preset_values
from fifo_diffusion.settings.presets import FEW_STEPS, PRESETS


def with_preset(model: VideoModel, given: Mapping[str, Any]) -> StreamSettings:
    """The settings of a stream, checked: what was given, and in the places of what was not, the preset's. Models of few
    steps have one where none is given, and its steps are theirs.

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
    if name == FEW_STEPS and model.few_step_sigmas and not any(given.keys() & {*STEPS, "num_inference_steps"}):
        asked = replace(asked, sigmas=model.few_step_sigmas)
    values = preset_values(PRESETS[name], model.frames, asked, told_guidance=model.told_guidance)
    return replace(asked, preset=name, **{name: value for name, value in values.items() if name not in given})
