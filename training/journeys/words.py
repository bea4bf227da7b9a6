"""The words of the journeys: what a caption can name, captions of many forms, and the way back from text to labels.

    >>> parse("at night, a blue fish swims right across the coral sea").labels
    {'character': 'fish', 'color': 'blue', 'direction': 'right', 'place': 'reef', 'time': 'night'}

Labels are a plain dict. `character`, `color`, `direction` and `place` are always there in a clip's labels, `time` and
`weather` where the place has them (there is no weather in the reef, and no time of day in space).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Labels = dict[str, str]

COLORS = {"red": ("red", "scarlet"), "yellow": ("yellow", "golden"), "green": ("green", "emerald"),
          "blue": ("blue", "azure"), "purple": ("purple", "violet"), "pink": ("pink", "rosy")}  # fmt: skip
CHARACTERS = {
    "cat": ("cat", "kitten"), "robot": ("robot", "android"), "dinosaur": ("dinosaur", "dino"),
    "car": ("car", "automobile"), "bus": ("bus", "coach"), "bird": ("bird", "birdie"),
    "plane": ("plane", "airplane"), "rocket": ("rocket", "spaceship"), "fish": ("fish", "goldfish"),
    "turtle": ("turtle", "tortoise"), "whale": ("whale",), "boat": ("boat", "sailboat", "ship"),
}  # fmt: skip
MOVES = {"walking": ("cat", "robot", "dinosaur"), "driving": ("car", "bus"), "flying": ("bird", "plane", "rocket"),
         "swimming": ("fish", "turtle", "whale"), "sailing": ("boat",)}  # fmt: skip
_VERBS = {
    "walking": (("walking", "walks"), ("strolling", "strolls"), ("marching", "marches")),
    "driving": (("driving", "drives"), ("rolling", "rolls"), ("riding", "rides")),
    "flying": (("flying", "flies"), ("soaring", "soars"), ("gliding", "glides")),
    "swimming": (("swimming", "swims"), ("diving", "dives"), ("gliding", "glides")),
    "sailing": (("sailing", "sails"), ("cruising", "cruises")),
    "any": (("moving", "moves"), ("travelling", "travels"), ("going", "goes"), ("traveling", "travels")),
}
DIRECTIONS = {
    "left": ("left", "to the left", "leftwards", "towards the left"),
    "right": ("right", "to the right", "rightwards", "towards the right"),
}
_LAND = ("meadow", "forest", "mountains", "desert", "city")
PLACES = {
    "meadow": ("meadow", "hills", "countryside", "fields"), "forest": ("forest", "woods", "woodland"),
    "mountains": ("mountains", "peaks", "highlands"), "desert": ("desert", "dunes", "sands"),
    "city": ("city", "town", "streets"), "sea": ("sea", "ocean", "open sea"),
    "reef": ("coral reef", "coral sea", "reef", "corals"), "space": ("space", "outer space", "moon", "galaxy"),
}  # fmt: skip
_NO_ARTICLE = ("space", "outer space")
_PREPOSITIONS = {"meadow": ("through", "across", "in"), "forest": ("through", "in"), "mountains": ("through", "in"),
                 "desert": ("through", "across", "in"), "city": ("through", "in"), "sea": ("across", "over", "on"),
                 "reef": ("through", "across", "in"), "space": ("through", "in", "across")}  # fmt: skip
TIMES = {
    "dawn": ("at dawn", "at sunrise", "in the early morning"),
    "day": ("by day", "in the daytime", "at noon"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
    "night": ("at night", "by night", "at midnight"),
}
WEATHERS = {
    "clear": ("under a clear sky", "in clear weather"),
    "cloudy": ("under clouds", "under a cloudy sky", "in cloudy weather"),
    "rain": ("in the rain", "while it rains", "in rainy weather"),
    "snow": ("in the snow", "while it snows", "in snowy weather"),
}
_WEATHER_ADJECTIVES = {"clear": ("clear",), "cloudy": ("cloudy", "overcast"), "rain": ("rainy", "wet"),
                       "snow": ("snowy", "wintry")}  # fmt: skip
_TIME_NOUNS = {"dawn": ("dawn", "sunrise", "morning"), "day": ("day", "noon", "daytime"),
               "sunset": ("sunset", "dusk", "evening"), "night": ("night", "midnight")}  # fmt: skip
_WEATHER_NOUNS = {"clear": ("clear sky", "clear weather"), "cloudy": ("clouds", "cloudy sky"),
                  "rain": ("rain", "rainy weather"), "snow": ("snow", "snowy weather")}  # fmt: skip

RESIDENTS = dict.fromkeys(_LAND, ("cat", "robot", "dinosaur", "car", "bus", "bird", "plane", "rocket")) | {
    "sea": ("boat", "whale", "bird", "plane", "rocket"),
    "reef": ("fish", "turtle", "whale"),
    "space": ("cat", "robot", "dinosaur", "car", "bus", "rocket"),
}
"""Which characters travel where."""
_WEIGHTS = {"sea": 1.0, "reef": 0.8, "space": 0.6}

ATTRIBUTES = ("character", "color", "direction", "place", "time", "weather")


def factors(place: str) -> dict[str, Sequence[str]]:
    """The attributes that vary in a place, with their values."""
    found: dict[str, Sequence[str]] = {
        "character": RESIDENTS[place], "color": tuple(COLORS), "direction": tuple(DIRECTIONS)}  # fmt: skip
    if place != "space":
        found["time"] = tuple(TIMES)
    if place not in ("space", "reef"):
        found["weather"] = tuple(WEATHERS)
    return found


def move_of(character: str) -> str:
    """walking, driving, flying, swimming or sailing."""
    return next(move for move, members in MOVES.items() if character in members)


def held_out(labels: Labels) -> bool:
    """Whether this combination of attributes is kept for measurements: about one in eight, never trained on."""
    order = {"character": tuple(CHARACTERS), "color": tuple(COLORS), "direction": tuple(DIRECTIONS),
             "place": tuple(PLACES), "time": tuple(TIMES), "weather": tuple(WEATHERS)}  # fmt: skip
    steps = {"character": 1, "color": 3, "direction": 5, "place": 1, "time": 2, "weather": 1}
    return sum(steps[name] * order[name].index(value) for name, value in labels.items()) % 8 == 0


def draw_labels(rng: np.random.Generator, held: bool | None = False) -> Labels:
    """Random labels: `held=False` draws combinations for training, `True` held-out ones, `None` any."""
    weights = np.array([_WEIGHTS.get(place, 1.0) for place in PLACES])
    while True:
        place = str(rng.choice(list(PLACES), p=weights / weights.sum()))
        drawn = {name: _pick(rng, options) for name, options in factors(place).items()} | {"place": place}
        labels = {name: drawn[name] for name in ATTRIBUTES if name in drawn}
        if held is None or held_out(labels) == held:
            return labels


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _word(rng: np.random.Generator, options: Sequence[str]) -> str:
    """The first, usual word half of the time."""
    return options[0] if rng.random() < 0.5 else _pick(rng, options)


def _article(noun_phrase: str) -> str:
    return ("an " if noun_phrase[0] in "aeiou" else "a ") + noun_phrase


def caption(labels: Labels, rng: np.random.Generator) -> str:
    """One of very many sentences that name the labels. Clear weather goes unsaid more often than not."""
    weather, time = labels.get("weather"), labels.get("time")
    if weather == "clear" and rng.random() < 0.6:
        weather = None
    character = _word(rng, CHARACTERS[labels["character"]])
    subject = f"{_word(rng, COLORS[labels['color']])} {character}"
    move = move_of(labels["character"])
    participle, finite = _VERBS[move][0] if rng.random() < 0.5 else _any_verb(rng, move)
    direction, place = _word(rng, DIRECTIONS[labels["direction"]]), _word(rng, PLACES[labels["place"]])
    if rng.random() < 0.12:
        return _tags(rng, subject, f"{participle} {direction}", place, time, weather)

    adverbials, adjective = [], ""
    how = rng.random()
    if weather and how < 0.4:
        adjective = _word(rng, _WEATHER_ADJECTIVES[weather])
    elif weather and time and how < 0.6:
        noun = _pick(rng, [n for n in _TIME_NOUNS[time] if n not in ("dawn", "noon", "dusk", "midnight", "daytime")])
        adverbials.append(f"on {_article(_pick(rng, _WEATHER_ADJECTIVES[weather]))} {noun}")
        time = None
    elif weather:
        adverbials.append(_word(rng, WEATHERS[weather]))
    if time:
        adverbials.insert(int(rng.integers(len(adverbials) + 1)), _word(rng, TIMES[time]))
    where = _where(rng, labels["place"], place, adjective)

    verb = participle if rng.random() < 0.5 else finite if rng.random() < 0.7 else f"is {participle}"
    front = adverbials.pop(0) if adverbials and rng.random() < 0.35 else ""
    order = rng.random()
    if order < 0.45:
        core = f"{_article(subject)} {verb} {direction} {where}"
    elif order < 0.75:
        core = f"{_article(subject)} {verb} {where} {direction}"
    elif order < 0.9:
        core = f"{where}, {_article(subject)} {verb} {direction}"
    else:
        core = f"{where} {direction} {finite} {_article(subject)}"
    text = " ".join([core, *adverbials])
    return f"{front}, {text}" if front else text


def _any_verb(rng: np.random.Generator, move: str) -> tuple[str, str]:
    options = (*_VERBS[move], *_VERBS["any"])
    return options[int(rng.integers(len(options)))]


def _where(rng: np.random.Generator, place: str, noun: str, adjective: str) -> str:
    preposition = _pick(rng, _PREPOSITIONS[place])
    if noun == "moon":
        preposition = _pick(rng, ("on", "over"))
    if noun in _NO_ARTICLE:
        return f"{preposition} {noun}"
    phrase = f"{adjective} {noun}" if adjective else noun
    plural = noun.endswith("s")
    if plural or noun in ("moon", "countryside") or rng.random() < 0.6:
        return f"{preposition} the {phrase}"
    return f"{preposition} {_article(phrase)}"


def _tags(
    rng: np.random.Generator, subject: str, motion: str, place: str, time: str | None, weather: str | None
) -> str:
    """Bare nouns with commas, as people write prompts."""
    tags = [place, motion]
    if time:
        tags.append(_pick(rng, _TIME_NOUNS[time]))
    if weather:
        tags.append(_pick(rng, _WEATHER_NOUNS[weather]))
    return ", ".join([subject, *(tags[i] for i in rng.permutation(len(tags)))])


def _plural(noun: str) -> str:
    return noun if noun.endswith("fish") else noun + ("es" if noun.endswith(("s", "ch")) else "s")


def _phrases() -> dict[str, dict[tuple[str, ...], str]]:
    """Per attribute: the words of every phrase, and the value they name."""
    tables: dict[str, list[dict[str, Sequence[str]]]] = {
        "character": [CHARACTERS], "color": [COLORS], "direction": [DIRECTIONS], "place": [PLACES],
        "time": [_TIME_NOUNS], "weather": [_WEATHER_ADJECTIVES]}  # fmt: skip
    found: dict[str, dict[tuple[str, ...], str]] = {name: {} for name in tables}
    for name, parts in tables.items():
        for table in parts:
            for value, phrases in table.items():
                found[name] |= {tuple(phrase.split()): value for phrase in phrases}
    for value, nouns in CHARACTERS.items():
        found["character"] |= {(_plural(noun),): value for noun in nouns}
    found["place"] |= {("underwater",): "reef", ("under", "water"): "reef", ("meadows",): "meadow", ("hill",): "meadow",
                       ("mountain",): "mountains", ("dune",): "desert", ("street",): "city"}  # fmt: skip
    found["weather"] |= {("clouds",): "cloudy", ("rain",): "rain", ("rains",): "rain", ("raining",): "rain",
                         ("snow",): "snow", ("snows",): "snow", ("snowing",): "snow"}  # fmt: skip
    return found


_PHRASES = _phrases()
_GLUE = frozenset(
    [
        "a",
        "an",
        "the",
        "is",
        "to",
        "towards",
        "through",
        "across",
        "over",
        "on",
        "in",
        "under",
        "at",
        "by",
        "it",
        "while",
        "of",
        "weather",
        "sky",
        "early",
        "and",
        "with",
        "its",
    ]
) | {word for forms in _VERBS.values() for pair in forms for word in pair}


@dataclass(frozen=True)
class Parsed:
    """What a text names, and the words in it that mean nothing here."""

    labels: Labels
    unknown: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Attributes that the place has and the text does not name (then the model chooses)."""
        wanted = {"place", *factors(self.labels["place"])} if "place" in self.labels else set(ATTRIBUTES)
        return tuple(name for name in ATTRIBUTES if name in wanted and name not in self.labels)


