"""A diffusers pipeline as it stands now: its denoisers with our hooks on them, and what its user may have replaced."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.execution.shared_weights import SharedWeights, is_spread
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.fingerprint import keep_samples
from fifo_diffusion.models.shared.following_decoder import check_tiling
from fifo_diffusion.models.shared.hooks import DenoiserHooks, is_compiled, lock_of, reset_if_compiled
from fifo_diffusion.models.shared.modular import as_it_stands, guidance_of
from fifo_diffusion.models.shared.modules import dtype_of
from fifo_diffusion.models.shared.offload import TextOffload, make_room, offload_pipe, rehook, tell_of_offloading
from fifo_diffusion.models.shared.replaced import check_spread, refuse_state, text_state, weak, written

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks


class WrappedPipeline(VideoModel):
    """A model around `pipe.unet` or `pipe.transformer` (`denoiser_name`).

    What the user replaces on the pipeline is used from the next prediction on: `follow` looks.
    """

    denoiser_name = "transformer"
    hooks: DenoiserHooks | None = None
    _told_of_offloading = False
    _told_of_spacing = False
    _text_offload: TextOffload | None = None
    text_width: str | None = None
    """What the denoiser's configuration calls the width of the text that it takes."""
    stacked: int = 1
    """How many of the denoiser's latent frames are one here, stacked as channels: those that share a timestep."""
    told_channels: int = 0
    """Channels that the denoiser takes beside those of latents."""
    outputs_per_input: tuple[int, ...] = (1,)
    """How many channels the denoiser may return for each that it takes."""

    @property
    def pipe(self) -> Any:
        """The wrapped pipeline. Of a modular one the standard pipeline of its parts, as they are at every look."""
        return as_it_stands(self._pipe)

    @pipe.setter
    def pipe(self, pipe: Any) -> None:
        self._pipe = pipe

    @property
    def denoiser(self) -> Any:
        """The pipeline's, as it stands there now."""
        return getattr(self.pipe, self.denoiser_name)

    @property
    def dtype(self) -> torch.dtype | None:
        """What it computes with."""
        return dtype_of(self.denoiser)

    @property
    def denoisers(self) -> dict[str, Any]:
        """All that there are, by their names on the pipeline; the first is `denoiser`."""
        return {self.denoiser_name: self.denoiser}

    @property
    def lock(self) -> AbstractContextManager[Any]:
        return lock_of(self._pipe)

    def install_hooks(self, denoiser: nn.Module) -> DenoiserHooks | None:
        """Put the family's hooks on the denoiser; they are inert outside `DenoiserHooks.running`. None where the
        denoiser takes one timestep per frame by itself."""
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
        guidance_of(self.pipe)
        for name, denoiser in self.denoisers.items():
            refuse_state(f"pipe.{name}", denoiser)
        now = weak(self.denoisers.values())
        if now != self._known:
            self.check_denoisers()
        moved = now != self._known
        if self.hooks is not None:
            moved |= self.hooks.follow(*self.denoisers.values())
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
            known = None not in (given, returned)
            if known and returned not in [(given - self.told_channels) * k for k in self.outputs_per_input]:
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
        check_tiling(self)

    def check_fits(self, latents_BCFHW: Tensor, condition: Any, *, banded: bool = False) -> None:
        """Whether the denoisers that are on the pipeline fit a running video.

        Raises:
            ValueError: they do not; one line.
        """
        channels, frames = latents_BCFHW.shape[1:3]
        for name, denoiser in self.denoisers.items():
            config = getattr(denoiser, "config", None) or {}
            wanted = config.get("in_channels", channels / self.stacked) * self.stacked - self.told_channels
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
            what = f"pipe.{self.denoiser_name} takes {self.most_frames} frames, a window of this video has {frames}: "
            advice = "put back a denoiser that fits, or make a new stream with "
            raise ValueError(Message(what, advice, Setting("window", self.most_frames)))

    @contextmanager
    def working(self, latents_BCFHW: Tensor, condition: Any, *, banded: bool = False) -> Iterator[None]:
        """Within, the pipeline's denoisers of now fit the video, have their hooks on and the device to themselves."""
        with self.lock:
            self.follow()
            self.check_fits(latents_BCFHW, condition, banded=banded)
            make_room(self.pipe, *self.denoisers.values())
            self._told_of_offloading = self._told_of_offloading or tell_of_offloading(self.pipe)
            yield

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
        cut = {name: value for name, value in vars(vae).items() if name.startswith(("use_", "tile_"))}
        return weak([vae, *vae.children()]), dtype_of(vae), written(vae.parameters()), dict(vae.config), cut

    def autoencoder_kind(self) -> Any:
        config = self.pipe.vae.config
        return config.get("latent_channels", config.get("z_dim")), len(config.get("block_out_channels", ()))

    def offload_text_encoders(self, device: torch.device | None = None) -> None:
        self._text_offload = TextOffload(self.pipe, device or self.device)

    def offload(self, way: str, device: torch.device) -> None:
        offload_pipe(self.pipe, way, device)
        self._told_of_offloading = True  # whoever asks for a way by its name has read what it costs

    def done_encoding(self) -> None:
        if self._text_offload is not None:
            self._text_offload.away()

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
        if self._text_offload is not None:
            self._text_offload.remove()
            self._text_offload = None
        if self.hooks is not None:
            self.hooks.remove()
        self.trace_anew()

    def compile(self) -> None:
        """In place, each shape by itself; may be done at any time, and by the user as well."""
        if self.sharded:
            raise ArgumentError("compile", True, "weights that ranks share are gathered block by block: leave it out")
        for denoiser in self.denoisers.values():
            denoiser.compile(dynamic=False)

    def shard(self, ranks: "Ranks", device: torch.device | None = None) -> None:
        for name, denoiser in self.denoisers.items():
            check_spread(f"pipe.{name}", denoiser)
        for denoiser in self.denoisers.values():
            keep_samples(denoiser)
        SharedWeights(self.denoisers.values(), ranks, self.device if device is None else device)

    @property
    def sharded(self) -> bool:
        return is_spread(self.denoiser)

    @property
    def compiled(self) -> bool:
        return is_compiled(self.denoiser)

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)
