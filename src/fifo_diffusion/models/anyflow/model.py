"""AnyFlow (Gu et al., arXiv 2605.13724): a flow map on Wan 2.1, made for any number of steps.

Its transformer is told two timesteps of every frame, where a step begins and where it ends, and predicts the mean
velocity between them; so a step is Euler's, however long it is (diffusers' `AnyFlowPipeline`).

Tensor names end in their axes: R rows (windows x videos), F latent frames, S tokens of all frames, N of one.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.method import NoiseLevels
from fifo_diffusion.models.shared.conditions import TextCondition
from fifo_diffusion.models.shared.hooks import DenoiserHooks, Place, while_running
from fifo_diffusion.models.wan.model import WithWanAutoencoder


class AnyFlowModel(WithWanAutoencoder):
    """`AnyFlowPipeline`: text to video.

    Every frame's step ends where the queue moves it to, and so it is told (`NoiseLevels.told`). Where a prediction is
    asked for with one timestep of each frame only, the step is told to end where it begins, as with the pipeline's
    `use_mean_velocity=False`.

    Args:
        pipe: loaded pipeline; used as it is.
        frames: f in latents, where the checkpoint is known; 21 otherwise (81 frames of the video).
        defaults: of the checkpoint, where it is known.
    """

    family = "AnyFlow"
    flow = True
    other_shapes = True
    text_width = "text_dim"
    no_effect = ("video", "video_latents")
    hooks: "FrameTexts"

    def install_hooks(self, denoiser: nn.Module) -> "FrameTexts":
        return FrameTexts(denoiser)

    def levels(self, count: int, **options: Any) -> NoiseLevels:
        levels = super().levels(count, **options)
        if levels.solver is not None or bool((levels.fresh > 0).any()):
            raise ValueError(
                Message(
                    f"{type(self.pipe.scheduler).__name__} remembers earlier steps or draws noise, and this model "
                    "predicts whole steps of Euler's rule: set ",
                    *(Setting("scheduler", python="pipe.scheduler"), " to a FlowMapEulerDiscreteScheduler"),
                )
            )
        trained = self.pipe.scheduler.config.num_train_timesteps
        return replace(levels, timestep=levels.timestep.float(), end=float(levels.target_sigma[0] * trained))

    def condition(self, prompts: Sequence[str], **call: Any) -> TextCondition:
        if call.pop("use_mean_velocity", True) is False:
            raise ValueError("use_mean_velocity=False would have no effect here: leave it out")
        plain = super().condition(prompts, **call)
        del plain.arguments["r_timestep"]
        return plain

    def denoise(self, latents_RCFHW: Tensor, timestep_RF: Tensor, condition: TextCondition) -> Tensor:
        begins, ends = timestep_RF.unbind(-1) if timestep_RF.dim() == 3 else (timestep_RF, timestep_RF)
        text = condition.rows(len(latents_RCFHW))
        text = text.flatten(0, 1) if condition.per_frame else text
        with self.hooks.active(begins.shape[1]) if condition.per_frame else nullcontext():
            output = self.pipe.transformer(
                latents_RCFHW.transpose(1, 2),
                timestep=begins,
                r_timestep=ends,
                encoder_hidden_states=text,
                **condition.arguments,
            )[0]
        return output.transpose(1, 2)


class FrameTexts(DenoiserHooks):
    """Hooks on the transformer with which every frame looks at a text of its own."""

    _frames: int = 0

    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        for block in denoiser.blocks:
            yield Place(block.attn2, "before", self._apart, told=True)
            yield Place(block.attn2, "after", self._together)

    def active(self, frames: int) -> AbstractContextManager[None]:
        """Within, the transformer takes R F texts for R rows of F frames."""
        return self.running(_frames=frames)

    @while_running
    def _apart(self, _module: nn.Module, args: tuple[Any, ...], told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """(R, S, D) -> (R F, N, D)."""
        self.seen_begin()
        tokens = told["hidden_states"].unflatten(1, (self._frames, -1)).flatten(0, 1)
        return args, told | {"hidden_states": tokens}

    @while_running
    def _together(self, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        self.seen_end()
        return output.unflatten(0, (-1, self._frames)).flatten(1, 2)
