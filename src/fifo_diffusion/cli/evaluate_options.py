"""The options of `fifo-diffusion evaluate` that are its own."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fifo_diffusion.cli.options import option
from fifo_diffusion.method_list import baseline_rows
from fifo_diffusion.settings.kinds import Whole
from fifo_diffusion.settings.spec import BASELINES, FILES, LENGTH, MODEL


class Table(StrEnum):
    cost = "cost"
    relative_mse = "relative-mse"
    quality = "quality"
    ablation = "ablation"
    all = "all"


Report = Annotated[
    Path,
    option("-o", "--output", metavar="REPORT", panel=FILES, help="Folder for report.html and all with it."),
]
Videos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[VIDEO]...",
        help="Measure the drift of these instead: videos, folders of images, or what generate --drift wrote.",
        show_default=False,
    ),
]
Tables = Annotated[
    list[Table] | None,
    option(
        "--table",
        metavar="TABLE",
        panel=LENGTH,
        help="cost, relative-mse, quality, ablation; may be given several times. [dim]Default: all.[/dim]",
    ),
]
ConfigFile = Annotated[
    Path | None,
    option(
        "--config",
        metavar="FILE",
        panel=FILES,
        help="A config.json that says everything. If it is not your own, look at the TorchScript files that it names "
        "(features, classifier): they are code.",
    ),
]
Methods = Annotated[
    str | None,
    option(
        metavar="A,B",
        panel=LENGTH,
        help=f"Only these rows: fifo, fifo-no-lookahead, {', '.join(baseline_rows())}, or the names in the "
        "--config file.",
    ),
]
EvaluatePrompts = Annotated[
    Path | None, option(metavar="FILE", panel=FILES, help="A prompt per line. [dim]Default: 12 of our own.[/dim]")
]
EvaluateFrames = Annotated[
    int | None,
    option(
        "-n",
        "--num-frames",
        kind=Whole(32),
        metavar="N",
        panel=LENGTH,
        help="Frames of each video. [dim]Default: 192.[/dim]",
    ),
]
BaselineSteps = Annotated[
    int | None,
    option(
        "--num-inference-steps",
        kind=Whole(1),
        metavar="N",
        panel=BASELINES,
        help="Of the baselines and of base clips. [dim]Default: 50, as published.[/dim]",
    ),
]
EvaluateSeed = Annotated[
    int | None,
    option("--seed", kind=Whole(0), metavar="N", panel=LENGTH, help="[dim]Default: 0.[/dim]"),
]
BaseClips = Annotated[
    int | None,
    option(
        kind=Whole(1),
        metavar="N",
        panel=LENGTH,
        help="Clips of the base model for each prompt, which videos are compared with. [dim]Default: 8.[/dim]",
    ),
]
CostFrames = Annotated[
    str | None, option(metavar="A,B", panel=LENGTH, help="Lengths that are timed. [dim]Default: 128,256,512.[/dim]")
]
MseClips = Annotated[
    int | None, option(kind=Whole(2), metavar="N", panel=LENGTH, help="For relative-mse. [dim]Default: 16.[/dim]")
]
Clips = Annotated[
    Path | None,
    option(
        metavar="FOLDER",
        panel=FILES,
        help="Videos for relative-mse, captions beside them as .txt. [dim]Default: toybox's world.[/dim]",
    ),
]
Features = Annotated[
    Path | None,
    option(
        metavar="FILE",
        panel=FILES,
        help="i3d_torchscript.pt, for Fréchet distances in I3D's features. TorchScript is code: give a file that you "
        "trust. [dim]Default: a small network of our own, for toybox.[/dim]",
    ),
]
Jobs = Annotated[
    int | None,
    option(
        kind=Whole(1),
        metavar="N",
        panel=MODEL,
        help="Tasks at a time, but for those that are timed: each loads the model. [dim]Default: 1.[/dim]",
    ),
]
ClipModel = Annotated[
    Path | None, option(metavar="FOLDER", panel=FILES, help="A CLIP model and processor, for the CLIP score.")
]
VideoClassifier = Annotated[
    Path | None,
    option(
        "--classifier",
        metavar="FILE",
        panel=FILES,
        help="A video classifier as TorchScript, of UCF-101's classes, for the inception score. TorchScript is code: "
        "give a file that you trust.",
    ),
]