def parse(text: str) -> Parsed:
    """Labels named by a text, in any order of words; longer phrases win ("coral sea" is the reef).

    Raises:
        ValueError: the text names two values of one attribute.
    """
    words = re.findall(r"[a-z]+", text.lower())
    used, labels = [word in _GLUE for word in words], {}
    for name in ATTRIBUTES:
        taken = [False] * len(words)
        for phrase, value in sorted(_PHRASES[name].items(), key=lambda item: -len(item[0])):
            for start in range(len(words) - len(phrase) + 1):
                span = slice(start, start + len(phrase))
                if tuple(words[span]) != phrase or any(taken[span]):
                    continue
                if labels.setdefault(name, value) != value:
                    raise ValueError(f"{text!r} names two values of {name}: {labels[name]} and {value}")
                taken[span] = used[span] = [True] * len(phrase)
    unknown = tuple(dict.fromkeys(word for word, known in zip(words, used, strict=True) if not known))
    return Parsed(labels, unknown)


def vocabulary() -> list[str]:
    """Every word that a caption may contain or that `parse` knows, sorted."""
    known = set(_GLUE)
    for table in _PHRASES.values():
        known |= {word for phrase in table for word in phrase}
    for table in (DIRECTIONS, TIMES, WEATHERS, _WEATHER_NOUNS):
        known |= {word for phrases in table.values() for phrase in phrases for word in phrase.split()}
    return sorted(known)


def describe() -> str:
    """What the world understands, for people who want to write prompts for it."""

    def first(table: dict[str, Sequence[str]]) -> str:
        return ", ".join(table)

    rows = [f"  {place:<10} {', '.join(RESIDENTS[place])}" for place in PLACES]
    return "\n".join([
        "Journeys to the left or to the right, in free words and any order:",
        '  "a red car driving to the left through a snowy forest at night"',
        '  "at dawn, a pink whale swims right across the sea in the rain"', "",
        f"  colors     {first(COLORS)}", f"  times      {first(TIMES)} (not in space)",
        f"  weather    {first(WEATHERS)} (not in the reef or in space)", "", "  place      who travels there", *rows,
        "", "Common synonyms are understood; other words mean nothing here."])  # fmt: skip
