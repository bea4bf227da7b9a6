"""What noise is drawn for: its name, and the bits that it means."""

import pytest
import torch

from fifo_diffusion import FIFO
from fifo_diffusion.method import SeededNoise, level_number, with_uses
from fifo_diffusion.testing import frames, tiny
from streams import SMALL

SHAPE, L = (4, 8, 8), 6


def earlier_level(level, use):
    """The address of a draw before uses had names: L levels, the entry noise, and as much again for each descent."""
    return level + {"queue": 0, "clip": L + 1, "clip-1": 2 * (L + 1), "clip-2": 3 * (L + 1)}[use]


@pytest.mark.parametrize("use", ["queue", "clip", "clip-1", "clip-2"])
def test_draws_of_every_use_are_those_from_before_uses_had_names(use):
    earlier, named = SeededNoise([3, 4], SHAPE), SeededNoise([3, 4], SHAPE, L)
    for frame in (-2, 0, 5):
        for level in range(L + 1):
            assert level_number(level, use, L) == earlier_level(level, use)
            assert torch.equal(named(frame, level, use), earlier(frame, earlier_level(level, use)))


def test_no_two_uses_share_a_draw():
    uses = ["queue", "clip", "clip-1", "clip-2"]
    assert len({level_number(level, use, L) for use in uses for level in range(L + 1)}) == 4 * (L + 1)


@pytest.mark.parametrize("use", ["", "clip-", "clip-x", "queue-1", "tail"])
def test_an_unknown_use_is_refused(use):
    with pytest.raises(ValueError, match="use must be"):
        SeededNoise([3], SHAPE, L)(0, 0, use)


def test_a_use_beside_the_queue_needs_the_number_of_levels():
    with pytest.raises(ValueError, match="number of levels"):
        SeededNoise([3], SHAPE)(0, 0, "clip")


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (lambda frame, level: (frame, level), (2, 1 + L + 1)),
        (lambda frame, level, scale=3: (frame, level, scale), (2, 1 + L + 1, 3)),
        (lambda *place: place, (2, 1 + L + 1)),
        (lambda frame, level, use: (frame, level, use), (2, 1, "clip")),
        (lambda frame, level, what: (frame, level, what), (2, 1, "clip")),
        (lambda frame, level, use="queue": (frame, level, use), (2, 1, "clip")),
        (lambda frame, level, *, use: (frame, level, use), (2, 1, "clip")),
    ],
    ids=["two", "default", "any", "use", "third", "use by default", "keyword"],
)
def test_who_takes_a_use_is_given_it_and_others_a_number(noise, expected):
    assert with_uses(noise, L)(2, 1, "clip") == expected


@pytest.mark.parametrize("start", ["clip", "picture"])
def test_own_noise_of_two_or_three_arguments_makes_the_same_video(start):
    fifo = FIFO(tiny.pipeline(**tiny.LIGHT))
    settings = SMALL | {"seed": 3, "eta": 0.5}
    if start == "picture":
        settings["start"] = frames(fifo.stream("a cat", **SMALL | {"seed": 1}), 1)
    stream = fifo.stream("a cat", **settings)
    named, plain, uses = SeededNoise([3], SHAPE, stream.settings.queue_layout.levels), SeededNoise([3], SHAPE), set()

    def three(frame, level, use):
        uses.add(use)
        return named(frame, level, use)

    expected = frames(stream, 7)
    for noise in (lambda frame, level: plain(frame, level), three):
        assert (frames(fifo.stream("a cat", noise=noise, **settings), 7) == expected).all()
    assert uses == {"queue", "clip"} | ({"clip-1", "clip-2"} if start == "picture" else set())
