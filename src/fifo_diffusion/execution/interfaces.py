"""What execution calls of a model. `fifo_diffusion.models.shared.base.VideoModel` has all of it but bands."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.execution.frame_shard import FrameGroup
from fifo_diffusion.method import Bands, Guidance


class GuidedModel(Protocol):
    """Predicts, and can do the passes of classifier-free guidance apart; see `VideoModel`."""

    def predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, condition: Any) -> Tensor: ...

    def passes(self, condition: Any) -> Sequence[Any]: ...

    def guided(self, outputs: Sequence[Tensor], timestep_BF: Tensor, condition: Any) -> Tensor: ...


class SteeredModel(GuidedModel, Protocol):
    """Is guided by other rules than the ordinary one, too; see `VideoModel`."""

    def guided_by(self, condition: Any, rule: Guidance) -> Any: ...


class QueueModel(GuidedModel, Protocol):
    """Predicts windows of a running queue; see `VideoModel`."""

    @property
    def compiled(self) -> bool: ...

    @property
    def sharded(self) -> bool: ...

    def schedule_state(self) -> Any: ...

    def stages(self) -> Sequence[int]: ...

    def of_stage(self, condition: Any, stage: int) -> Any: ...


class BandedModel(Protocol):
    """A model that also predicts more frames than a window in one pass, in which each frame sees its band of f frames.

    A capability: only families that implement both methods can do `lookahead="banded"`.
    """

    def check_bands(self) -> None:
        """Whether this model, with the denoiser that it has now, can do it.

        Raises:
            ValueError: it cannot; one line that says what to use instead.
        """
        ...

    def predict_banded(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        condition: Any,
        *,
        bands: Bands,
        chunks: int = 1,
        together: FrameGroup | None = None,
    ) -> Tensor:
        """As `VideoModel.predict`, for F frames, where F is more than a window.

        Args:
            bands: the f frames that each of the F frames may see (`QueueLayout.bands`).
            chunks: into how many chunks the work inside layers is cut, to bound memory. The result depends on it by
                rounding only (1e-5 relative in norm in float32).
            together: the processes that share the frames among them. All make the same call, and all get the whole
                prediction, which depends on their number by rounding only.
        """
        ...


def as_banded(model: Any) -> BandedModel:
    """The model, if it can do `lookahead="banded"`.

    Raises:
        ValueError: it cannot; one line that says what to use instead.
    """
    if not hasattr(model, "predict_banded"):
        one_by_one = Setting("lookahead", True)
        advice = (f"{model.family} models cannot do it; use ", one_by_one, ", at twice the cost")
        raise ArgumentError("lookahead", "banded", *advice)
    model.check_bands()
    return model
