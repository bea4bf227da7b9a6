"""What models around a diffusers pipeline have in common."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.base import VideoModel
from fifo_diffusion.models.per_frame import is_compiled
from fifo_diffusion.models.schedulers import read_levels


@dataclass(frozen=True)
class TextCondition:
    """What the denoiser is told besides latents and time.

    Attributes:
        text: (G, B, tokens, D), or with one text per frame (G, B, F, tokens, D). G is 2 with guidance (first without
            the prompt, then with it), else 1. B is the number of videos; with texts per frame, windows x videos.
        guidance_scale: weight of classifier-free guidance.
        arguments: further keyword arguments of the denoiser, the same for every row.
    """

    text: Tensor
    guidance_scale: float
    arguments: dict[str, Any]

    @property
    def per_frame(self) -> bool:
        return self.text.dim() == 5

    def of_frames(self, part: slice) -> "TextCondition":
        """The condition of a part of the frames."""
        return replace(self, text=self.text[:, :, part]) if self.per_frame else self

    def halves(self) -> list["TextCondition"]:
        """One condition for each pass: with guidance one without the prompt and one with it."""
        return [replace(self, text=self.text[g : g + 1]) for g in range(len(self.text))]


class PipelineModel(VideoModel):
    """A model around `pipe.unet` or `pipe.transformer` (`denoiser_name`), whose conditions are `TextCondition`s."""

    pipe: Any
    denoiser_name = "transformer"
    flow: bool | None = None
    """Whether the model was trained by flow matching; None: not known. Says which schedulers go with it."""

    @property
    def denoiser(self) -> Any:
        """The pipeline's, as it stands there now."""
        return getattr(self.pipe, self.denoiser_name)

    def compile(self) -> None:
        """In place, each shape by itself; may be done at any time, and by the user as well."""
        self.denoiser.compile(dynamic=False)

    @property
    def compiled(self) -> bool:
        return is_compiled(self.denoiser)

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)

    def call_arguments(self) -> Mapping[str, Any] | None:
        return call_arguments(self.pipe)

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False
    ) -> NoiseLevels:
        if published:
            raise ValueError(
                f'compat="published": there is no published FIFO code for {self.family} (only for VideoCrafter and '
                "Open-Sora Plan): leave compat out"
            )
        return read_levels(self.pipe.scheduler, count, eta=eta, scheduler_exact=scheduler_exact, flow=self.flow)

    def passes(self, condition: TextCondition) -> Sequence[TextCondition]:
        return condition.halves()

    def guided(self, outputs: Sequence[Tensor], timestep_BF: Tensor, condition: TextCondition) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        without, with_text = outputs
        return without + self.guidance(condition, timestep_BF.to(without.device)) * (with_text - without)

    def guidance(self, condition: TextCondition, timestep_BF: Tensor) -> float | Tensor:
        """Weight of classifier-free guidance, where it is not one number also (B, 1, F, 1, 1)."""
        return condition.guidance_scale

    def checked(self, output: Tensor, latents: Tensor) -> Tensor:
        """The output, if it has the latents' shape: some models take a wrong timestep silently.

        Raises:
            RuntimeError: it has another.
        """
        if output.shape == latents.shape:
            return output
        raise RuntimeError(
            f"{type(self.denoiser).__name__} returned {tuple(output.shape)} for latents {tuple(latents.shape)}: it "
            "does not take one timestep per frame"
        )

    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        result = output_class(self.pipe)
        if output_type == "latent":
            return result(frames=frames_BFCHW)
        video = frames_BFCHW.transpose(1, 2) * 2 - 1
        return result(frames=self.pipe.video_processor.postprocess_video(video, output_type=output_type))

    def parts(self) -> dict[str, Any]:
        parts = {
            self.denoiser_name: getattr(self.denoiser, "_orig_mod", self.denoiser),
            "vae": self.pipe.vae,
            "scheduler": self.pipe.scheduler,
            "text": getattr(self.pipe, "text_encoder", None),
        }
        return {name: part for name, part in parts.items() if part is not None}


def latent_size(height: int, width: int, multiple: int, factor: int) -> tuple[int, int]:
    """Height and width of the latents, `factor` pixels to each.

    Raises:
        ValueError: not both are multiples of `multiple`.
    """
    if height < multiple or width < multiple or height % multiple or width % multiple:
        near = [max(multiple, round(x / multiple) * multiple) for x in (height, width)]
        raise ValueError(
            f"height {height} and width {width} must be multiples of {multiple}: use {near[0]} and {near[1]}"
        )
    return height // factor, width // factor


def rows_of(value_GB: Tensor, rows: int) -> Tensor:
    """(G, B, ...) for G passes of B videos, repeated for every window: (rows, ...), passes x windows x videos."""
    repeats = rows // (value_GB.shape[0] * value_GB.shape[1])
    return value_GB.repeat(1, repeats, *[1] * (value_GB.dim() - 2)).flatten(0, 1)


def mixed(texts: Sequence[Tensor], weight_WFP: Tensor) -> Tensor:
    """P embeddings (G, B, ...) averaged for every frame: (G, windows x videos, F, ...)."""
    stacked = torch.stack([*texts])
    weight = weight_WFP.to(stacked.device, stacked.dtype)
    return torch.einsum("wfp,pgb...->gwbf...", weight, stacked).flatten(1, 2)


def call_arguments(pipe: Any) -> dict[str, Any] | None:
    """The named arguments of a pipeline's own call, with their defaults: of its class, and of those that it derives
    from as long as it hands on what it does not name. None where no prompt is among them."""
    found: dict[str, Any] = {}
    for kind in type(pipe).__mro__:
        if "__call__" in vars(kind):
            parameters = list(inspect.signature(kind.__call__).parameters.values())[1:]
            named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            found = {p.name: p.default for p in named} | found
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                break
    return found if "prompt" in found else None


def output_class(pipe: Any) -> Any:
    """The class of what the pipeline's own call returns, from its module or from that of the class it derives from."""
    modules = (vars(sys.modules[base.__module__]) for base in type(pipe).__mro__)
    found = (module[name] for module in modules for name in module if name.endswith("Output") and name != "BaseOutput")
    return next(found)
