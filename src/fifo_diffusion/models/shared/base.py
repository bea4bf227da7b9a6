"""What the method needs to know of a base model: one interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.timing import ONE_TO_ONE, LatentTiming
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method import Guidance, NoiseLevels, Queue
from fifo_diffusion.models.shared.fingerprint import fingerprint
from fifo_diffusion.models.shared.texts import Prompt

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks


class VideoModel(ABC):
    """A base text-to-video model: from latents at per-frame timesteps to a prediction.

    Canonical latents are (B, C, F, H, W); an implementation converts to its model's layout and back. A `condition` is
    opaque to everything but the model that made it. A model that can also predict a whole queue in one banded pass is a
    `fifo_diffusion.execution.interfaces.BandedModel` besides.

    Attributes:
        family: name of the base-model family.
        frames: f, the window length that the checkpoint was trained on (latent frames).
        timing: how many frames of the video a latent frame stands for.
        most_frames: the longest window that `predict` takes; None: any.
        other_shapes: whether it makes videos of other shapes than its own as well (portrait beside landscape, say),
            with about as many pixels.
        defaults: values for arguments that the caller leaves out: guidance_scale, height, width, fps, eta.
        decoder_latency: later latents that the decoder needs, in the steady state, before it can emit a latent's frames
            (`StreamingDecoder`).
        fps_condition: the frame rate that the model is conditioned on where a call says nothing; may be set. None: the
            model is conditioned on none.
        published_queue: how the queue of the family's published FIFO code moves on, for compat="published".
        few_steps: whether it is sampled as models are that were distilled to few steps.
        few_step_sigmas: the steps that it was distilled to, where its scheduler does not give them by itself.
        clean_start: whether it was trained on clips that begin with clean frames, told timestep 0 in their place
            (`clip_after`).
        told_guidance: whether it is told the scale of guidance, in one pass, instead of being guided by a second one.
        told_picture: whether it is told, beside the text, a picture that the video begins with. Then every video starts
            from one (`about_picture`).
    """

    family: str
    frames: int
    timing: LatentTiming = ONE_TO_ONE
    most_frames: int | None = None
    other_shapes: bool = False
    defaults: dict[str, Any]
    decoder_latency: int = 0
    fps_condition: float | None = None
    published_queue: type[Queue] = Queue
    few_steps: bool = False
    few_step_sigmas: tuple[float, ...] | None = None
    clean_start: bool = False
    told_guidance: bool = False
    told_picture: bool = False

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held while the wrapped pipeline works for this model, so that streams may run in several threads."""
        return nullcontext()

    def follow(self) -> None:  # noqa: B027  nothing can be replaced, unless a family says otherwise
        """Look at what the user may have replaced: from here on that is used. Called before every prediction; may be
        called at any time.

        Raises:
            ValueError: something there cannot be used; one line.
        """

    def text_state(self) -> Any:
        """What a `condition` depends on beside its arguments; when it is no longer equal to what it was, conditions are
        made anew."""
        return None

    def schedule_state(self) -> Any:
        """What `levels` depends on beside its arguments; to be compared."""
        return None

    def autoencoder_state(self) -> Any:
        """What a `decoder` is made for: another one is made when it is no longer equal to what it was."""
        return None

    def autoencoder_kind(self) -> Any:
        """What must stay the same of an autoencoder while a video runs: channels and pixels of a latent."""
        return None

    def offload_text_encoders(self, device: torch.device | None = None) -> None:
        """Keep text encoders in host memory, and on the device only while they encode; until `close`.

        Args:
            device: where they encode; None: `device`.

        Raises:
            ValueError: there is none, or it is offloaded already.
        """
        raise ArgumentError(*("offload_text_encoder", True, f"{self.family} models have no text encoder: leave it out"))

    def offload(self, way: str, device: torch.device) -> None:
        """Keep all weights in host memory, and on the device only while they work.

        Args:
            way: as in `models.shared.offload.offload_pipe`.
            device: where they work.

        Raises:
            ValueError: it cannot be done.
        """
        raise ArgumentError("offload", way, f"{self.family} models cannot be offloaded here: leave it out")

    def about_to_decode(self) -> None:  # noqa: B027
        """Called before every use of the autoencoder."""

    def done_encoding(self) -> None:  # noqa: B027
        """Called after every `condition` for a video."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where latents live between model calls."""

    @property
    def dtype(self) -> torch.dtype | None:
        """What the denoiser computes with; None: not known."""
        return None

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, H, W) of one latent frame.

        Raises:
            ValueError: sizes that the model cannot take; the message names the nearest that fit.
        """

    @abstractmethod
    def levels(
        self, count: int, *, eta: float = 0.0, scheduler_exact: bool = False, published: bool = False, **steps: Any
    ) -> NoiseLevels:
        """The noise levels of `count` steps.

        Args:
            count: how many.
            eta: share of fresh noise, in [0, 1].
            scheduler_exact: aim where the scheduler's own step aims.
            published: those of the family's published FIFO code.
            **steps: `timesteps` or `sigmas`, where they are chosen one by one (see `read_levels`); `size`, of a window
                (latent frames, height, width), for models whose levels depend on it.

        Raises:
            StepCountError: these steps are another number of them.
            ValueError: the scheduler cannot give them, or `published` where the family has no published code.
        """

    def published_clip_levels(self, levels: NoiseLevels) -> NoiseLevels:
        """The levels with which the family's published code samples the clip that opens a video, given those of its
        queue (`levels` with `published`). The same, unless a family says otherwise."""
        return levels

    @abstractmethod
    def condition(self, prompts: Sequence[str], **call: Any) -> Any:
        """Everything but latents and timesteps that the denoiser takes, for a batch of len(prompts) videos.

        Args:
            prompts: one per video.
            **call: height, width, negative_prompt, guidance_scale and whatever else the pipeline's own call takes.
        """

    @abstractmethod
    def mix(self, conditions: Sequence[Any], weight_WFP: Tensor) -> Any:
        """A condition with a text of its own for every frame: the average of P conditions with weights (W windows, F
        frames, P), whose rows sum to one."""

    def about_picture(self, picture_HWC: np.ndarray, window: int) -> dict[str, Any]:
        """Further arguments of `condition`, for models that are told a picture (`told_picture`).

        Args:
            picture_HWC: uint8, in the size of the video.
            window: latent frames of the clip that begins with it.
        """
        return {}

    def at_frames(self, condition: Any, windows: Sequence[Sequence[int]]) -> Any:
        """The condition for windows of these frames, counted from the first of the clip that opens the video; the
        same, unless the model is told something of single frames."""
        return condition

    @abstractmethod
    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any) -> Tensor:
        """The model's prediction after guidance, of the latents' shape, float32.

        Args:
            latents_BCFHW: float32, on `device`; B = windows x videos, window by window.
            timestep_BF: one timestep per frame; (B, F, 2) of a model whose `levels` have an `end`.
            condition: for the same videos; repeated for every window.

        Raises:
            RuntimeError: the denoiser returned another shape than it was given.
        """

    def check_prompt(self, prompt: Prompt, call: Mapping[str, Any]) -> None:
        """Whether the model takes a text, as far as that can be told without encoding it.

        Args:
            call: the other arguments that `condition` gets.

        Raises:
            ValueError: it does not.
        """
        if not isinstance(prompt, str):
            raise ValueError(f"{self.family} models take texts only: leave prompt_embeds out")

    def unseen_words(self, text: str, call: Mapping[str, Any]) -> str:
        """The words at the end of a text for which the text encoder has no room; empty where it sees all."""
        return ""

    def remark_on(self, text: str) -> str:
        """What to say of a text that means nothing to the model, in one line; empty where there is nothing to say."""
        return ""

    def call_arguments(self) -> Mapping[str, Any] | None:
        """The named arguments of the pipeline's own call, with their defaults. None: not known; then `condition` gets
        whatever the caller gives."""
        return None

    def passes(self, condition: Any) -> Sequence[Any]:
        """A condition for each pass that a prediction takes: with guidance two, first without the prompt, then with it.
        They can be computed apart, by `predict` each, and put together by `guided`. One, unless a family says
        otherwise."""
        return [condition]

    def guided_by(self, condition: Any, rule: Guidance) -> Any:
        """The condition, whose predictions are guided by another rule than the ordinary one.

        Raises:
            ValueError: the model knows none, which is so unless a family says otherwise.
        """
        raise ValueError(f"{self.family} models are guided in one way only")

    def stages(self) -> Sequence[int]:
        """Parts of a prediction each of which is better done for all windows before the next one: where modules take
        turns on the device. Their predictions add up. None, unless a family says otherwise."""
        return ()

    def of_stage(self, condition: Any, stage: int) -> Any:
        """The condition for one of the `stages`."""
        return condition

    def free(self) -> None:  # noqa: B027
        """Called where a stream ends: nothing needs to stay on the device."""

    def guided(self, outputs: Sequence[Tensor], timestep_BF: Tensor, condition: Any) -> Tensor:
        """The prediction after guidance, from those of the `passes` of a condition."""
        return outputs[0]

    def compile(self) -> None:
        """`torch.compile` of the denoiser.

        Raises:
            ValueError: it cannot be, which is so unless a family says otherwise.
        """
        raise ArgumentError("compile", True, f"{self.family} models cannot be compiled here: leave it out")

    @property
    def compiled(self) -> bool:
        """Whether the denoiser is. Then `predict` should be called with few different shapes."""
        return False

    def shard(self, ranks: "Ranks", device: torch.device | None = None) -> None:
        """Spread the denoiser's weights over ranks, for good: each holds a share of them.

        Args:
            device: where the denoiser works; None: `device`.

        Raises:
            ValueError: they cannot be spread.
        """
        raise ArgumentError("shard_weights", True, f"{self.family} models cannot share weights here: leave it out")

    @property
    def sharded(self) -> bool:
        """Whether they are. Then a prediction that fails cannot be made again in smaller parts."""
        return False

    @abstractmethod
    def decoder(self) -> Any:
        """A fresh streaming decoder (see `fifo_diffusion.decoding.frames`)."""

    @abstractmethod
    def encode(self, frames_FHWC: np.ndarray) -> Tensor:
        """uint8 frames to clean latents (1, C, F, H, W). Where they do not fill the last latent, the first are left
        out: the last frame always counts."""

    @abstractmethod
    def output(self, frames_BFCHW: Tensor, output_type: str) -> Any:
        """Frames in [0, 1] (or latents (B, C, F, H, W) for "latent") as the wrapped pipeline would return them."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """The modules and configurations that make the model what it is, for its fingerprint."""

    def fingerprint(self) -> str:
        """A short hash of configurations, a sample of the weights and active adapters, as they are now: tells whether a
        saved state fits this model."""
        return fingerprint(self.parts())

    def around(self, texts: Sequence[str]) -> dict[str, Any]:
        """What a video depends on beside the `parts`, by name and as plain values: a state keeps it for comparison.

        Args:
            texts: the prompts that the video has now.
        """
        return {}

    @abstractmethod
    def close(self) -> None:
        """Give the wrapped pipeline back as it was: no hook of ours stays."""
