"""The settings of a stream of frames, each a field: those of `FIFO.stream`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fifo_diffusion.settings.guidance import GuidanceSettings
from fifo_diffusion.settings.kinds import Anything, Choice, Flag, Function, Number, Numbers, Text, Whole
from fifo_diffusion.settings.queue import QueueSettings, WindowSettings
from fifo_diffusion.settings.spec import (
    FIFO,
    IN_NOTES,
    IN_SETTINGS,
    LENGTH,
    LOOK,
    METHOD,
    RUN,
    STREAM,
    setting,
)
from fifo_diffusion.settings.tail import TailSettings


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Which video."""

    prompt: Any = setting(
        None,
        Text(),
        STREAM,
        "What should be seen, in quotes.",
        positional=True,
        metavar="[PROMPT]",
        wider=True,
        doc="a text; a list of texts for a batch of videos; or {frame: text} with key 0, a schedule in frames that the "
        'viewer sees, whose values may be {"prompt": text, "change": way}. With a saved run as start it may be left '
        "out, is the prompt from here on, or a schedule that says what is so of frames that are fixed. In place of a "
        "text, wherever one stands, a text that is encoded already: a dictionary with `prompt_embeds` (videos, tokens, "
        "D) and whatever else of that kind the pipeline's own call takes (`negative_prompt_embeds`, "
        "`pooled_prompt_embeds`, `negative_pooled_prompt_embeds`). For one prompt throughout, these may be arguments "
        "too.",
    )
    num_frames: int | None = setting(
        None,
        Whole(1, 10**9),
        STREAM,
        "Number of frames in all.",
        LENGTH,
        names=("-n", "--num-frames"),
        metavar="N",
        usual="160",
        doc="number of frames to hand out; None: without end. The first N frames do not depend on it.",
    )
    seed: int | Sequence[int] | None = setting(
        None,
        Whole(0, 2**64 - 1),
        STREAM,
        "The same number makes the same video again.",
        LOOK,
        metavar="N",
        wider=True,
        usual="random; it is printed, and kept in the file",
        doc="one for the first video of a batch (the others count up), or one for each.",
    )
    num_inference_steps: int | None = setting(
        None,
        Whole(1, 65536),
        STREAM,
        "Only to be explicit: it must be n f / b.",
        METHOD,
        metavar="N",
        doc="only to be explicit; must equal n f / b.",
    )


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(WindowSettings):
    """What every method's video is shaped by."""

    negative_prompt: Any = setting(
        None,
        Text(),
        STREAM,
        "What should not be seen.",
        LOOK,
        metavar="TEXT",
        wider=True,
        saved=IN_SETTINGS,
        nullable=True,
        doc="as in the pipeline's own call: one for all videos, or one for each.",
    )
    guidance_scale: float | None = setting(
        None,
        Number(-1000, 1000),
        STREAM,
        "How closely the prompt is followed; 1 is off and twice as fast.",
        LOOK,
        metavar="X",
        usual="the model's",
        saved=IN_SETTINGS,
        doc="as in the pipeline's own call. None: the model's.",
    )
    height: int | None = setting(
        None,
        Whole(1, 16384),
        STREAM,
        "Pixels.",
        LOOK,
        metavar="N",
        usual="the model's",
        saved=IN_SETTINGS,
        doc="in pixels. Left out, it is the model's, or in the shape of the given frames where the model makes other "
        "shapes than its own (`VideoModel.other_shapes`).",
    )
    width: int | None = setting(
        None,
        Whole(1, 16384),
        STREAM,
        "Pixels.",
        LOOK,
        metavar="N",
        usual="the model's",
        saved=IN_SETTINGS,
        doc="in pixels, as height.",
    )
    eta: float | None = setting(
        None,
        Number(0, 1),
        STREAM,
        "Fresh noise per step, 0 to 1.",
        METHOD,
        metavar="X",
        usual="the model's",
        saved=IN_SETTINGS,
        doc="fresh noise per step, 0 (DDIM) to 1; the paper uses 0.5 or 1. None: the model's.",
    )
    scheduler_exact: bool = setting(
        False,
        Flag(),
        STREAM,
        "Step exactly as the model's scheduler does.",
        METHOD,
        saved=IN_SETTINGS,
        doc="step to where the scheduler's own `step` goes.",
    )
    timesteps: Sequence[float] | None = setting(
        None,
        Numbers(0, 1e6),
        STREAM,
        "The timesteps of the denoising steps, falling: 999,759,499,259 for a model distilled to these.",
        METHOD,
        metavar="T,T,...",
        usual="as the scheduler spaces them",
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc="as in the calls of diffusers: the timesteps themselves, in descending order, in place of the scheduler's "
        "own spacing; as many as the queue has levels, n f / b. For models that were distilled to certain steps.",
    )
    sigmas: Sequence[float] | None = setting(
        None,
        Numbers(0, 1e6),
        STREAM,
        "The same in sigmas: 1,0.75,0.5,0.25 for a flow-matching model, before its shift.",
        METHOD,
        metavar="S,S,...",
        usual="as the scheduler spaces them",
        saved=IN_SETTINGS,
        nullable=True,
        older=None,
        doc="the same in the scheduler's sigmas (with flow matching before its shift), instead of `timesteps`; whether "
        "a last 0 belongs to them is up to its class, as in diffusers.",
    )


