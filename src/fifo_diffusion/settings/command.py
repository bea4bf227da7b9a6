"""The settings of a whole run: those of its stream, and of the model, the files and the run itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fifo_diffusion.method_list import BASELINES as METHODS
from fifo_diffusion.method_list import methods
from fifo_diffusion.settings.baselines import BaselineArguments
from fifo_diffusion.settings.kinds import Choice, Flag, Listed, Number, Size, Text, Texts, Whole
from fifo_diffusion.settings.spec import (
    BASELINES,
    FIFO,
    FILES,
    IN_NOTES,
    LENGTH,
    LOAD,
    LOGGING,
    MODEL,
    OUTPUT,
    RUN,
    SAMPLING,
    option_of,
    setting,
    specs,
)
from fifo_diffusion.settings.stream import StreamSettings
from fifo_diffusion.text import shell_words

STARTS = ("clip", "noise")
"""Starts that are no files."""

OFFLOADS = ("model", "sequential", "group")
"""Where weights are while they do not work: ways of diffusers to keep them in host memory."""

DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
DTYPES |= {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Settings(StreamSettings, BaselineArguments):
    """Everything that can be set for a video, and which of it was.

    Attributes:
        given: the settings that were given, by name, in the order in which they were.
    """

    output: str | None = setting(
        None,
        Text(),
        OUTPUT,
        "ball.mp4, .webm or .gif; a folder of PNGs (frames/); - for raw video (y4m) on standard output.",
        FILES,
        names=("-o", "--output"),
        metavar="OUT",
        usual="named after the prompt, .mp4, in this folder",
    )
    model: str | None = setting(
        None,
        Text(),
        LOAD,
        "A Hugging Face id (owner/name), a folder with a diffusers pipeline, an original VideoCrafter model.ckpt, or "
        "toybox, the small model that comes with this program; toybox-diagonal is the same, trained for the queue.",
        MODEL,
        names=("-m", "--model"),
        metavar="MODEL",
        usual="toybox",
        saved=IN_NOTES,
    )
    seconds: float | None = setting(
        None,
        Number(0, 1e9, above=True),
        RUN,
        "Instead of frames: seconds of video, at --fps.",
        LENGTH,
        metavar="X",
    )
    forever: bool = setting(False, Flag(), RUN, "Go on until Ctrl-C.", LENGTH)
    method: str = setting(
        "fifo",
        Listed(methods),
        RUN,
        lambda: (
            f"{', '.join(f'{name} ({each.about})' for name, each in METHODS.items())}. "
            "Steps: --num-inference-steps, by default 50."
        ),
        BASELINES,
        metavar="METHOD",
    )
    fps: float | None = setting(
        None,
        Number(0, 1000, above=True),
        OUTPUT,
        "Frames per second at which it plays.",
        FILES,
        metavar="X",
        usual="the model's",
        saved=IN_NOTES,
    )
    fps_condition: float | None = setting(
        None,
        Number(0, 1000, above=True),
        LOAD,
        "The frame rate that the model is conditioned on, where it takes one.",
        MODEL,
        metavar="X",
        saved=IN_NOTES,
        nullable=True,
    )
    scheduler: str | None = setting(
        None,
        Text(),
        SAMPLING,
        "Sample with another scheduler of diffusers, euler:use_karras_sigmas=true say.",
        MODEL,
        metavar="NAME[:key=value,...]",
        usual="the model's",
        saved=IN_NOTES,
        nullable=True,
        older=None,
    )
    flow_shift: float | None = setting(
        None,
        Number(0, 1e4, above=True),
        SAMPLING,
        "Shift of the noise levels of a flow-matching model (Wan, SkyReels).",
        MODEL,
        metavar="X",
        usual="its publisher's",
        saved=IN_NOTES,
        nullable=True,
        older=None,
    )
    lora: list[str] | None = setting(
        None,
        Texts(),
        SAMPLING,
        "A LoRA for the model: a .safetensors file or a Hugging Face id, and how strongly it acts "
        "(style.safetensors:0.8). May be given several times. Of two transformers (Wan 2.2), NAME@high or NAME@low "
        "names one.",
        MODEL,
        metavar="NAME[:scale]",
        saved=IN_NOTES,
        nullable=True,
        older=None,
    )
    quantize: str | None = setting(
        None,
        Text(),
        SAMPLING,
        "Fewer bits for each weight of the denoiser: int8 (by torchao), fp8, or FILE.gguf, which has the weights. "
        "About half the memory of half precision, another video.",
        MODEL,
        metavar="int8|fp8|FILE.gguf",
        usual="as --dtype",
        saved=IN_NOTES,
        nullable=True,
        older=None,
    )
    vae_tiling: bool = setting(
        False,
        Flag(),
        SAMPLING,
        "Decode each frame in overlapping tiles (the autoencoder's own enable_tiling): less memory for large frames, a "
        "little slower, other pixels where tiles meet.",
        MODEL,
        saved=IN_NOTES,
        older=False,
    )
    dtype: str | None = setting(
        None,
        Choice("float32", "float16", "bfloat16", meaning={k: v for k, v in DTYPES.items() if k != v}),
        LOAD,
        "Precision of the weights: float32, float16 or bfloat16.",
        MODEL,
        metavar="TYPE",
        usual="float16 or bfloat16 on a GPU, as the model is made for, else float32; convert keeps the checkpoint's",
        saved=IN_NOTES,
    )
    device: str | None = setting(
        None,
        Text(),
        LOAD,
        "cpu, cuda, cuda:1, mps.",
        MODEL,
        metavar="DEVICE",
        usual="a GPU where there is one",
    )
    offload_text_encoder: bool = setting(
        False,
        Flag(),
        LOAD,
        "Keep the text encoder in host memory, except while it encodes a prompt: room on the GPU for the rest.",
        MODEL,
    )
    offload: str | None = setting(
        None,
        Choice(*OFFLOADS),
        LOAD,
        "Weights in host memory, for models larger than the GPU: model (each network is on the GPU while it works, the "
        "denoiser once an iteration of the queue), group (each layer while it works; the next comes meanwhile) or "
        "sequential (each layer, one after the other: least memory, slowest).",
        MODEL,
        metavar="WAY",
        usual="all on the GPU",
    )
    shard_weights: bool = setting(
        False,
        Flag(),
        LOAD,
        "Under torchrun: each rank holds a share of the denoiser's weights, and lends it to the others. For models "
        "larger than a GPU.",
        MODEL,
        methods=FIFO,
    )
    compile: bool = setting(
        False,
        Flag(),
        LOAD,
        "torch.compile the model: faster frames after minutes of compiling. On a CPU it needs a C++ compiler.",
        MODEL,
        methods=FIFO,
    )
    scale: int = setting(
        1,
        Whole(1, 1024),
        OUTPUT,
        "Enlarge this many times, without smoothing (for toybox: 4).",
        FILES,
        metavar="N",
        saved=IN_NOTES,
    )
    write_in_turn: bool = setting(
        False, Flag(), OUTPUT, "Encode and write each frame before the next is computed, not beside it.", FILES
    )
    overwrite: bool = setting(False, Flag(), OUTPUT, "Replace outputs that exist.", FILES, remade=False)
    drift: str | None = setting(
        None,
        Text(),
        OUTPUT,
        "Write here, as JSON lines, how the video drifts while it is made: what frames 2 to 500 apart have in common, "
        "colours, flicker, motion and cuts. Given again with --state, it goes on.",
        FILES,
        metavar="FILE",
        remade=False,
    )
    prompts: str | None = setting(
        None,
        Text(),
        RUN,
        "Many videos: a prompt per line (# for comments). They are numbered: OUT_000.mp4 or OUT/000-....mp4. The same "
        "again makes those that are not finished.",
        FILES,
        metavar="FILE",
    )
    schedule: str | None = setting(
        None,
        Text(),
        RUN,
        'One video with many prompts: lines such as "120: a blue ball" (from frame 120 on), "1:30: a blue ball" or '
        '"90s: a blue ball"; or JSON. Frame 0 must be there.',
        FILES,
        metavar="FILE",
    )
    state: str | None = setting(
        None,
        Text(),
        RUN,
        "Keep the run here, and continue it from here if the file exists.",
        FILES,
        metavar="FILE",
        methods=FIFO,
    )
    state_every: int | None = setting(
        None,
        Whole(1, 10**9),
        RUN,
        "Frames between two writes of --state, or between two states of --run.",
        FILES,
        metavar="N",
        usual="50, and at least once a minute; 32 with --run",
        methods=FIFO,
    )
    run: str | None = setting(
        None,
        Text(),
        RUN,
        "Make the video as a run in this folder of runs: seen and commanded from elsewhere while it is made, with "
        "states to go on, to fork and to extend from. The folder of one run makes it go on.",
        FILES,
        metavar="DIR",
        methods=FIFO,
    )
    keep: str | None = setting(
        None,
        Size(),
        RUN,
        "Room that a run may take: 20GB. Its older states go first.",
        FILES,
        metavar="SIZE",
        usual="no limit",
        methods=FIFO,
    )
    keep_seconds: float | None = setting(
        None,
        Number(0, 1e9, above=True),
        RUN,
        "Of a run with --forever and --keep: seconds of video that are kept when room is short; what is older goes.",
        FILES,
        metavar="X",
        usual="all",
        methods=FIFO,
    )
    dry_run: bool = setting(
        False, Flag(), RUN, "Print the queue, the cost, memory and time; make nothing.", LOGGING, remade=False
    )
    quiet: bool = setting(
        False, Flag(), RUN, "No progress; errors only.", LOGGING, names=("-q", "--quiet"), remade=False
    )
    json: bool = setting(
        False,
        Flag(),
        RUN,
        "For programs: what happens as JSON objects on standard output, one a line; progress stays on standard error.",
        LOGGING,
        remade=False,
    )
    debug: bool = setting(False, Flag(), RUN, "Warnings of libraries, and where errors arose.", LOGGING, remade=False)

    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """From those that were given. None stands for left out."""
        given = {name: value for name, value in values.items() if value is not None}
        return cls(**given, given=given)

    def but(self, **changes: Any) -> "Settings":
        """The same with other values; None takes one out."""
        return self.of({**self.given, **changes})

    @property
    def files(self) -> dict[str, str]:
        """Files and folders that it names, by setting."""
        said = {name: getattr(self, name) for name in ("output", "start", "schedule", "prompts", "state", "drift")}
        return {name: path for name, path in said.items() if path is not None and path not in (*STARTS, "-")}

    @property
    def length_given(self) -> bool:
        return self.num_frames is not None or self.seconds is not None or self.forever


def repeated(settings: Settings, **changes: Any) -> str:
    """The command that asks for the same again, with changes."""
    every, prompt, words = specs(settings), None, ["fifo-diffusion", "generate"]
    for name, value in settings.but(**changes).given.items():
        if name == "prompt":
            prompt = value
        elif every[name].remade or name in changes:
            words += option_of(every[name], value)
    if prompt is not None and prompt.startswith("-"):
        words += ["--", prompt]  # else it would be taken for an option
    elif prompt is not None:
        words.insert(2, prompt)
    return shell_words(words)
