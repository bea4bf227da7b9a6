"""The arguments of a baseline, checked and completed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fifo_diffusion.baselines.methods import BASELINES
from fifo_diffusion.models.shared.arguments import STRONGEST, flag, number, passed_on, whole
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.streaming.settings import negative_prompts, seeds_of

PUBLISHED_STEPS = 50
"""DDIM steps in the published settings of FreeNoise and Gen-L-Video."""
PUBLISHED_STRIDE = 4
"""Frames between windows in the published settings of FreeNoise and Gen-L-Video (windows of 16)."""


@dataclass(frozen=True)
class BaselineSettings:
    """Every argument of `baseline_stream` that shapes the video, but the prompt."""

    method: str
    seeds: tuple[int, ...]
    batch: bool
    num_frames: int | None
    num_inference_steps: int
    window: int
    stride: int
    overlap: int
    eta: float
    height: int
    width: int
    guidance_scale: float
    negative_prompt: tuple[str, ...] | None
    scheduler_exact: bool
    pipeline_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def call(self) -> dict[str, Any]:
        """Arguments for the pipeline's own call."""
        call = {"height": self.height, "width": self.width, "guidance_scale": self.guidance_scale}
        if self.negative_prompt is not None:
            call["negative_prompt"] = list(self.negative_prompt)
        return call | self.pipeline_arguments

    def to_json(self) -> dict[str, Any]:
        """Plain values; options that the method does not take are left out."""
        plain = asdict(self)
        for name in ("stride", "overlap"):
            if name not in BASELINES[self.method].options:
                plain.pop(name)
        return plain

    @classmethod
    def collect(
        cls,
        model: VideoModel,
        method: str,
        *,
        videos: int = 1,
        batch: bool = False,
        num_frames: int | None = None,
        seed: int | Sequence[int] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        overlap: int | None = None,
        eta: float | None = None,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: float | None = None,
        scheduler_exact: bool = False,
        pipeline_arguments: dict[str, Any] | None = None,
    ) -> "BaselineSettings":
        """Check arguments and fill in published defaults, or the model's.

        Raises:
            ValueError: see the messages.
        """
        if method not in BASELINES:
            raise ValueError(f"method={method!r} is not one of {', '.join(BASELINES)}")
        baseline, defaults = BASELINES[method], model.defaults
        if model.timing.further > 1:
            raise ValueError(f"{baseline.title} counts a frame per latent, which {model.family} has not: use FIFO")
        for name, value in (("stride", stride), ("overlap", overlap)):
            if value is not None and name not in baseline.options:
                raise ValueError(f"{name}={value} does not apply to {baseline.title}: leave it out")
        if num_frames is None and not baseline.streams:
            raise ValueError(f"{baseline.title} computes all frames at once and cannot be endless: give num_frames=160")
        num_frames, num_inference_steps, window, stride, overlap, height, width = (
            None if value is None else whole(name, value)
            for name, value in (
                ("num_frames", num_frames),
                ("num_inference_steps", num_inference_steps),
                ("window", window),
                ("stride", stride),
                ("overlap", overlap),
                ("height", height),
                ("width", width),
            )
        )
        guidance_scale = defaults["guidance_scale"] if guidance_scale is None else guidance_scale
        pipeline_arguments = passed_on(pipeline_arguments or {}, model.call_arguments(), (), "pipeline_arguments")
        f = model.frames if window is None else window
        for name, value in (("stride", stride), ("overlap", overlap)):
            if value is not None and value >= f + (name == "stride"):
                most = f if name == "stride" else f - 1
                raise ValueError(f"{name}={value} does not fit windows of {f} frames: use {name}={most} or less")
        longest = num_frames if method in ("plain", "freenoise") else f
        if model.most_frames is not None and longest is not None and longest > model.most_frames:
            advice = f"num_frames={model.most_frames} or less, or genl or chunked"
            raise ValueError(
                f"this model takes {model.most_frames} frames at once, not {longest}: use "
                f"{advice if longest == num_frames else f'window={model.most_frames} or less'}"
            )
        baseline.check(model)
        settings = cls(
            method=method,
            seeds=seeds_of(seed, None, videos),
            batch=batch,
            num_frames=num_frames,
            num_inference_steps=PUBLISHED_STEPS if num_inference_steps is None else num_inference_steps,
            window=f,
            stride=min(PUBLISHED_STRIDE, f) if stride is None else stride,
            overlap=1 if overlap is None else overlap,
            eta=number("eta", next(x for x in (eta, baseline.eta, defaults["eta"]) if x is not None), 0, 1),
            height=defaults["height"] if height is None else height,
            width=defaults["width"] if width is None else width,
            guidance_scale=number("guidance_scale", guidance_scale, -STRONGEST, STRONGEST),
            negative_prompt=negative_prompts(negative_prompt, videos),
            scheduler_exact=flag("scheduler_exact", scheduler_exact),
            pipeline_arguments=pipeline_arguments,
        )
        model.latent_shape(settings.height, settings.width)
        return settings
