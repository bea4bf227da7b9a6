"""The options of `fifo-diffusion generate`: types, checks and help."""

from pathlib import Path
from typing import Annotated

import typer

from fifo_diffusion.cli.option_kinds import (
    BASELINE_PANEL,
    FILES,
    LENGTH,
    LOOK,
    METHOD,
    MODEL,
    TALK,
    Change,
    Fit,
    Method,
    Precision,
    Profile,
    above,
    at_least,
    between,
    option,
)

Prompt = Annotated[
    str | None, typer.Argument(metavar="[PROMPT]", help="What should be seen, in quotes.", show_default=False)
]
Output = Annotated[
    str | None,
    option(
        "-o",
        "--output",
        metavar="OUT",
        panel=FILES,
        help="ball.mp4, .webm or .gif; a folder of PNGs (frames/); - for raw video (y4m) on standard output. "
        "[dim]Default: named after the prompt, .mp4, in this folder.[/dim]",
    ),
]
Model = Annotated[
    str | None,
    option(
        "-m",
        "--model",
        metavar="MODEL",
        panel=MODEL,
        help="A Hugging Face id (owner/name), a folder with a diffusers pipeline, an original VideoCrafter model.ckpt, "
        "or toybox, the small model that comes with this program; toybox-diagonal is the same, trained for the queue. "
        "[dim]Default: toybox.[/dim]",
    ),
]
NumFrames = Annotated[
    int | None,
    option(
        "-n",
        "--num-frames",
        check=at_least(1),
        metavar="N",
        panel=LENGTH,
        help="Frames in all. [dim]Default: 160.[/dim]",
    ),
]
Seconds = Annotated[
    float | None,
    option(check=above(0, 10**9), metavar="X", panel=LENGTH, help="Instead of frames: seconds of video, at --fps."),
]
Forever = Annotated[bool, option("--forever", panel=LENGTH, help="Go on until Ctrl-C.")]
Seed = Annotated[
    int | None,
    option(
        check=at_least(0, 2**64 - 1),
        metavar="N",
        panel=LOOK,
        help="The same number makes the same video again. [dim]Default: random; it is printed, and kept in the "
        "file.[/dim]",
    ),
]
NegativePrompt = Annotated[str | None, option(metavar="TEXT", panel=LOOK, help="What should not be seen.")]
GuidanceScale = Annotated[
    float | None,
    option(
        check=between(-1000, 1000),
        metavar="X",
        panel=LOOK,
        help="How closely the prompt is followed; 1 is off and twice as fast. [dim]Default: the model's.[/dim]",
    ),
]
Height = Annotated[
    int | None,
    option(check=at_least(1, 16384), metavar="N", panel=LOOK, help="Pixels. [dim]Default: the model's.[/dim]"),
]
Width = Annotated[
    int | None,
    option(check=at_least(1, 16384), metavar="N", panel=LOOK, help="Pixels. [dim]Default: the model's.[/dim]"),
]
Start = Annotated[
    str | None,
    option(
        metavar="START",
        panel=LOOK,
        help="What the video grows out of: clip (a clip made in the model's ordinary way opens it), noise (the "
        "paper's Algorithm 2), or an image, video or folder of images to continue. [dim]Default: clip.[/dim]",
    ),
]
IncludeStart = Annotated[
    bool,
    option(
        "--include-start", panel=LOOK, help="Put the frames of the --start file first in the video, with their sound."
    ),
]
StartEveryFrame = Annotated[
    bool,
    option(
        "--start-every-frame",
        panel=LOOK,
        help="Take all frames of the --start file. [dim]Default: as many as the model makes per second, so that motion "
        "keeps its speed.[/dim]",
    ),
]
StartFit = Annotated[
    Fit | None,
    option(
        metavar="HOW",
        panel=LOOK,
        help="Bring the --start file to the shape of the video: cut off what is too much (crop), or add black bars "
        "(pad). [dim]Default: crop.[/dim]",
    ),
]
PromptChange = Annotated[
    Change | None,
    option(
        metavar="HOW",
        panel=LOOK,
        help="How a --schedule changes the prompt: for new frames (tail), for all frames in work at once (queue), "
        "or gradually from one to the next (blend). [dim]Default: tail.[/dim]",
    ),
]
NumPartitions = Annotated[
    int | None,
    option(
        check=at_least(1, 4096),
        metavar="N",
        panel=METHOD,
        help="n: each adds f denoising steps to every frame. [dim]Default: 4.[/dim]",
    ),
]
Lookahead = Annotated[
    bool | None,
    option("--lookahead/--no-lookahead", panel=METHOD, help="Twice the work for less flicker. [dim]Default: on.[/dim]"),
]
BandedLookahead = Annotated[
    bool,
    option(
        "--banded-lookahead",
        panel=METHOD,
        help="Lookahead by one pass of the whole queue: nearly the work of --no-lookahead.",
    ),
]
FramesPerLevel = Annotated[
    int | None,
    option(
        check=at_least(1, 65536),
        metavar="N",
        panel=METHOD,
        help="b: this many neighbours share a noise level: b times faster, coarser. [dim]Default: 1.[/dim]",
    ),
]
NumInferenceSteps = Annotated[
    int | None,
    option(check=at_least(1, 65536), metavar="N", panel=METHOD, help="Only to be explicit: it must be n f / b."),
]
Eta = Annotated[
    float | None,
    option(
        check=between(0, 1),
        metavar="X",
        panel=METHOD,
        help="Fresh noise per step, 0 to 1. [dim]Default: the model's.[/dim]",
    ),
]
Window = Annotated[
    int | None,
    option(
        check=at_least(2, 4096),
        metavar="N",
        panel=METHOD,
        help="f: frames that the model sees at once. [dim]Default: the model's.[/dim]",
    ),
]
WindowsPerBatch = Annotated[
    int | None,
    option(
        check=at_least(1, 65536),
        metavar="N",
        panel=METHOD,
        help="Windows that go through the model together. [dim]Default: 1 on a CPU, else as many as fit.[/dim]",
    ),
]
OffloadTextEncoder = Annotated[
    bool,
    option(
        "--offload-text-encoder",
        panel=MODEL,
        help="Keep the text encoder in host memory, but while it encodes a prompt: room on the GPU for the rest.",
    ),
]
Compile = Annotated[
    bool,
    option(
        "--compile",
        panel=MODEL,
        help="torch.compile the model: faster frames after minutes of compiling. On a CPU it wants a C++ compiler.",
    ),
]
Compat = Annotated[
    Profile | None,
    option(metavar="published", panel=METHOD, help="published: do what the paper's published code does."),
]
SchedulerExact = Annotated[
    bool, option("--scheduler-exact", panel=METHOD, help="Step exactly as the model's scheduler does.")
]
MethodName = Annotated[
    Method | None,
    option(
        "--method",
        metavar="METHOD",
        panel=BASELINE_PANEL,
        help="freenoise (FreeNoise), genl (Gen-L-Video), chunked (each chunk goes on from the last frames of the one "
        "before), plain (all frames in one pass). Steps: --num-inference-steps, by default 50. "
        "[dim]Default: fifo.[/dim]",
    ),
]
Stride = Annotated[
    int | None,
    option(
        check=at_least(1, 65536),
        metavar="N",
        panel=BASELINE_PANEL,
        help="freenoise, genl: frames from one window to the next. [dim]Default: 4.[/dim]",
    ),
]
Overlap = Annotated[
    int | None,
    option(
        check=at_least(1, 65536),
        metavar="N",
        panel=BASELINE_PANEL,
        help="chunked: frames that a chunk has in common with the one before. [dim]Default: 1.[/dim]",
    ),
]
Fps = Annotated[
    float | None,
    option(
        metavar="X",
        check=above(0, 1000),
        panel=FILES,
        help="Frames per second at which it plays. [dim]Default: the model's.[/dim]",
    ),
]
FpsCondition = Annotated[
    float | None,
    option(
        metavar="X",
        check=above(0, 1000),
        panel=MODEL,
        help="The frame rate that the model is told, where it takes one.",
    ),
]
Scheduler = Annotated[
    str | None,
    option(
        metavar="NAME[:key=value,...]",
        panel=MODEL,
        help="Sample with another scheduler of diffusers, euler:use_karras_sigmas=true say. "
        "[dim]Default: the model's.[/dim]",
    ),
]
FlowShift = Annotated[
    float | None,
    option(
        metavar="X",
        check=above(0, 1e4),
        panel=MODEL,
        help="Shift of the noise levels of a flow-matching model (Wan, SkyReels). [dim]Default: its publisher's.[/dim]",
    ),
]
Dtype = Annotated[
    Precision | None,
    option(
        metavar="TYPE",
        panel=MODEL,
        help="Precision of the weights: float32, float16 or bfloat16. "
        "[dim]Default: float16 on a GPU, else float32; convert keeps the checkpoint's.[/dim]",
    ),
]
Device = Annotated[
    str | None,
    option(metavar="DEVICE", panel=MODEL, help="cpu, cuda, cuda:1, mps. [dim]Default: a GPU where there is one.[/dim]"),
]
Scale = Annotated[
    int | None,
    option(
        check=at_least(1, 1024),
        metavar="N",
        panel=FILES,
        help="Enlarge this many times, without smoothing (for toybox: 4).",
    ),
]
WriteInTurn = Annotated[
    bool,
    option(
        "--write-in-turn",
        panel=FILES,
        help="Encode and write each frame before the next is computed, not beside it.",
    ),
]
Overwrite = Annotated[bool, option("--overwrite", panel=FILES, help="Replace outputs that exist.")]
Prompts = Annotated[
    Path | None,
    option(
        metavar="FILE",
        panel=FILES,
        help="Many videos: a prompt per line (# for comments). They are numbered: OUT_000.mp4 or OUT/000-....mp4. "
        "The same again makes those that are not finished.",
    ),
]
Schedule = Annotated[
    Path | None,
    option(
        metavar="FILE",
        panel=FILES,
        help='One video with many prompts: lines such as "120: a blue ball" (from frame 120 on), "1:30: a blue ball" '
        'or "90s: a blue ball"; or JSON. Frame 0 must be there.',
    ),
]
State = Annotated[
    Path | None,
    option(metavar="FILE", panel=FILES, help="Keep the run here, and continue it from here if the file exists."),
]
StateEvery = Annotated[
    int | None,
    option(
        check=at_least(1),
        metavar="N",
        panel=FILES,
        help="Frames between two writes of --state. [dim]Default: 50, and at least once a minute.[/dim]",
    ),
]
DryRun = Annotated[
    bool, option("--dry-run", panel=TALK, help="Print the queue, the cost, memory and time; make nothing.")
]
Quiet = Annotated[bool, option("-q", "--quiet", panel=TALK, help="No progress; errors only.")]
Debug = Annotated[bool, option("--debug", panel=TALK, help="Warnings of libraries, and where errors arose.")]