@dataclass(frozen=True, kw_only=True)
class FifoSettings(TailSettings, QueueSettings, GuidanceSettings, SamplingSettings):
    """What a video of FIFO-Diffusion is shaped by; a state file holds all of these."""

    prompt_change: str = setting(
        "tail",
        Choice("tail", "queue", "blend"),
        STREAM,
        "How a --schedule changes the prompt: for new frames (tail), for all frames in the queue at once (queue), or "
        "gradually from one to the next (blend).",
        LOOK,
        metavar="HOW",
        methods=FIFO,
        saved=IN_SETTINGS,
        doc='"tail", "queue" or "blend"; see `Schedule`.',
    )
    compat: str | None = setting(
        None,
        Choice("published"),
        STREAM,
        "published: do what the paper's published code does.",
        METHOD,
        metavar="published",
        methods=FIFO,
        saved=IN_SETTINGS,
        nullable=True,
        doc='"published" does what the published code of this model family does.',
    )


@dataclass(frozen=True, kw_only=True)
class StreamSettings(FifoSettings, VideoSettings):
    """Every argument of `FIFO.stream` but those for the pipeline's own call."""

    windows_per_batch: int | None = setting(
        None,
        Whole(1, 65536),
        STREAM,
        "Windows that go through the model together.",
        METHOD,
        metavar="N",
        methods=FIFO,
        usual="1 on a CPU, else as many as fit",
        doc="windows sent through the model at once; None: one on a CPU, else as many as fit. With "
        'lookahead="banded": the work inside layers is cut so that this many times f frames go through them at once.',
    )
    pace: bool | float = setting(
        False,
        Flag(),
        RUN,
        "Frames come no faster than they play, for whoever watches them as they come.",
        LENGTH,
        wider=True,
        methods=FIFO,
        doc="hand frames out no faster than they play, for live viewing: frame k no earlier than k / fps seconds after "
        "the first. True: at the stream's own `fps`; or a rate in frames per second. Who falls behind by more than the "
        "frames that leave the queue together does not catch up.",
    )
    start: Any = setting(
        "clip",
        Text(),
        STREAM,
        "What the video grows out of: clip (a clip made in the model's ordinary way opens it), noise (the paper's "
        "Algorithm 2), or an image, video or folder of images to continue.",
        LOOK,
        metavar="START",
        wider=True,
        methods=FIFO,
        saved=IN_NOTES,
        doc='"clip" (a clip sampled by the base model opens the video), "noise" (Algorithm 2), an image, a path to an '
        "image, video or folder, frames, clean latents, a `RunState` or a path to one.",
    )
    include_start: bool = setting(
        False,
        Flag(),
        STREAM,
        "Put the frames of the --start file first in the video, with their sound.",
        LOOK,
        methods=FIFO,
        saved=IN_NOTES,
        of_file=True,
        doc="hand out the given frames too, first (those of a file are read as they are handed out). Fewer than f are "
        "the beginning of the clip that opens the video: they come as the model's autoencoder renders them, like the "
        "rest of it. Frames have no sound: see `fifo_diffusion.video.add_sound`.",
    )
    start_every_frame: bool = setting(
        False,
        Flag(),
        STREAM,
        "Take all frames of the --start file.",
        LOOK,
        usual="as many as the model makes per second, so that motion keeps its speed",
        methods=FIFO,
        saved=IN_NOTES,
        older=True,
        of_file=True,
        doc="take all frames of a file. By default one with times (a video, an animation) is taken at the model's "
        "frame rate, as a player would show it, so that motion keeps its speed; images and folders of images are "
        "always taken whole.",
    )
    start_fit: str = setting(
        "crop",
        Choice("crop", "pad"),
        STREAM,
        "Bring the --start file to the shape of the video: cut off what is too much (crop), or add black bars (pad).",
        LOOK,
        metavar="HOW",
        methods=FIFO,
        saved=IN_NOTES,
        older="crop",
        of_file=True,
        doc='"crop" cuts given frames around the centre to the shape of the video, "pad" adds black bars.',
    )
    generator: Any = setting(
        None,
        Anything(),
        STREAM,
        doc="draws the seed (a `torch.Generator`); or a list of generators, one for each video. Not together with "
        "`seed`. With neither the seed is random (`stream.seed`).",
    )
    noise: Callable[..., Any] | None = setting(
        None, Function(), STREAM, methods=FIFO, doc="other noise than the seeded one; see `Noise`."
    )
    callback_on_frame: Callable[[int, Any], None] | None = setting(
        None,
        Function(),
        STREAM,
        methods=FIFO,
        doc="called with (frame number, frame) for every frame handed out; where it fails, the frame "
        "comes with the next call",
    )
