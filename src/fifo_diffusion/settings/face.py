"""A function that takes settings as keywords: its signature and documentation made from the fields."""

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from fifo_diffusion.settings.spec import specs

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 120


def taking(settings: type, *, rest: str = "") -> Callable[[F], F]:
    """Decorator of a method that takes settings as `**arguments`: `inspect.signature` shows each with its default, and
    `{arguments}` in the docstring becomes a description of each.

    Args:
        settings: the class whose fields are the arguments.
        rest: name of what else it takes as keywords, if it does.
    """

    def put_on(function: F) -> F:
        every = specs(settings)
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in own}
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=spec.default, annotation=spec.annotation)
            for name, spec in every.items()
            if name not in taken
        ]
        if rest:
            more.append(inspect.Parameter(rest, inspect.Parameter.VAR_KEYWORD, annotation=Any))
        returns = inspect.signature(function).return_annotation
        function.__signature__ = inspect.Signature([*own, *more], return_annotation=returns)  # type: ignore[attr-defined]
        doc = function.__doc__ or ""
        indent = next((line.index("{") for line in doc.splitlines() if line.strip() == "{arguments}"), 0)
        function.__doc__ = doc.replace("{arguments}", _described(settings, indent).lstrip())
        return function

    return put_on


def _described(settings: type, indent: int) -> str:
    lines = []
    for name, spec in specs(settings).items():
        first, more = " " * indent, " " * (indent + 4)
        text = f"{name}: {spec.doc}"
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)
    return "\n".join(lines)
