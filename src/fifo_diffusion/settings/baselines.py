"""The settings of a baseline's stream of frames, each a field."""

from dataclasses import dataclass

from fifo_diffusion.method_list import defaults_of, takers
from fifo_diffusion.settings.kinds import Whole
from fifo_diffusion.settings.spec import BASELINES, STREAM, setting
from fifo_diffusion.settings.stream import SamplingSettings, VideoSettings


@dataclass(frozen=True, kw_only=True)
class BaselineArguments(SamplingSettings, VideoSettings):
    """Every argument of a baseline's stream."""

    stride: int | None = setting(
        None,
        Whole(1, 65536),
        STREAM,
        lambda: f"{', '.join(takers('stride'))}: frames from one window to the next.",
        BASELINES,
        metavar="N",
        usual=lambda: defaults_of("stride"),
        methods=lambda: takers("stride"),
        doc="frames from one window to the next (default 4).",
    )
    overlap: int | None = setting(
        None,
        Whole(1, 65536),
        STREAM,
        lambda: f"{', '.join(takers('overlap'))}: frames that a chunk has in common with the one before.",
        BASELINES,
        metavar="N",
        usual=lambda: defaults_of("overlap"),
        methods=lambda: takers("overlap"),
        doc="frames that a chunk has in common with the one before (default 1).",
    )
