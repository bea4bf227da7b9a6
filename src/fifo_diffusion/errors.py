"""Errors that a user can mend, in parts that each face words for itself.

A message that names settings holds them as `Setting`. In Python it reads `window=20`, on the command line
`--window 20`; nobody has to translate the one into the other.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fifo_diffusion.text import one_line, quoted

_NO_VALUE: Any = object()


@dataclass(frozen=True)
class Setting:
    """A setting that a message names.

    Attributes:
        name: of the field of `settings.Settings`, or of an argument that only Python has.
        value: it, where the message says one.
        python: how Python says it, where that is not `name=value`.
    """

    name: str
    value: Any = _NO_VALUE
    python: str = ""

    @property
    def has_value(self) -> bool:
        return self.value is not _NO_VALUE

    def __str__(self) -> str:
        return self.python or (f"{self.name}={quoted(self.value)}" if self.has_value else self.name)


class Message:
    """Text in parts: plain text, settings, other messages. `str` words it for Python."""

    def __init__(self, *parts: "str | Setting | Message") -> None:
        self.parts = parts

    def worded(self, setting: Callable[[Setting], str] = str) -> str:
        """The text, with each setting as a face names it."""
        return "".join(
            part if isinstance(part, str) else part.worded(setting) if isinstance(part, Message) else setting(part)
            for part in self.parts
        )

    def __str__(self) -> str:
        return self.worded()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(str(self))


class ArgumentError(ValueError):
    """A setting has a value that does not do.

    Args:
        name: of the setting.
        value: it.
        advice: what is wrong with it, or what to give instead.
    """

    def __init__(self, name: str, value: Any, *advice: "str | Setting | Message") -> None:
        super().__init__(Message(Setting(name, value), ": ", *advice))
        self.name, self.value, self.advice = name, value, advice

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.value, *self.advice)


class ArgumentTypeError(ArgumentError, TypeError):
    """A setting has a value of a type that does not do."""


class UserError(Exception):
    """A valid request failed; the message is one line for the user."""

    def __init__(self, *parts: "str | Setting | Message") -> None:
        super().__init__(Message(*parts))

    def __str__(self) -> str:
        return one_line(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args[0].parts


class UsageError(UserError):
    """The request should be made differently."""


def joined(parts: Iterable[str | Setting | Message], between: str) -> list[str | Setting | Message]:
    """Parts of a message with words between them."""
    found: list[str | Setting | Message] = []
    for part in parts:
        found += [between, part] if found else [part]
    return found


def usage(*parts: str | Setting | Message) -> UsageError:
    """An error in what was asked for."""
    return UsageError(*parts)


def message_of(error: BaseException) -> Message:
    """What an error says, in parts where it has some."""
    said = error.args[0] if error.args else None
    return said if isinstance(said, Message) else Message(str(error))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Errors raised in this block mean that something else should be asked for."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise usage(message_of(error)) from error
