"""The arguments of a baseline, checked and completed."""

from dataclasses import dataclass, fields
from typing import Any

from fifo_diffusion.baselines import BASELINES, sampler_of
from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.models.shared.arguments import passed_on, refuse_unknown
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.spacing import STEPS
from fifo_diffusion.settings import BaselineArguments, checked, names_of, specs
from fifo_diffusion.streaming.settings import Completed, negative_prompts, seeds_of


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Completed, BaselineArguments):
    """Every argument of `baseline_stream` that shapes the video: checked, with no default left open."""

    method: str

    @property
    def steps(self) -> int:
        """Denoising steps of every frame."""
        return self.num_inference_steps or 0

    def to_json(self) -> dict[str, Any]:
        """Plain values; options that the method does not take are left out."""
        own = set(names_of(self, method=self.method)) - {"prompt", "seed", "generator"}
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if name in own or name not in specs(self)}

    @classmethod
    def collect(
        cls,
        model: VideoModel,
        method: str,
        *,
        videos: int = 1,
        batch: bool = False,
        pipeline_arguments: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> "BaselineSettings":
        """Check arguments and fill in published defaults, or the model's.

        Args:
            **arguments: those of `settings.BaselineArguments`.

        Raises:
            ArgumentError: one does not fit.
            ValueError: the method does not go with the model.
            TypeError: no such argument.
        """
        if method not in BASELINES:
            raise ArgumentError("method", method, f"give one of {', '.join(BASELINES)}")
        baseline, defaults = BASELINES[method], model.defaults
        if model.timing.further > 1:
            raise ValueError(f"{baseline.title} counts a frame per latent, which {model.family} has not: use FIFO")
        refuse_unknown("baseline_stream()", arguments, specs(BaselineArguments))
        for name in set(arguments) - set(names_of(BaselineArguments, method=method)):
            if arguments[name] is not None:
                raise ArgumentError(name, arguments[name], f"it does not apply to {baseline.title}: leave it out")
        asked = checked(BaselineArguments(**arguments))
        if asked.num_frames is None and not baseline.streams:
            endless = f"{baseline.title} computes all frames at once and cannot be endless; give "
            raise ArgumentError("num_frames", None, endless, Setting("num_frames", 160))
        passed = passed_on(pipeline_arguments or {}, model.call_arguments(), (), "pipeline_arguments")
        given = {name: getattr(asked, name) for name in specs(cls)}
        given |= {"negative_prompt": negative_prompts(asked.negative_prompt, videos), "seed": None}
        if asked.eta is None and baseline.eta is not None:
            given["eta"] = baseline.eta
        given |= {name: defaults[name] for name, value in given.items() if value is None and name in defaults}
        f = given["window"] = model.frames if asked.window is None else asked.window
        steps = next((len(given[name]) for name in STEPS if given[name] is not None), baseline.steps)
        usual = {"num_inference_steps": steps, "stride": 1, "overlap": 1} | baseline.options
        usual["stride"], usual["overlap"] = min(usual["stride"], f), min(usual["overlap"], f - 1)
        given |= {name: value for name, value in usual.items() if given[name] is None}
        _check_windows(model, method, asked, f)
        sampler_of(method).check(model)
        seeds = seeds_of(asked.seed, None, videos)
        settings = cls(method=method, seeds=seeds, batch=batch, pipeline_arguments=passed, **given)
        model.latent_shape(settings.height, settings.width)
        return settings


def _check_windows(model: VideoModel, method: str, asked: BaselineArguments, f: int) -> None:
    """Windows of f frames, and how far they are apart, must fit the model and each other."""
    for name, value, most in (("stride", asked.stride, f), ("overlap", asked.overlap, f - 1)):
        if value is not None and value > most:
            raise ArgumentError(
                name, value, f"it does not fit windows of {f} frames; use ", Setting(name, most), " or less"
            )
    whole = BASELINES[method].one_pass
    name, longest = ("num_frames", asked.num_frames) if whole else ("window", f)
    others = " or ".join(name for name, other in BASELINES.items() if not other.one_pass)
    if model.most_frames is not None and longest is not None and longest > model.most_frames:
        advice = (Setting(name, model.most_frames), " or less", f", or {others}" if whole else "")
        raise ArgumentError(name, longest, f"this model takes {model.most_frames} frames at once; use ", *advice)
