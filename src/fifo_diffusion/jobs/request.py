"""What was asked for on the command line, checked as far as that goes without loading anything heavy."""

import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import LOOKAHEAD_OPTIONS, as_option, usage
from fifo_diffusion.jobs.baselines import check_method
from fifo_diffusion.jobs.prompt_files import (
    MOST_FRAMES,
    Schedule,
    check_prompt,
    first_prompt,
    read_prompts,
    read_schedule,
)
from fifo_diffusion.text import shell_words

DEFAULT_MODEL = "toybox"
DEFAULT_FRAMES = 160
DEFAULT_STATE_EVERY, DEFAULT_STATE_SECONDS = 50, 60
STARTS = ("clip", "noise")
DTYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
DTYPES |= {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
SAMPLING = ("scheduler", "flow_shift")
"""Options that say what the model is sampled by, as arguments of `FIFO.from_pretrained`."""

STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

STREAM_OPTIONS = (
    "num_partitions",
    "lookahead",
    "frames_per_level",
    "window",
    "num_inference_steps",
    "eta",
    "guidance_scale",
    "negative_prompt",
    "height",
    "width",
    "start",
    "include_start",
    "start_every_frame",
    "start_fit",
    "compat",
    "prompt_change",
    "scheduler_exact",
)
"""Options that are arguments of `FIFO.stream` under the same name, and shape the video."""

Prompt = str | dict[int, str] | Schedule


@dataclass(frozen=True)
class Video:
    """One video to make.

    Attributes:
        prompt, output, seed: of it.
        finished: it is there already.
        goes_on: a part of it is there, and the state file continues it.
        replaces: what is there may be overwritten.
    """

    prompt: Prompt
    output: str
    seed: int
    finished: bool = False
    goes_on: bool = False
    replaces: bool = False


@dataclass
class Request:
    """A `generate` command.

    Attributes:
        given: the options that were typed, by name; the others are missing.
        videos: what to make; empty where a state file says it (`continues`).
        continues: the state file that is there already.
    """

    given: dict[str, Any]
    videos: list[Video] = field(default_factory=list)
    continues: Path | None = None

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> "Request":
        """Check options that exclude or need each other, read prompt files and name the outputs."""
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        if options.get("lookahead") is False:
            given["lookahead"] = False
        if given.pop("banded_lookahead", False):
            if "lookahead" in given:
                raise usage(
                    f"{LOOKAHEAD_OPTIONS[given['lookahead']]} and --banded-lookahead exclude each other: give one"
                )
            given["lookahead"] = "banded"
        check_method(given)
        request = cls(given)
        request._check_together()
        state = request.state_file
        if state is not None and state.exists():
            if "overwrite" in given:
                raise usage(f"{state} exists and would be continued: leave --overwrite out, or delete {state} first")
            request.continues = None if request.batch else state
        request._check_start()
        request._check_state()
        request.videos = request._videos()
        return request

    def get(self, name: str, default: Any = None) -> Any:
        """An option, or the default where it was not typed."""
        return self.given.get(name, default)

    @property
    def state_file(self) -> Path | None:
        return Path(self.given["state"]) if "state" in self.given else None

    @property
    def batch(self) -> str | None:
        """The name that the outputs of --prompts are numbered after."""
        if "prompts" not in self.given:
            return None
        return self.given.get("output") or Path(self.given["prompts"]).with_suffix(".mp4").name

    @property
    def method(self) -> str:
        return self.given.get("method", "fifo")

    @property
    def quiet(self) -> bool:
        return "quiet" in self.given

    @property
    def prompt(self) -> Prompt | None:
        """The prompt or schedule that was typed, if one was."""
        if "schedule" in self.given:
            return read_schedule(Path(self.given["schedule"]))
        return self.given.get("prompt")

    def num_frames(self, fps: float) -> int | None:
        """Frames in all, where it was typed; None for --forever."""
        if "forever" in self.given:
            return None
        if "seconds" in self.given:
            frames = self.given["seconds"] * fps
            if frames > MOST_FRAMES:
                raise usage(
                    f"--seconds {self.given['seconds']:g} are {frames:g} frames at {fps:g} frames/s: give at most "
                    f"{MOST_FRAMES / fps:g}, or --forever"
                )
            return max(1, round(frames))
        return self.given.get("num_frames", DEFAULT_FRAMES)

    @property
    def length_given(self) -> bool:
        return any(name in self.given for name in ("num_frames", "seconds", "forever"))

    # ------------------------------------------------------------------ checks

    def _check_together(self) -> None:
        self._at_most_one("prompt", "prompts", "schedule")
        self._at_most_one("num_frames", "seconds", "forever")
        if not any(name in self.given for name in ("prompt", "prompts", "schedule")):
            state = self.state_file
            if state is None:
                raise usage(
                    'a prompt is missing: fifo-diffusion generate "a red ball moving right on a navy background"'
                )
            if not state.exists():
                raise usage(f"there is no state file {state} to continue: for a new video give a prompt too")
        if self.given.get("prompt") is not None and not self.given["prompt"].strip():
            raise usage("the prompt is empty: say what should be seen")
        for name in ("prompt", "negative_prompt"):
            check_prompt(self.given.get(name) or "", "the prompt" if name == "prompt" else "--negative-prompt")
        if "prompts" in self.given and "forever" in self.given:
            raise usage("--forever never comes to the second video of --prompts: use --num-frames")
        if self.given.get("output") in STANDARD_OUTPUT:
            self.given["output"] = "-"
        if self.given.get("output", "-").startswith("--"):
            raise usage(
                f"-o {self.given['output']}: an option where a name should be; for such a name type ./ before it"
            )
        if self.given.get("output") == "-":
            for name in ("prompts", "state"):
                if name in self.given:
                    raise usage(f"{as_option(name)} needs a file as output: - is a pipe")
        if "state_every" in self.given and "state" not in self.given:
            raise usage("--state-every goes with --state FILE")
        if "output" in self.given and not self.given["output"].strip():
            raise usage("the output's name is empty: -o ball.mp4")

    def _at_most_one(self, *names: str) -> None:
        typed = [name for name in names if name in self.given]
        if len(typed) > 1:
            words = ["a PROMPT" if name == "prompt" else as_option(name) for name in typed]
            raise usage(f"{' and '.join(words)} exclude each other: give one of them")

    def _check_start(self) -> None:
        start = self.given.get("start", "clip")
        if start in STARTS:
            for name in ("include_start", "start_every_frame", "start_fit"):
                if name in self.given:
                    raise usage(f"{as_option(name)} goes with a file as --start, not with {start}")
            return
        if not start:
            raise usage("--start is empty: give clip, noise, an image, a video or a folder")
        if start.endswith(".safetensors"):
            raise usage(f"a saved run is continued with --state {start}, not with --start")
        if not os.path.exists(start):  # False, too, for names that no system takes
            raise usage(f"--start {start}: there is no such file; give clip, noise, an image, a video or a folder")

    def _check_state(self) -> None:
        """The state file takes the place of what has its name."""
        state = self.state_file
        if state is not None and any(0xDC80 <= ord(c) <= 0xDCFF for c in str(state)):
            raise usage(f"--state {state}: its name is not UTF-8, and it could not be read again: choose another")
        for name in ("output", "start", "schedule", "prompts"):
            other = self.given.get(name)
            if state is not None and other is not None and os.path.realpath(state) == os.path.realpath(other):
                typed = "-o" if name == "output" else as_option(name)
                raise usage(f"--state and {typed} both name {other}: give the state a file of its own")

    # ------------------------------------------------------------------ what to make

    def _videos(self) -> list[Video]:
        if self.continues:
            return []
        seed = self.given.get("seed")
        seed = random.randrange(2**31) if seed is None else seed
        output = self.given.get("output")
        if "prompts" in self.given:
            prompts = read_prompts(Path(self.given["prompts"]))
            output = self.batch
            assert output is not None
            if seed + len(prompts) > 2**64:
                raise usage(f"--seed {seed} counts up for {len(prompts)} videos: give at most {2**64 - len(prompts)}")
            return [Video(p, numbered(output, k, p), (seed + k) % 2**64) for k, p in enumerate(prompts)]
        prompt = self.prompt
        assert prompt is not None
        text = prompt if isinstance(prompt, str) else first_prompt(prompt)
        return [Video(prompt, output or f"{slug(text)}.mp4", seed)]

    def command(self, **changes: Any) -> str:
        """This command again, with changed options (None takes one out), as it would be typed."""
        options = self.given | changes
        prompt = options.pop("prompt", None)
        words: list[str] = ["fifo-diffusion", "generate"]
        if prompt is not None and not prompt.startswith("-"):
            words.append(prompt)
        for name, value in options.items():
            if (name in ("debug", "quiet", "dry_run", "overwrite") and name not in changes) or value is None:
                continue
            if name == "lookahead":
                words.append(LOOKAHEAD_OPTIONS[value])
            elif isinstance(value, bool):
                words.append(as_option(name if value else f"no_{name}"))
            else:
                words += ["-o" if name == "output" else as_option(name), str(value)]
        if prompt is not None and prompt.startswith("-"):
            words += ["--", prompt]  # else it would be taken for an option
        return shell_words(words)


def slug(text: str) -> str:
    """A prompt as a short file name."""
    words = re.findall(r"\w+", text.lower())
    name = ""
    for word in words:
        if name and len(name) + len(word) > 50:
            break
        name += f"-{word}" if name else word[:50]
    return name or "video"


def numbered(output: str, index: int, prompt: str) -> str:
    """The output of one of several videos: out.mp4 -> out_000.mp4, a folder -> folder/000-prompt.mp4."""
    path = Path(output)
    if output.endswith("/") or not path.suffix:
        return str(path / f"{index:03d}-{slug(prompt)}.mp4")
    return str(path.with_name(f"{path.stem}_{index:03d}{path.suffix}"))


def model_id(name: str) -> str:
    """A model's name that means the same in another folder."""
    return str(Path(name).resolve()) if Path(name).exists() else name
