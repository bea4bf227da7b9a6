"""The settings of the tail of the queue, each a field: the noise that enters. None of them is the paper's."""

from dataclasses import dataclass

from fifo_diffusion.settings.kinds import Number, Whole
from fifo_diffusion.settings.spec import BEYOND, FIFO, IN_SETTINGS, STREAM, setting


@dataclass(frozen=True, kw_only=True)
class TailSettings:
    """What enters at the tail; all off by default."""

    coherent_tail: float = setting(
        0.0,
        Number(0, 1),
        STREAM,
        "Share of the newest frame's low frequencies in the noise that enters, 0 to 1.",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc="share of the newest frame's low frequencies in the noise that enters at the tail, 0 (the paper's white "
        "noise) to 1; its variance stays (Ouroboros-Diffusion, arXiv 2501.09019; see `method.tail`).",
    )
    tail_reference: float = setting(
        0.0,
        Number(0, 1),
        STREAM,
        "Share of the first frame in these low frequencies, 0 (the newest alone) to 1 (the first alone).",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc="share, by energy, of the reference in the low frequencies of `coherent_tail`: 0 (the newest frame alone) "
        "to 1. The reference is the first latent of the clip that opens the video, or of the given frames.",
    )
    tail_adain: float = setting(
        0.0,
        Number(0, 1),
        STREAM,
        "How far the colours of these low frequencies are moved to those of the first frame, 0 to 1.",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc="how far mean and deviation of each channel of what `coherent_tail` takes are moved to those that the "
        "reference (see `tail_reference`) has at that noise level (AdaIN, arXiv 1703.06868), 0 to 1.",
    )
    tail_draws: int = setting(
        1,
        Whole(1, 1024),
        STREAM,
        "k: of so many draws of the noise that enters, the one whose frames go best with those before them.",
        BEYOND,
        metavar="K",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=1,
        doc="k; every `tail_every` frames so many draws of the noise that enters are tried, each by one pass of the "
        "windows that write it, and the one stays whose predicted frames agree best with those before them "
        "(`method.draws`). 1: the first draw, and no pass. One process only.",
    )
    tail_every: int | None = setting(
        None,
        Whole(1, 10**9),
        STREAM,
        "Frames from one choice among --tail-draws to the next.",
        BEYOND,
        metavar="N",
        methods=FIFO,
        usual="the window",
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc="latents from one choice among `tail_draws` to the next. None: f.",
    )
    tail_threshold: float = setting(
        0.0,
        Number(0, 2),
        STREAM,
        "Try further --tail-draws only where the first goes worse with the frames before it than these do with each "
        "other, by more than this.",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc="above 0: further draws are tried only where the agreement of the first one with the frames before it is "
        "lower than theirs among themselves by more than this (cosines).",
    )
