"""What models around a diffusers pipeline have in common."""

import inspect
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fifo_diffusion.method import Bands, NoiseLevels
from fifo_diffusion.models.banded.table import Together
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.capture import capture
from fifo_diffusion.models.shared.fingerprint import surroundings
from fifo_diffusion.models.shared.hooks import DenoiserHooks, lock_of
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.offload import make_room, rehook, tell_of_offloading, text_encoders
from fifo_diffusion.models.shared.replaced import refuse_state, text_state, weak, written
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.models.shared.texts import Prompt, unseen
from fifo_diffusion.models.unet3d.hooks import is_compiled, reset_if_compiled


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
    """A model around `pipe.unet` or `pipe.transformer` (`denoiser_name`), whose conditions are `TextCondition`s.

    What the user replaces on the pipeline is used from the next prediction on: `follow` looks.
    """

    pipe: Any
    denoiser_name = "transformer"
    flow: bool | None = None
    """Whether the model was trained by flow matching; None: not known. Says which schedulers go with it."""
    hooks: Any = None
    _told_of_offloading = False
    text_width: str | None = None
    """What the denoiser's configuration calls the width of the text that it takes."""
    outputs_per_input: tuple[int, ...] = (1,)
    """How many channels the denoiser may return for each that it takes."""

    @property
    def denoiser(self) -> Any:
        """The pipeline's, as it stands there now."""
        return getattr(self.pipe, self.denoiser_name)

    @property
    def denoisers(self) -> dict[str, Any]:
        """All that there are, by their names on the pipeline; the first is `denoiser`."""
        return {self.denoiser_name: self.denoiser}

    @property
    def lock(self) -> AbstractContextManager[Any]:
        return lock_of(self.pipe)

    def install_hooks(self, denoiser: nn.Module) -> Any:
        """Put the family's hooks on the denoiser, inert outside `prediction`: `DenoiserHooks`, or an object with
        `remove()`. None where the denoiser takes one timestep per frame by itself."""
        return None

    def set_up(self) -> None:
        """Put the hooks on, and check everything; at the end of a family's `__init__`."""
        self.check_denoisers()
        self.hooks = self.install_hooks(self.denoiser)
        self._known = weak(self.denoisers.values())
        self.trace_anew()
        self.check_autoencoder()
        self._told_of_offloading = tell_of_offloading(self.pipe)

    def follow(self) -> None:
        """Look at the pipeline as it stands now: what is replaced there is used from here on, hooks move along.

        Raises:
            ValueError: something there cannot be used; one line.
        """
        for name, denoiser in self.denoisers.items():
            refuse_state(f"pipe.{name}", denoiser)
        now = weak(self.denoisers.values())
        if now != self._known:
            self.check_denoisers()
        moved = now != self._known
        if isinstance(self.hooks, DenoiserHooks):
            moved |= self.hooks.follow(*self.denoisers.values())
        elif moved and self.hooks is not None:
            self.hooks.remove()
            self.hooks = self.install_hooks(self.denoiser)
        if moved:
            self._known = now
            self.trace_anew()
            rehook(self.pipe)

    def check_denoisers(self) -> None:
        """Whether this family can use the denoisers that are on the pipeline.

        Raises:
            ValueError: it cannot; one line.
        """
        for name, denoiser in self.denoisers.items():
            if denoiser is None:
                raise ValueError(f"pipe.{name} is None: put the denoiser back, or load the pipeline with it")
            config = getattr(denoiser, "config", None) or {}
            given, returned = config.get("in_channels"), config.get("out_channels")
            if None not in (given, returned) and returned not in [given * k for k in self.outputs_per_input]:
                raise ValueError(
                    f"pipe.{name} takes {given} channels and returns {returned}: it is made for more than text (a "
                    "picture, a mask), which FIFO cannot give it: load the text-to-video version"
                )

    def check_autoencoder(self) -> None:
        """Whether `decoder` can use the pipeline's autoencoder.

        Raises:
            ValueError: it cannot; one line.
        """
        kind = type(self.pipe.vae).__name__
        if kind == "AutoencoderKLTemporalDecoder":
            raise ValueError(
                f"the pipeline's {kind} mixes frames and cannot decode them as they come: load the pipeline without "
                "vae=, which brings its own AutoencoderKL"
            )

    def check_fits(self, latents_BCFHW: Tensor, condition: Any, *, banded: bool = False) -> None:
        """Whether the denoisers that are on the pipeline fit a running video.

        Raises:
            ValueError: they do not; one line.
        """
        channels, frames = latents_BCFHW.shape[1:3]
        for name, denoiser in self.denoisers.items():
            config = getattr(denoiser, "config", None) or {}
            wanted = config.get("in_channels", channels)
            if wanted != channels:
                raise ValueError(
                    f"pipe.{name} takes {wanted} channels, this video has {channels}: put back a denoiser that fits, "
                    "or make a new stream"
                )
            width = config.get(self.text_width) if self.text_width else None
            if isinstance(width, int) and width != condition.text.shape[-1]:
                raise ValueError(
                    f"pipe.{name} takes text of width {width}, the pipeline's text encoder gives "
                    f"{condition.text.shape[-1]}: put back a denoiser that fits"
                )
        if self.most_frames is not None and frames > self.most_frames and not banded:
            raise ValueError(
                f"pipe.{self.denoiser_name} takes {self.most_frames} frames, a window of this video has {frames}: put "
                f"back a denoiser that fits, or make a new stream with window={self.most_frames}"
            )

    @torch.no_grad()
    def predict(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        condition: Any,
        *,
        bands: Bands | None = None,
        pieces: int = 1,
        together: Together | None = None,
    ) -> Tensor:
        with self.lock:
            self.follow()
            self.check_fits(latents_BCFHW, condition, banded=bands is not None)
            make_room(self.pipe, *self.denoisers.values())
            self._told_of_offloading = self._told_of_offloading or tell_of_offloading(self.pipe)
            how = {} if bands is None else {"bands": bands, "pieces": pieces, "together": together}
            return self.prediction(latents_BCFHW, timestep_BF, condition, **how)

    @abstractmethod
    def prediction(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any, **how: Any) -> Tensor:
        """`predict`, by denoisers that fit and have their hooks on. `bands` and the like are only given to families
        that can use them."""

    def captured(self, **call: Any) -> list[dict[str, Any]]:
        """The calls of the denoisers, as named arguments, that the pipeline would make in its first step; see
        `capture`."""
        with self.lock:
            self.follow()
            make_room(self.pipe)
            return capture(self.pipe, *self.denoisers.values(), **call).calls

    def text_state(self) -> Any:
        """Of the encoders and denoisers that are on the pipeline now."""
        return text_state(self.pipe, self.denoisers.values())

    def schedule_state(self) -> Any:
        scheduler = self.pipe.scheduler
        config = getattr(scheduler, "config", None)  # None, or a class, is what people put there by mistake
        config = repr(sorted(config.items())) if isinstance(config, dict) else None
        return type(scheduler), config, getattr(scheduler, "shift", None)

    def autoencoder_state(self) -> Any:
        vae = self.pipe.vae
        return weak([vae, *vae.children()]), dtype_of(vae), written(vae.parameters()), dict(vae.config)

    def autoencoder_kind(self) -> Any:
        config = self.pipe.vae.config
        return config.get("latent_channels", config.get("z_dim")), len(config.get("block_out_channels", ()))

    def about_to_decode(self) -> None:
        make_room(self.pipe, self.pipe.vae)

    def free(self) -> None:
        """With `enable_model_cpu_offload`: all modules to host memory, as at the end of the pipeline's own call."""
        with self.lock:
            make_room(self.pipe)

    def trace_anew(self) -> None:
        """Hooks that come or go after compiling would not be noticed."""
        for denoiser in self.denoisers.values():
            if denoiser is not None:
                reset_if_compiled(denoiser)

    def close(self) -> None:
        if self.hooks is not None:
            self.hooks.remove()
        self.trace_anew()

    def compile(self) -> None:
        """In place, each shape by itself; may be done at any time, and by the user as well."""
        for denoiser in self.denoisers.values():
            denoiser.compile(dynamic=False)

    @property
    def compiled(self) -> bool:
        return is_compiled(self.denoiser)

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)

    def check_prompt(self, prompt: Prompt, call: Mapping[str, Any]) -> None:
        names, encoders = self.call_arguments() or {}, text_encoders(self.pipe)
        guided = call.get("guidance_scale", 0) > 1
        if isinstance(prompt, str):
            if not encoders:
                raise ValueError("this pipeline has no text encoder: give prompt_embeds= instead of a text")
            return
        if "prompt_embeds" not in names:
            super().check_prompt(prompt, call)
        for name in prompt.shapes():
            if name not in names:
                raise ValueError(f"this pipeline's call does not take {name}: leave it out")
        pooled = "pooled_prompt_embeds"
        if pooled in names and pooled not in prompt.tensors:
            raise ValueError(f"{pooled} belongs to prompt_embeds with this pipeline: give it too")
        negatives = call.get("negative_prompt") or [""]
        if guided and not encoders and prompt.negative is None and isinstance(negatives[0], str):
            raise ValueError("this pipeline has no text encoder: give negative_prompt_embeds= too, or guidance_scale=1")

    text_tokens: int | None = None
    """How many tokens of a text the pipeline looks at; None: as its call says, or its tokenizers."""

    def unseen_words(self, text: str, call: Mapping[str, Any]) -> str:
        name, found = "max_sequence_length", ""
        of_call = call.get(name) or (self.call_arguments() or {}).get(name)
        for part in ("", "_2", "_3"):
            tokenizer = getattr(self.pipe, f"tokenizer{part}", None)
            if tokenizer is None or getattr(self.pipe, f"text_encoder{part}", None) is None:
                continue
            convert = getattr(self.pipe, "maybe_convert_prompt", None)  # a word may stand for several tokens
            whole = text if convert is None else convert(text, tokenizer)
            most = self.text_tokens or of_call or tokenizer.model_max_length
            found = max(found, unseen(tokenizer, whole, most), key=len)
        return found

    def call_arguments(self) -> Mapping[str, Any] | None:
        return call_arguments(self.pipe)

    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False
    ) -> NoiseLevels:
        if published:
            raise ValueError(
                f'compat="published": there is no published FIFO code for {self.family} (only for VideoCrafter and '
                "Open-Sora Plan): leave it out"
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
        parts = {name: getattr(denoiser, "_orig_mod", denoiser) for name, denoiser in self.denoisers.items()}
        parts |= {
            "vae": self.pipe.vae,
            "scheduler": self.pipe.scheduler,
            "text": getattr(self.pipe, "text_encoder", None),
        }
        return {name: part for name, part in parts.items() if part is not None}

    def around(self, texts: Sequence[str]) -> dict[str, Any]:
        return surroundings(self.pipe, texts)


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
    return torch.einsum("wfp,pgb...->gwbf...", weight_WFP.to(stacked.device, stacked.dtype), stacked).flatten(1, 2)


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
