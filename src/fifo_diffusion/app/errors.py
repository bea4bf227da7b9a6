"""Errors as one line for the shell, and their exit codes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

FAILURE, USAGE = 1, 2

OUT_OF_MEMORY = (
    "the device is out of memory: add --windows-per-batch 1 or --offload-text-encoder, or use fewer --num-partitions, "
    "a smaller --height and --width, --dtype float16 or --device cpu"
)


LOOKAHEAD_OPTIONS = {True: "--lookahead", False: "--no-lookahead", "banded": "--banded-lookahead"}


class CliError(Exception):
    """What the user is told, in one line.

    Attributes:
        code: exit code: 2 where the command should be typed differently, 1 where a right command failed.
    """

    def __init__(self, message: str, code: int = FAILURE) -> None:
        super().__init__(one_line(message))
        self.code = code


def usage(message: str) -> CliError:
    """An error in what was typed."""
    return CliError(message, USAGE)


@contextmanager
def checking() -> Iterator[None]:
    """Errors raised in this block mean that something was typed wrongly."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise usage(in_shell_words(str(error))) from error


def explain(error: Exception) -> CliError:
    """Any error as one line."""
    if isinstance(error, CliError):
        return error
    from fifo_diffusion.video import VideoFileError

    text = in_shell_words(str(error))
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in text.lower():
        return CliError(OUT_OF_MEMORY)
    if "InvalidCxxCompiler" in text:
        return CliError("--compile wants a C++ compiler on a CPU, and there is none: install g++, or leave it out")
    if isinstance(error, VideoFileError | OSError) or type(error).__name__ == "RankError":
        return CliError(text)
    return CliError(f"unexpected {type(error).__name__}: {text} (add --debug to see where)")


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def in_shell_words(message: str) -> str:
    """A message that names arguments as in Python, as one that names the options of the shell command."""
    message = re.sub(r" \(in Python: [^)]*\)", "", message)
    for typed, option in LOOKAHEAD_OPTIONS.items():
        message = message.replace(f"lookahead={typed!r}", option).replace(f'lookahead="{typed}"', option)
    message = re.sub(r"\b([a-z]+(?:_[a-z]+)*)=(?=[\w\"'.+-])", lambda m: f"{as_option(m[1])} ", message)
    message = re.sub(r'(--[a-z-]+) ["\'](\w+)["\']', r"\1 \2", message)
    options = "|".join(sorted(_OPTIONS_WITH_UNDERSCORE, key=len, reverse=True))
    return one_line(re.sub(rf"(?<![\w.])({options})\b", lambda m: as_option(m[1]), message))


def as_option(name: str) -> str:
    """num_partitions -> --num-partitions"""
    return "--" + name.replace("_", "-")


# Bare words such as "height" or "seed" read well as they are; these do not.
_OPTIONS_WITH_UNDERSCORE = (
    "num_partitions",
    "num_frames",
    "num_inference_steps",
    "frames_per_level",
    "guidance_scale",
    "negative_prompt",
    "windows_per_batch",
    "offload_text_encoder",
    "include_start",
    "prompt_change",
    "scheduler_exact",
)
