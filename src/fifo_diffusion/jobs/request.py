"""What was asked for on the command line, checked as far as that goes without loading anything heavy."""

import os
import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fifo_diffusion.errors import ArgumentError, Setting, joined, usage
from fifo_diffusion.jobs.baselines import check_method
from fifo_diffusion.jobs.prompt_files import (
    MOST_FRAMES,
    Schedule,
    check_prompt,
    first_prompt,
    read_prompts,
    read_schedule,
)
from fifo_diffusion.settings import STARTS, Settings, repeated, specs

DEFAULT_MODEL = "toybox"
DEFAULT_FRAMES = 160
DEFAULT_STATE_EVERY, DEFAULT_STATE_SECONDS = 50, 60

STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

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
        settings: what was asked for; `settings.given` are those that were given.
        videos: what to make; empty where a state file says it (`continues`).
        continues: the state file that is there already.
    """

    settings: Settings
    videos: list[Video] = field(default_factory=list)
    continues: Path | None = None

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> "Request":
        """Check settings that exclude or need each other, read prompt files and name the outputs."""
        settings = Settings.of(given)
        if settings.output in STANDARD_OUTPUT:
            settings = settings.but(output="-")
        check_method(settings)
        request = cls(settings)
        request._check_together()
        state = request.state_file
        if state is not None and state.exists():
            if settings.overwrite:
                overwrite = Setting("overwrite", True)
                raise usage(
                    f"{state} exists and would be continued: leave ", overwrite, f" out, or delete {state} first"
                )
            request.continues = None if request.batch else state
        request._check_start()
        request._check_state()
        request.videos = request._videos()
        return request

    @property
    def state_file(self) -> Path | None:
        return None if self.settings.state is None else Path(self.settings.state)

    @property
    def batch(self) -> str | None:
        """The name that the outputs of --prompts are numbered after."""
        if self.settings.prompts is None:
            return None
        return self.settings.output or Path(self.settings.prompts).with_suffix(".mp4").name

    @property
    def method(self) -> str:
        return self.settings.method

    @property
    def quiet(self) -> bool:
        return self.settings.quiet

    @property
    def prompt(self) -> Prompt | None:
        """The prompt or schedule that was given, if one was."""
        return self.settings.prompt if self.settings.schedule is None else read_schedule(Path(self.settings.schedule))

    def num_frames(self, fps: float) -> int | None:
        """Frames in all, where it was given; None for --forever."""
        settings = self.settings
        if settings.forever:
            return None
        if settings.seconds is not None:
            frames = settings.seconds * fps
            if frames > MOST_FRAMES:
                raise ArgumentError(
                    *("seconds", settings.seconds, f"they are {frames:g} frames at {fps:g} frames/s; give at most "),
                    *(f"{MOST_FRAMES / fps:g}, or ", Setting("forever", True)),
                )
            return max(1, round(frames))
        return DEFAULT_FRAMES if settings.num_frames is None else settings.num_frames

    # ------------------------------------------------------------------ checks

    def _check_together(self) -> None:
        settings, state = self.settings, self.state_file
        at_most_one(settings.given, "prompt", "prompts", "schedule")
        at_most_one(settings.given, "num_frames", "seconds", "forever")
        if settings.prompt is None and settings.prompts is None and settings.schedule is None:
            if state is None:
                raise usage(
                    'a prompt is missing: fifo-diffusion generate "a red ball moving right on a navy background"'
                )
            if not state.exists():
                raise usage(f"there is no state file {state} to continue: for a new video give a prompt too")
        check_texts(settings.prompt, settings.negative_prompt)
        if settings.prompts is not None and settings.forever:
            never = (Setting("forever", True), " never comes to the second video of ", Setting("prompts"))
            raise usage(*never, ": use ", Setting("num_frames"))
        if (settings.output or "").startswith("--"):
            given = Setting("output", settings.output)
            raise usage(given, ": an option where a name should be; for such a name put ./ before it")
        if settings.output == "-":
            for name in ("prompts", "state"):
                if name in settings.given:
                    raise usage(Setting(name), " needs a file as output: - is a pipe")
            if settings.json and not settings.dry_run:
                raise usage(
                    Setting("json", True),
                    " and ",
                    Setting("output", "-"),
                    " both write to standard output: name a file",
                )
        if settings.drift is not None and settings.prompts is not None:
            raise usage(Setting("drift"), " is of one video: leave ", Setting("prompts"), " out")
        if settings.state_every is not None and state is None and settings.run is None:
            raise usage(Setting("state_every"), " goes with ", Setting("state"), " FILE or ", Setting("run"), " DIR")
        for name in ("keep", "keep_seconds"):
            if name in settings.given and settings.run is None:
                raise usage(Setting(name), " goes with ", Setting("run"), " DIR")
        if settings.output is not None and not settings.output.strip():
            raise usage("the output's name is empty: -o ball.mp4")

    def _check_start(self) -> None:
        start = self.settings.start
        if start in STARTS:
            check_without_file(self.settings.given, start)
            return
        if not start:
            raise ArgumentError("start", start, "give clip, noise, an image, a video or a folder")
        if start.endswith(".safetensors"):
            raise usage("a saved run is continued with ", Setting("state", start), ", not with ", Setting("start"))
        if not os.path.exists(start):  # False, too, for names that no system takes
            raise ArgumentError(
                "start", start, "there is no such file; give clip, noise, an image, a video or a folder"
            )

    def _check_state(self) -> None:
        """The state file takes the place of what has its name."""
        state, settings = self.state_file, self.settings
        if state is None:
            return
        if any(0xDC80 <= ord(c) <= 0xDCFF for c in str(state)):
            raise ArgumentError(
                "state", str(state), "its name is not UTF-8, and it could not be read again: choose another"
            )
        for name, other in settings.files.items():
            if name != "state" and os.path.realpath(state) == os.path.realpath(other):
                both = (Setting("state"), " and ", Setting(name), f" both name {other}")
                raise usage(*both, ": give the state a file of its own")

    # ------------------------------------------------------------------ what to make

    def _videos(self) -> list[Video]:
        if self.continues:
            return []
        seed = random.randrange(2**31) if self.settings.seed is None else self.settings.seed
        output = self.settings.output
        if self.settings.prompts is not None:
            prompts = read_prompts(Path(self.settings.prompts))
            output = self.batch
            assert output is not None
            if seed + len(prompts) > 2**64:
                most = f"give at most {2**64 - len(prompts)}"
                raise ArgumentError("seed", seed, f"it counts up for {len(prompts)} videos; {most}")
            return [Video(p, numbered(output, k, p), (seed + k) % 2**64) for k, p in enumerate(prompts)]
        prompt = self.prompt
        assert prompt is not None
        text = prompt if isinstance(prompt, str) else first_prompt(prompt)
        return [Video(prompt, output or f"{slug(text)}.mp4", seed)]

    def command(self, **changes: Any) -> str:
        """This command again, with changed settings (None takes one out), as a command line."""
        return repeated(self.settings, **changes)


def at_most_one(given: Collection[str], *names: str) -> None:
    """Of settings that exclude each other, not two.

    Raises:
        UsageError: there are.
    """
    found = [Setting(name) for name in names if name in given]
    if len(found) > 1:
        raise usage(*joined(found, " and "), " exclude each other: give one of them")


def check_texts(prompt: str | None, negative_prompt: str | None) -> None:
    """Whether the texts of a request, where they are given, can be meant so.

    Raises:
        UsageError: they cannot.
    """
    if prompt is not None and not prompt.strip():
        raise usage("the prompt is empty: say what should be seen")
    check_prompt(prompt or "", "the prompt")
    check_prompt(negative_prompt or "", "the negative prompt")


def check_without_file(given: Collection[str], start: str) -> None:
    """Without a file to start from, no setting that says how it is taken.

    Raises:
        UsageError: there is one.
    """
    for name, spec in specs(Settings).items():
        if spec.of_file and name in given:
            raise usage(Setting(name), " goes with a file as ", Setting("start"), f", not with {start}")


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


def quantize_id(way: str | None) -> str | None:
    """A way to quantise that means the same in another folder."""
    return way if way is None or not way.endswith(".gguf") else model_id(way)
