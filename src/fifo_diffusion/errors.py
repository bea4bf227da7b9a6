"""Errors as one line for the shell, and their exit codes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.text import one_line

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
        unexpected: whether it is an error that nobody foresaw, of which `--debug` tells more.
    """

    def __init__(self, message: str, code: int = FAILURE, *, unexpected: bool = False) -> None:
        super().__init__(one_line(message))
        self.code, self.unexpected = code, unexpected


def usage(message: str) -> CliError:
    """An error in what was typed."""
    return CliError(message, USAGE)


@contextmanager
def checking() -> Iterator[None]:
    """Errors raised in this block mean that something was typed wrongly."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise usage(_told(error)) from error


def explain(error: Exception) -> CliError:
    """Any error as one line."""
    if isinstance(error, CliError):
        return error
    from fifo_diffusion.video import VideoFileError

    text, kind = _told(error), type(error).__name__
    if isinstance(error, MemoryError):
        return CliError("this machine is out of memory: use fewer --num-partitions, or a smaller --height and --width")
    if is_out_of_memory(error):
        return CliError(OUT_OF_MEMORY)
    if "can't start new thread" in text:
        return CliError("this machine gives no further thread: end other programs, or raise the limit (ulimit -u)")
    if "InvalidCxxCompiler" in text:
        return CliError("--compile wants a C++ compiler on a CPU, and there is none: install g++, or leave it out")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return CliError(f"the Python package {error.name} is missing: fifo-diffusion doctor says what to install")
    if isinstance(error, OSError) and error.strerror:
        return CliError(error.strerror + (f": {error.filename}" if error.filename else ""))
    if isinstance(error, VideoFileError | OSError | FloatingPointError) or kind == "RankError":
        return CliError(text or kind)
    return CliError(f"unexpected {kind}: {text}" if text else f"unexpected {kind}", unexpected=True)


def _told(error: Exception) -> str:
    """What an error says; in words of the shell where it is ours, and unchanged where it is a library's."""
    from fifo_diffusion.video import VideoFileError

    text = str(error)
    if isinstance(error, VideoFileError | OSError):  # they name files, which may be called anything
        return one_line(re.sub(_ASIDE, "", text))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else "fifo_diffusion"
    return in_shell_words(text) if raised_in.split(".")[0] == "fifo_diffusion" else one_line(text)


def in_shell_words(message: str) -> str:
    """A message of ours that names arguments as in Python, as one that names the options of the shell command. What
    stands in quotes is the user's, and stays."""
    message = re.sub(r"set pipe\.scheduler to an? ", "give --scheduler ", message)
    return one_line(_PYTHON_WORDS.sub(_replaced, message))


def _replaced(found: re.Match[str]) -> str:
    if found["aside"] or found["quoted"]:
        return "" if found["aside"] else found[0]
    if found["bare"]:
        return as_option(found["bare"])
    name, value = found["name"], found["value"]
    for typed, option in LOOKAHEAD_OPTIONS.items():
        if name == "lookahead" and value.strip("\"'") == str(typed):
            return option
    word = value.strip("\"'")
    bare = re.fullmatch(r"[\w.+-]+", word)
    return f"{as_option(name)} {word if bare else value}"


def as_option(name: str) -> str:
    """num_partitions -> --num-partitions"""
    return "--" + name.replace("_", "-")


# Bare words such as "height" or "seed" read well as they are; these do not.
_WITH_UNDERSCORE = (
    "num_partitions",
    "num_frames",
    "num_inference_steps",
    "frames_per_level",
    "guidance_scale",
    "negative_prompt",
    "windows_per_batch",
    "offload_text_encoder",
    "include_start",
    "start_every_frame",
    "start_fit",
    "prompt_change",
    "scheduler_exact",
)
ARGUMENTS = (
    *_WITH_UNDERSCORE,
    *("seed", "height", "width", "window", "lookahead", "eta", "start", "compat", "model", "device", "dtype"),
    *("fps", "fps_condition", "scale", "overwrite", "method", "stride", "overlap", "prompt"),
)
"""Arguments in Python that have an option of the same name."""

_ASIDE = r"\s\(in Python: [^)]*\)"
_PYTHON_WORDS = re.compile(
    rf"(?P<aside>{_ASIDE})"
    rf"|(?<![\w.-])(?P<name>{'|'.join(sorted(ARGUMENTS, key=len, reverse=True))})="
    r"""(?P<value>"[^"]*"|'[^']*'|[\w.+-]+)"""
    r"""|(?P<quoted>(?<!\w)"(?:\\.|[^"\\])*"|(?<!\w)'(?:\\.|[^'\\])*'(?!\w))"""
    rf"|(?<![\w./-])(?P<bare>{'|'.join(sorted(_WITH_UNDERSCORE, key=len, reverse=True))})\b(?![/=])"
)
