"""Ways to a long video: FIFO-Diffusion, and the baselines that it is compared with, as data.

A baseline is one file of `baselines/`, with one `Sampler` in it, and one entry of `BASELINES`. `generate --method`, its
help and the options that apply, the dry run and the rows of `evaluate` are made from that list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """A way to make a long video: a baseline, or FIFO-Diffusion itself.

    Attributes:
        title: its name for people.
        about: what it does, in a few words, for `--help`.
        sampler: "module:Class" of its `Sampler`; empty for FIFO-Diffusion, whose streams are `FIFO.stream`'s.
        paper: arXiv number.
        options: those that it takes of the ones that only baselines have (stride, overlap), with their defaults.
        variants: its rows in an evaluation, {name: options}; without any it has one of its own name.
        steps: published number of denoising steps.
        eta: published fresh noise per step; None: the model's own.
        streams: frames come before the whole video is computed, so that it may be endless.
        one_pass: all frames go through the model in one pass: a model of limited length limits the video.
    """

    title: str
    about: str = ""
    sampler: str = ""
    paper: str = ""
    options: Mapping[str, int] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    steps: int = 50
    eta: float | None = None
    streams: bool = False
    one_pass: bool = False


FIFO = Method("FIFO-Diffusion", paper="2405.11473", streams=True)

BASELINES: dict[str, Method] = {
    "freenoise": Method(
        "FreeNoise",
        "FreeNoise",
        "fifo_diffusion.baselines.freenoise:FreeNoise",
        paper="2310.15169",
        options={"stride": 4},
        eta=0.0,
        one_pass=True,
    ),
    "genl": Method(
        "Gen-L-Video",
        "Gen-L-Video",
        "fifo_diffusion.baselines.genl:GenLVideo",
        paper="2305.18264",
        options={"stride": 4},
        eta=0.0,
    ),
    "chunked": Method(
        "chunked autoregression",
        "each chunk continues from the last frames of the one before",
        "fifo_diffusion.baselines.chunked:Chunked",
        paper="2204.03458",
        options={"overlap": 1},
        variants={"chunked-1": {"overlap": 1}, "chunked-8": {"overlap": 8}},
        streams=True,
    ),
    "plain": Method(
        "plain long sampling",
        "all frames in one pass",
        "fifo_diffusion.baselines.plain:Plain",
        one_pass=True,
    ),
}
"""Name -> baseline. One that is added here, by a program too, is known everywhere."""


def methods() -> dict[str, Method]:
    """FIFO-Diffusion and the baselines, by the name that `--method` and a row of `evaluate` give."""
    return {"fifo": FIFO, **BASELINES}


def baseline_rows() -> dict[str, dict[str, Any]]:
    """Rows of an evaluation with all baselines: {name: {"method": baseline, options}}."""
    return {
        row: {"method": name} | dict(options)
        for name, each in BASELINES.items()
        for row, options in (each.variants or {name: {}}).items()
    }


def takers(option: str) -> tuple[str, ...]:
    """The baselines that take an option of their own."""
    return tuple(name for name, each in BASELINES.items() if option in each.options)


def defaults_of(option: str) -> str:
    """What such an option is where it is not given, in words."""
    return ", ".join(dict.fromkeys(str(BASELINES[name].options[option]) for name in takers(option)))
