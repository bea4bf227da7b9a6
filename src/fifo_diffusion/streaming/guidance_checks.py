"""Whether the settings of guidance frame by frame go with a model and with each other."""

from typing import Any

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.method import Guidance, NoiseLevels
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.settings import specs
from fifo_diffusion.settings.guidance import GuidanceSettings


def check_guidance(model: VideoModel, settings: Any) -> None:
    """Refuse what would do nothing, or what the model cannot do.

    Args:
        settings: a stream's, completed.

    Raises:
        ArgumentError: a setting of guidance is given that does not go with the model or with another setting.
    """
    every = specs(GuidanceSettings)
    given = {name: value for name, spec in every.items() if (value := getattr(settings, name)) != spec.default}
    for name, value in given.items():
        if settings.compat == "published":
            raise ArgumentError(
                name, value, Setting("compat", "published"), " has the ordinary guidance; leave one of them out"
            )
        if model.told_guidance:
            raise ArgumentError(name, value, "this model is told its guidance and has no second pass; leave it out")
        if settings.guidance_scale <= 1:
            off = Setting("guidance_scale", settings.guidance_scale), " has no second pass"
            raise ArgumentError(name, value, *off, "; leave it out, or give a scale above 1")
        if type(model).guided_by is VideoModel.guided_by:
            raise ArgumentError(name, value, f"{model.family} models are guided in one way only; leave it out")
        if name.startswith("apg_") and settings.guidance_method != "apg":
            raise ArgumentError(name, value, "it belongs to ", Setting("guidance_method", "apg"), "; leave it out")
    steps = settings.steps
    if not Guidance.of(settings).levels(steps):
        what = f"none of the {steps} steps of a frame lies in it; give a wider one, or "
        raise ArgumentError(
            "guidance_interval", settings.guidance_interval, what, Setting("guidance_scale", 1), " for no guidance"
        )


def check_prediction(settings: Any, levels: NoiseLevels) -> None:
    """Raises ArgumentError where a method of guidance is for models that predict something else."""
    name = "guidance_method"
    if getattr(settings, name, None) == "cfg-zero" and levels.prediction != "flow_prediction":
        raise ArgumentError(name, "cfg-zero", "it is for flow-matching models; use ", Setting(name, "apg"), ", or none")
