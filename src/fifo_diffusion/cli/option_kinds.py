"""What options are made of: their choices, panels and checks, and one function that puts these together."""

from collections.abc import Callable
from enum import StrEnum

import typer
from typer.models import OptionInfo

from fifo_diffusion.text import shortened


class Method(StrEnum):
    fifo = "fifo"
    freenoise = "freenoise"
    genl = "genl"
    chunked = "chunked"
    plain = "plain"


class Change(StrEnum):
    tail = "tail"
    queue = "queue"
    blend = "blend"


class Fit(StrEnum):
    crop = "crop"
    pad = "pad"


class Profile(StrEnum):
    published = "published"


class Precision(StrEnum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


LENGTH, MODEL, METHOD = "How long", "Model", "Method (FIFO-Diffusion)"
BASELINE_PANEL = "Baselines, to compare with"
LOOK, FILES, TALK = "Look", "Files", "What is said"


def option(
    *names: str, help: str, panel: str, check: Callable[[float], str] | None = None, metavar: str = "", **more: object
) -> OptionInfo:
    """An option in its panel; `check` says what a number must be, where it is not."""

    def checked(value: float | None) -> float | None:
        if check is not None and value is not None and (wanted := check(value)):
            raise typer.BadParameter(f"must be {wanted}, not {shortened(value, 30)}")
        return value

    return typer.Option(
        *names,
        help=help,
        rich_help_panel=panel,
        show_default=False,
        metavar=metavar or None,
        callback=checked if check is not None else None,
        **more,  # type: ignore[arg-type]
    )


def at_least(least: int, most: int = 10**9) -> Callable[[float], str]:
    return lambda value: f"at least {least}" if value < least else "" if value <= most else f"at most {most}"


def above(bound: float, most: float) -> Callable[[float], str]:
    def wanted(value: float) -> str:
        if value > most:
            return f"at most {most:g}"
        return "" if value > bound else f"a number above {bound:g}"

    return wanted


def between(least: float, most: float) -> Callable[[float], str]:
    return lambda value: "" if least <= value <= most else f"from {least:g} to {most:g}"
