"""What the parser of options has to say, in our words, with what to type instead."""

import re
from difflib import get_close_matches
from typing import Any

import typer

from fifo_diffusion.text import one_line, shell_word, shortened

ELSEWHERE = {
    "--steps": "--num-inference-steps, and usually --num-partitions: each adds as many steps as the model sees frames",
    "--cfg": "--guidance-scale",
    "--cfg-scale": "--guidance-scale",
    "--guidance": "--guidance-scale",
    "--frames": "--num-frames",
    "--length": "--num-frames or --seconds",
    "--duration": "--seconds",
    "--new-video-length": "--num-frames",
    "--negative": "--negative-prompt",
    "--out": "--output",
    "--output-dir": "--output",
    "--image": "--start",
    "--input": "--start",
    "--lookahead-denoising": "--lookahead",
    "--size": "--height and --width",
    "--resolution": "--height and --width",
    "--precision": "--dtype",
    "--resume": "--state",
    "--cpu": "--device cpu",
}
"""Options of other programs, and what is meant by them here."""


def parser_message(error: Any, typed: list[str], options: list[str]) -> str:
    """The error of the parser as one line.

    Args:
        error: a `UsageError` of the parser.
        typed: the words of the command.
        options: those that the command has.
    """
    own = error.message if isinstance(error, typer.BadParameter) else ""  # empty where an argument is missing
    message = one_line(own or error.format_message())
    names = [name for name in getattr(getattr(error, "param", None), "opts", ()) if name.startswith("-")]
    if names:
        for kind, word in (("integer", "a whole number"), ("float", "a number"), ("number", "a number")):
            if re.search(rf"valid {kind}\b", message):
                message = f"must be {word}{_typed_value(names, typed)}"
                break
        if "exceeded maximum size" in message:
            message = f"must be a whole number of fewer digits{_typed_value(names, typed)}"
        message = message.removeprefix("Value error, ")
        message = f"{names[-1]} " + ("is missing" if message.startswith("Missing option") else message)
    if message.startswith("No such command") and " " in typed[0]:
        return f"{message.rstrip('.')}: to make a video, type fifo-diffusion generate {shell_word(typed[0])}"
    extra = re.search(r"unexpected extra arguments? ?(?:\(s\) )?\((.*)\)", message)
    if extra and typed[0] == "generate":
        return (
            f"put the whole prompt in quotes: after it comes {shortened(extra[1])} (see fifo-diffusion generate --help)"
        )
    unknown = getattr(error, "option_name", None)
    if unknown:
        message = f"there is no option {shortened(unknown)}{_instead(unknown, options)}"
    elif extra:
        message = f"too many arguments: leave out {shortened(extra[1])}"
    command = error.ctx.command_path if error.ctx else "fifo-diffusion"
    return f"{message.rstrip('.')} (see {command} --help)"


def _instead(unknown: str, options: list[str]) -> str:
    plain = unknown.replace("_", "-").lower()
    if plain in options:
        return f": type {plain}"
    if plain in ELSEWHERE and ELSEWHERE[plain].split()[0].strip(",") in options:
        return f": here it is {ELSEWHERE[plain]}"
    near = get_close_matches(plain, options, 1, cutoff=0.7)
    return f": did you mean {near[0]}?" if near else ""


def _typed_value(names: list[str], typed: list[str]) -> str:
    values = []
    for word, following in zip(typed, [*typed[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            values.append(value if equals else following)
        elif word[:2] in names and not word.startswith("--"):  # -n3
            values.append(word[2:])
    return f", not {shortened(values[-1])}" if values else ""  # the last one counts
