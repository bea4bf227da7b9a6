"""The settings of guidance frame by frame, each a field."""

from collections.abc import Sequence
from dataclasses import dataclass

from fifo_diffusion.settings.kinds import Choice, Interval, Number
from fifo_diffusion.settings.spec import BEYOND, FIFO, IN_SETTINGS, STREAM, setting


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How the passes without and with the text become one prediction (`fifo_diffusion.method.guidance`)."""

    guidance_interval: Sequence[float] = setting(
        (0.0, 1.0),
        Interval(0, 1),
        STREAM,
        "From which share of a frame's steps on it is guided, and up to which: with 0,0.75 the last quarter takes one "
        "pass instead of two.",
        BEYOND,
        metavar="A,B",
        usual="0,1",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=[0.0, 1.0],
        doc="from which share of a frame's steps on it is guided, and up to which, as `start` and `stop` of diffusers' "
        "guiders; in the others the pass with the text alone counts. Windows that write no guided frame take one pass.",
    )
    guidance_rescale: float = setting(
        0.0,
        Number(0, 1),
        STREAM,
        "How far guided frames get back the deviation of the pass with the text, 0 to 1: against too much contrast.",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc="how far the standard deviation of a guided frame is brought to that of the pass with the text, 0 to 1, as "
        "in pipelines' own calls, but of each frame by itself.",
    )
    guidance_method: str = setting(
        "plain",
        Choice("plain", "apg", "cfg-zero"),
        STREAM,
        "plain (classifier-free guidance), apg (adaptive projected guidance) or cfg-zero (CFG-Zero*, of flow-matching "
        "models).",
        BEYOND,
        metavar="NAME",
        methods=FIFO,
        saved=IN_SETTINGS,
        older="plain",
        doc='"plain", "apg" (adaptive projected guidance, arXiv 2410.02416) or "cfg-zero" (CFG-Zero*, arXiv '
        "2503.18886, of flow-matching models); of each frame by itself.",
    )
    apg_eta: float = setting(
        0.0,
        Number(-10, 10),
        STREAM,
        "Of --guidance-method apg: how much is kept of guidance along the prediction; 1 is all, as plain.",
        BEYOND,
        metavar="X",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc='of guidance_method="apg": how much is kept of what guidance adds along the prediction with the text.',
    )
    apg_norm_threshold: float = setting(
        0.0,
        Number(0, 1e6),
        STREAM,
        "Of --guidance-method apg: the longest that the difference of the two passes may be in a frame.",
        BEYOND,
        metavar="X",
        usual="0, no bound",
        methods=FIFO,
        saved=IN_SETTINGS,
        older=0.0,
        doc='of guidance_method="apg": the longest that the difference of the two passes may be (its L2 norm over C, H '
        "and W of a frame); 0: no bound.",
    )
