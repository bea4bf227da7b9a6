"""What tests with generated input share: how many examples, limits of time and memory, damaged bytes, odd values."""

import copy
import signal
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fifo_diffusion.evaluation.hardware import forget_peak, peak_mb, resident_mb

SECONDS, MEGABYTES = 30, 600
"""What one example may take, and all together may add to the memory: small files take milliseconds and next to none."""


def examples(few, many):
    """Parameter `count` of a test: few examples, always the same ones; in the slow set many, always others."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def holds(count, *strategies):
    """Decorator that runs a property at once, for so many generated arguments."""

    def run(check):
        limited = settings(
            max_examples=count,
            derandomize=count < 100,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking what fails takes minutes
            suppress_health_check=list(HealthCheck),
        )
        forget_peak()
        before = resident_mb()
        limited(given(*strategies)(check))()
        assert peak_mb() - before < MEGABYTES

    return run


@contextmanager
def in_time(seconds=SECONDS):
    """Fails where what is inside takes longer; on Windows it may."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def too_long(*_):
        raise AssertionError(f"still at it after {seconds} s")

    usual = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)


def refused(function, *errors, names=""):
    """What a function gives, and None; or None, and what it says where it raises one of these errors: one line, with
    these names in it."""
    with in_time():
        try:
            return function(), None
        except errors as error:
            said, kind = str(error), type(error)
    assert said, kind
    assert "\n" not in said
    assert str(names) in said
    return None, said


# ---------------------------------------------------------------------- damaged bytes


def damaged(whole):
    """Strategy: these bytes with some of them cut off, changed, left out or put in."""
    place = st.floats(0, 1, exclude_max=True)
    few = st.binary(min_size=1, max_size=8)
    change = st.one_of(
        st.tuples(st.just("cut"), place, st.just(b"")),
        st.tuples(st.just("set"), place, few),
        st.tuples(st.just("set"), place.map(lambda share: share / 20), few),  # headers
        st.tuples(st.just("drop"), place, few),
        st.tuples(st.just("put"), place, few),
    )
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: _changed(whole, changes))


def _changed(data, changes):
    for what, share, some in changes:
        at = int(share * len(data))
        kept = {"cut": len(data), "set": len(some), "drop": 1 + int.from_bytes(some[:2], "big"), "put": 0}[what]
        data = data[:at] + (b"" if what == "drop" else some) + data[at + kept :]
    return data


# ---------------------------------------------------------------------- odd values

ODD = [None, True, -1, 0, 1, 0.5, 10**6, 2**31, 2**63, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x", "0"]
ODD += ["\0", "\ud800", "a\nb", "\x1b[2J", "..", "9" * 5000, [], {}, [[]], [0], ["x"], [1, -1], {"x": 1}]
texts = st.text(max_size=30) | st.text(st.characters(codec=None), max_size=10)
values = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
"""What JSON can say."""


def places(document, path=()):
    """All paths into nested dictionaries and lists."""
    found = [path] if path else []
    inside = dict(enumerate(document)) if isinstance(document, list) else document
    for key, value in inside.items() if isinstance(inside, dict) else ():
        found += places(value, (*path, key))
    return found


def altered(document):
    """Strategy: a document of JSON with some values replaced, left out or added."""
    change = st.tuples(st.sampled_from(places(document)), st.sampled_from(["set", "set", "drop", "add"]), values)
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: _altered(document, changes))


def _altered(document, changes):
    document = copy.deepcopy(document)
    for path, what, value in changes:
        within = document
        try:
            for key in path[:-1]:
                within = within[key]
            if what == "set":
                within[path[-1]] = value
            elif what == "drop":
                del within[path[-1]]
            elif isinstance(within, dict):
                within[str(value)] = value
            else:
                within.append(value)
        except (KeyError, IndexError, TypeError, AttributeError):  # an earlier change took the place away
            continue
    return document
