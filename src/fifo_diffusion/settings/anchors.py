"""The settings of anchors, each a field: frames that stay in every window. Not the paper's."""

from dataclasses import dataclass

from fifo_diffusion.settings.kinds import Choice, Whole
from fifo_diffusion.settings.spec import BEYOND, FIFO, IN_SETTINGS, STREAM, setting


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """Which frames stay in sight (`fifo_diffusion.method.anchored`); none by default."""

    anchors: int = setting(
        0,
        Whole(0, 4094),
        STREAM,
        "m: latents of the opening clip, or of the given frames, that stay in the first places of every window.",
        BEYOND,
        metavar="M",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0,
        doc="m: so many latents of the clip that opens the video, or of the given frames, its first ones, stay in the "
        "first places of every window, read only; f - m places are for the queue, whose levels are n (f - m) / b.",
    )
    anchors_every: int | None = setting(
        None,
        Whole(1, 10**9),
        STREAM,
        "Each time that so many latents have left the queue, the last of them takes the place of the oldest anchor.",
        BEYOND,
        metavar="N",
        methods=FIFO,
        usual="never",
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc="each time that so many latents have left the queue, the last of them takes the place of the oldest of the "
        "`anchors`. None: they stay for ever.",
    )
    anchor_level: str = setting(
        "window",
        Choice("window", "lowest"),
        STREAM,
        "How noisy anchors are: as the cleanest frame of their window (window), or as frames in their last step "
        "(lowest; for models trained with a level for every frame).",
        BEYOND,
        metavar="LEVEL",
        methods=FIFO,
        saved=IN_SETTINGS,
        older="window",
        doc='how noisy `anchors` are: "window", as the cleanest frame of their window; "lowest", as frames in their '
        "last step, for models that were trained with a noise level for every frame.",
    )
