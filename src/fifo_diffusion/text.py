"""Text as it may be shown: names and words of files never reach a terminal raw."""

import math
import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any

_UNSEEN = {"Cc", "Cs", "Co", "Zl", "Zp"}  # control characters, lone surrogates, private ones, separators of lines
DAY = 24 * 3600  # seconds
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: object) -> str:
    """The text in one line, with everything that a terminal might obey, or that would turn its order around, written
    as an escape: `\\x1b` for an escape character, `\\xff` for a byte of a name that is not UTF-8."""
    lines = re.split(r"[\r\n]+", str(text).strip())
    line = " ".join(part.strip() for part in lines if part.strip())
    return "".join(_escaped(c) if _is_unseen(c) else c for c in line)


def shell_word(word: object) -> str:
    """A word of a shell command, quoted where it must be; bytes and control characters as bash reads them."""
    text = str(word)
    if not any(map(_is_unseen, text)):
        return shlex.quote(text)
    return "$'" + "".join(_in_shell(c) for c in text) + "'"


def shell_words(words: Iterable[object]) -> str:
    """A shell command."""
    return " ".join(map(shell_word, words))


def quoted(value: Any) -> str:
    """A value of Python as a message quotes it."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    text = repr(value)
    if isinstance(value, str) and len(text) > 80:
        return f"{text[:20]}...{text[-55:]}"  # of a long path the end says more
    return text if len(text) <= 80 and "\n" not in text else f"a value of type {type(value).__name__}"


def shortened(text: object, most: int = 60) -> str:
    """The text in one line, cut where it is longer than `most` characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 3] + "..."


def duration(seconds: float) -> str:
    """Seconds as people read them: 12 s, 3 min 20 s, 2 h 05 min."""
    seconds = max(0.0, seconds)  # some clocks are set back
    if seconds > 1000 * DAY:
        return "years"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds > 2 * DAY:
        return f"{seconds / DAY:.1f} days"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def gigabytes(size: int) -> str:
    """Bytes as people read them: 12.3 GB, 85 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 0.95e9 else f"{size / 1e6:.0f} MB"


def real_time(rate: float, fps: float) -> str:
    """Frames per second against those at which the video plays: 2.1x real time."""
    times = rate / fps
    return f"{times:.0f}x real time" if times >= 9.95 else f"{times:.2g}x real time"


def _is_unseen(c: str) -> bool:
    return c in _BIDI or unicodedata.category(c) in _UNSEEN


def _escaped(c: str) -> str:
    code = ord(c)
    if code == 0x09:
        return " "
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_shell(c: str) -> str:
    if c in "'\\":
        return "\\" + c
    if not _is_unseen(c):
        return c
    return "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape" if _is_byte(c) else "replace"))


def _is_byte(c: str) -> bool:
    return 0xDC80 <= ord(c) <= 0xDCFF
