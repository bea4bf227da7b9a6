"""Which sentences toybox was trained on, and the nearest one to what somebody wrote."""

import re
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from itertools import product

from fifo_diffusion.text import shortened
from fifo_diffusion.toybox import BACKGROUNDS, COLORS, MOTIONS, PLACES, SHAPES, TIMES

_SIDES = ("left", "right")
_SMALL = frozenset(("a", "an", "the", "to", "on", "in", "over", "at", "day", "background"))
"""Words that say nothing of what is seen."""


def remark(prompt: str) -> str:
    """What to say of a prompt that is none of its sentences: what it does not know, and the nearest sentence; empty
    where there is nothing to say."""
    text = _plain(prompt)
    if text in _understood():
        return ""
    words = text.split()
    unknown = list(dict.fromkeys(word for word in words if word not in _known()))
    what = ", ".join(unknown) if unknown else f"the sentence {shortened(prompt)!r}"
    near = nearest(prompt)
    advice = f'did you mean "{near}"? All that it knows' if near else "what it knows"
    return f"toybox does not know {shortened(what, 90)}{':' if near else ';'} {advice}: fifo-diffusion models"


def nearest(prompt: str) -> str:
    """The sentence that shares most with a prompt, misspelt words counted as the right ones; empty where none shares
    more than half of its words."""
    said = [_right(word) for word in _plain(prompt).split()[:40] if word not in _SMALL]
    if not said:
        return ""

    def likeness(sentence: str) -> tuple[int, float]:
        words = set(sentence.split())
        return sum(word in words for word in said), SequenceMatcher(None, said, sentence.split()).ratio()

    best = max(_sentences(), key=likeness)
    return best if 2 * likeness(best)[0] > len(said) else ""


def _plain(text: str) -> str:
    """In small letters, without punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _right(word: str) -> str:
    """The known word that a word is like."""
    known = sorted(_known() - _SMALL)
    return word if word in _known() else next(iter(get_close_matches(word, known, 1, 0.75)), word)


@cache
def _sentences() -> tuple[str, ...]:
    """One for each thing that it can show, in the words of `fifo-diffusion models`."""
    shapes = product(COLORS, SHAPES, MOTIONS, BACKGROUNDS)
    scenes = [*product(PLACES, _SIDES, TIMES)]
    return (
        *(f"a {color} {shape} {motion} on a {back} background" for color, shape, motion, back in shapes),
        *(f"{place} scrolling to the {side} {when}" for place, side, when in scenes),
        *(f"a {c} robot walking to the {side} in the {place} {when}" for c in COLORS for place, side, when in scenes),
    )


@cache
def _understood() -> frozenset[str]:
    """All ways to say these that it was trained on, `_plain`."""
    from fifo_diffusion.toybox import world

    found = set(_sentences())
    for color, shape, back in product(COLORS, SHAPES, BACKGROUNDS):
        for said in (way for ways in world.MOTIONS.values() for way in ways):
            found |= {f"a {color} {shape} {said} on a {back} background", f"{color} {shape} {said} over {back}"}
    times = [way for ways in world.TIMES.values() for way in ways]
    for place, to, side, when in product(PLACES, ("to the ", ""), _SIDES, times):
        found.add(f"{place} scrolling {to}{side} {when}")
        found |= {f"a {color} robot walking {to}{side} in the {place} {when}" for color in COLORS}
    return frozenset(map(_plain, found))


@cache
def _known() -> frozenset[str]:
    return frozenset(word for sentence in _understood() for word in sentence.split())
