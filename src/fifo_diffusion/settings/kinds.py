"""Kinds of values that settings have: what fits, in words, and as a JSON schema."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fifo_diffusion.errors import ArgumentError, ArgumentTypeError
from fifo_diffusion.text import quoted


def plain(value: Any) -> Any:
    """A number or truth value of NumPy or of a tensor without axes as Python's own; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


class Kind:
    """What a value may be.

    Attributes:
        parsed: type of the values, as the parser of the command makes them.
        error: for a value that does not fit.
    """

    parsed: type = str
    error: type[ArgumentError] = ArgumentError

    def wanted(self, value: Any) -> str:
        """What a value must be, where it is not; else nothing."""
        raise NotImplementedError

    @property
    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        raise NotImplementedError

    def fits(self, value: Any) -> bool:
        return not self.wanted(value)

    def read(self, text: Any) -> Any:
        """A value as it is typed, which the parser of the command made a `parsed` of."""
        return text

    def take(self, name: str, value: Any) -> Any:
        """A value from Python, NumPy or a tensor, checked.

        Raises:
            ArgumentError: it does not fit.
        """
        value = plain(value)
        if wanted := self.wanted(value):
            raise self.error(name, value, f"give {wanted}")
        return value


@dataclass(frozen=True)
class Whole(Kind):
    """Whole numbers from `least` to `most`."""

    least: int = 1
    most: int = 2**31 - 1
    parsed = int

    def wanted(self, value: Any) -> str:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.least:
            return f"a whole number of at least {self.least}"
        return "" if value <= self.most else f"a whole number of at most {self.most}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Number(Kind):
    """Finite numbers from `least` (or above it) to `most`."""

    least: float
    most: float
    above: bool = False
    parsed = float

    def wanted(self, value: Any) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # Both are false for nan.
        if number and self.least <= value <= self.most and not (self.above and value == self.least):
            return ""
        if self.above:
            return f"a number above {self.least:g}, and at most {self.most:g}"
        return f"a number from {self.least:g} to {self.most:g}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "number", "exclusiveMinimum" if self.above else "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Flag(Kind):
    """True or False; where it is given on the command line without a value, True."""

    parsed = bool

    def wanted(self, value: Any) -> str:
        return "" if isinstance(value, bool) else "True or False"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Switch(Kind):
    """On, off, and further ways.

    Attributes:
        more: {value: help for its own option}; with the setting's name before it, it is the name of that option.
    """

    more: Mapping[str, str]
    parsed = bool

    def wanted(self, value: Any) -> str:
        fits = isinstance(value, bool) or (isinstance(value, str) and value in self.more)
        return "" if fits else f"True, False or {' or '.join(map(quoted, self.more))}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": [True, False, *self.more]}


@dataclass(frozen=True, init=False)
class Choice(Kind):
    """One of some words. Those in `meaning` stand for others of them."""

    words: tuple[str, ...]
    meaning: Mapping[str, str]

    def __init__(self, *words: str, meaning: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "meaning", meaning or {})

    def wanted(self, value: Any) -> str:
        fits = isinstance(value, str) and value in (*self.words, *self.meaning)
        if fits:
            return ""
        first, last = ", ".join(map(quoted, self.words[:-1])), quoted(self.words[-1])
        return f"{first} or {last}" if first else last

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": [*self.words, *self.meaning]}


@dataclass(frozen=True)
class Listed(Kind):
    """One of the words in a list that programs may add to."""

    words: Callable[[], Iterable[str]]

    def wanted(self, value: Any) -> str:
        known = list(self.words())
        return "" if isinstance(value, str) and value in known else " or ".join(map(quoted, known))

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words())}


@dataclass(frozen=True)
class Text(Kind):
    """Text, with no byte 0 in it, which no file has in its name either."""

    def wanted(self, value: Any) -> str:
        return "" if isinstance(value, str) and "\0" not in value else "a text"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[^\\u0000]*$"}


_BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(?=[0.]*[1-9])([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([KMGT]B|[kmgt]b)")


@dataclass(frozen=True)
class Size(Kind):
    """Room on a disk, as people write it: 20GB, 500 MB."""

    def wanted(self, value: Any) -> str:
        return "" if isinstance(value, str) and _SIZE.fullmatch(value) else "a size such as 20GB or 500MB"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_SIZE.pattern}$"}


def bytes_of(size: str) -> int:
    """The bytes of a text that fits `Size`."""
    match = _SIZE.fullmatch(size)
    assert match is not None
    return math.ceil(float(match[1]) * _BYTES[match[2].upper()])


@dataclass(frozen=True)
class Texts(Kind):
    """Several texts. Its option may be given several times, once for each."""

    parsed = list

    def wanted(self, value: Any) -> str:
        listed = isinstance(value, list | tuple) and len(value) > 0
        return "" if listed and all(map(Text().fits, value)) else "a list of texts"

    def take(self, name: str, value: Any) -> Any:
        return list(super().take(name, [value] if isinstance(value, str) else value))

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "items": Text().schema}


@dataclass(frozen=True)
class Numbers(Kind):
    """A list of finite numbers from `least` to `most`; on the command line with commas between them."""

    least: float
    most: float

    def wanted(self, value: Any) -> str:
        listed = isinstance(value, list | tuple) and len(value) > 0
        fits = listed and all(map(Number(self.least, self.most).fits, value))
        return "" if fits else f"a list of numbers from {self.least:g} to {self.most:g}"

    def read(self, text: str) -> Any:
        try:
            return [float(part) for part in text.split(",")]
        except ValueError:
            return text  # which is not wanted

    def take(self, name: str, value: Any) -> tuple[float, ...]:
        listed = value.tolist() if hasattr(value, "tolist") else value
        return tuple(super().take(name, [*map(plain, listed)] if isinstance(listed, list | tuple) else value))

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "items": Number(self.least, self.most).schema}


@dataclass(frozen=True)
class Interval(Numbers):
    """Two numbers from `least` to `most`, the second larger than the first."""

    def wanted(self, value: Any) -> str:
        fits = not super().wanted(value) and len(value) == 2 and value[0] < value[1]
        return "" if fits else f"two rising numbers from {self.least:g} to {self.most:g}"

    @property
    def schema(self) -> dict[str, Any]:
        return super().schema | {"minItems": 2, "maxItems": 2}


@dataclass(frozen=True)
class Function(Kind):
    """Something to call. Only Python has it."""

    error = ArgumentTypeError

    def wanted(self, value: Any) -> str:
        return "" if callable(value) else "a function"


@dataclass(frozen=True)
class Anything(Kind):
    """What the code that uses it checks itself: it is of many kinds in Python, and a text elsewhere."""

    def wanted(self, value: Any) -> str:
        return ""

    @property
    def schema(self) -> dict[str, Any]:
        return Text().schema


def number_text(value: float) -> str:
    """A number as on the command line: 4, not 4.0."""
    return f"{value:g}" if math.isfinite(value) and value == float(f"{value:g}") else repr(value)
