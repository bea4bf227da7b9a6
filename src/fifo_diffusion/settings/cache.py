"""The settings of the cache that moves with the queue, each a field."""

from dataclasses import dataclass

from fifo_diffusion.settings.kinds import Whole
from fifo_diffusion.settings.spec import BEYOND, FIFO, IN_SETTINGS, STREAM, setting


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What of the queue is not computed anew in every iteration."""

    cache: int = setting(
        1,
        Whole(1, 16),
        STREAM,
        "k: windows in the middle of the queue are computed in every k-th iteration only, in turn; 1 is off.",
        BEYOND,
        metavar="K",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=1,
        doc="k: windows in the middle of the queue are computed in every k-th iteration, in turn; between, their "
        "frames go on with the clean latent that was last predicted of them (docs/method.md). 1: in every iteration.",
    )
