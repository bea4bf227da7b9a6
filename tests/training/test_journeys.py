"""The world of journeys and its checker: loops, words, and every attribute read from pixels, damaged ones too."""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))
from journeys import checker, words, world

SIZE = 64


@pytest.fixture(scope="module")
def clips():
    """One training clip per place and eight of any kind, then as many held-out ones."""
    found = []
    for held, seed in ((False, 2), (True, 3)):
        rng, drawn = np.random.default_rng(seed), []
        while len(drawn) < 16:
            labels = words.draw_labels(rng, held)
            if len(drawn) >= 8 or labels["place"] not in [other["place"] for other in drawn]:
                drawn.append(labels)
        found += [(world.render(x, int(rng.integers(world.PERIOD)), 16, SIZE), words.caption(x, rng), x) for x in drawn]
    return found


def accuracy(clips, damage=lambda frames: frames):
    """Per attribute, the share of clips in which it is read as it was rendered."""
    right = defaultdict(list)
    for frames, _, labels in clips:
        seen = checker.read(damage(frames))
        for name, value in labels.items():
            right[name].append(seen.get(name) == value)
        right["faces"].append(seen["faces"] == labels["direction"])
    return {name: np.mean(values) for name, values in right.items()}


def blurred(frames):
    frames = frames.astype(np.float32)
    for axis in (1, 2):
        frames = (np.roll(frames, 1, axis) + 2 * frames + np.roll(frames, -1, axis)) / 4
    return frames


def test_every_attribute_is_read_from_clean_clips(clips):
    for name, share in accuracy(clips).items():
        assert share >= 0.99, name


def test_every_attribute_is_read_through_blur_noise_and_shifted_colours(clips):
    rng = np.random.default_rng(1)

    def damage(frames):
        tint, offset = rng.uniform(0.93, 1.07, 3), rng.uniform(-8, 8, 3)
        return np.clip(blurred(frames) * tint + offset + rng.normal(0, 8, frames.shape), 0, 255).astype(np.uint8)

    for name, share in accuracy(clips, damage).items():
        assert share >= 0.95, name


def test_true_captions_score_high_and_other_captions_low(clips):
    captions = [text for _, text, _ in clips]
    assert checker.mean_score([checker.score(frames, text) for frames, text, _ in clips]) >= 0.99
    order = np.random.default_rng(0).permutation(len(clips))
    others = [checker.score(clips[i][0], captions[j]) for i, j in enumerate(order) if i != j]
    assert checker.mean_score(others) <= 0.35


def test_speed_is_that_of_the_world(clips):
    speeds = np.array([checker.read(frames)["speed"] for frames, _, _ in clips])
    assert abs(np.median(speeds) - world.SPEED) < 0.1
    assert np.mean(np.abs(speeds - world.SPEED) < 0.5) > 0.9


def test_the_direction_is_that_of_the_motion_and_not_of_the_face(clips):
    for frames, _, labels in clips[::5]:
        assert checker.read(np.repeat(frames[:1], 16, 0))["direction"] == "still"
        backwards = checker.read(frames[::-1])
        assert backwards["direction"] != labels["direction"] == backwards["faces"]
        mirrored = checker.read(np.ascontiguousarray(frames[:, :, ::-1]))
        assert mirrored["direction"] == mirrored["faces"] != labels["direction"]


def test_journeys_loop_and_any_part_is_the_same_wherever_it_starts():
    labels = words.draw_labels(np.random.default_rng(4), held=None)
    whole = world.render(labels, 0, world.PERIOD + 8, SIZE)
    assert np.array_equal(whole[:8], world.render(labels, world.PERIOD, 8, SIZE))
    assert np.array_equal(whole[37:53], world.render(labels, 37, 16, SIZE))
    steps = np.abs(np.diff(whole.astype(np.float32), axis=0)).mean((1, 2, 3))
    assert steps[world.PERIOD - 1] <= steps[: world.PERIOD - 1].max(), "a seam shows"


def test_left_is_right_in_a_mirror():
    labels = words.draw_labels(np.random.default_rng(5), held=None)
    left, right = (world.render(labels | {"direction": side}, 3, 4, 96) for side in ("left", "right"))
    assert np.array_equal(left, right[:, :, ::-1])


def test_captions_are_read_back_and_every_word_is_in_the_vocabulary():
    rng, known = np.random.default_rng(6), set(words.vocabulary())
    texts = set()
    for _ in range(1500):
        labels = words.draw_labels(rng, held=None)
        text = words.caption(labels, rng)
        parsed = words.parse(text)
        unsaid = {"weather"} if labels.get("weather") == "clear" and "weather" not in parsed.labels else set()
        assert parsed.labels == {name: value for name, value in labels.items() if name not in unsaid}
        assert parsed.unknown == ()
        assert set(parsed.missing) == unsaid
        assert known >= set(text.replace(",", "").split())
        texts.add(text)
    assert len(texts) > 1450


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a red car driving to the left through a snowy forest at night",
         {"character": "car", "color": "red", "direction": "left", "place": "forest", "time": "night",
          "weather": "snow"}),
        ("at night, a blue fish swims right across the coral sea",
         {"character": "fish", "color": "blue", "direction": "right", "place": "reef", "time": "night"}),
        ("Dusk. Ocean! Sailboat, golden; LEFT", {"character": "boat", "color": "yellow", "direction": "left",
                                                 "place": "sea", "time": "sunset"}),
    ],
    ids=["sentence", "time first", "tags"],
)  # fmt: skip
def test_free_sentences(text, labels):
    parsed = words.parse(text)
    assert parsed.labels == labels
    assert not parsed.unknown


def test_unknown_words_and_contradictions():
    parsed = words.parse("a corgi surfing at night")
    assert parsed.labels == {"time": "night"}
    assert parsed.unknown == ("corgi", "surfing")
    assert parsed.missing == ("character", "color", "direction", "place", "weather")
    with pytest.raises(ValueError, match="two values of color: red and blue"):
        words.parse("a red and blue car")
    with pytest.raises(ValueError, match="can be checked"):
        checker.score(np.zeros((16, 64, 64, 3), np.uint8), "a corgi")
    assert all(place in words.describe() for place in words.PLACES)


def test_one_combination_in_eight_is_held_out():
    rng = np.random.default_rng(9)
    drawn = [words.draw_labels(rng, held=None) for _ in range(4000)]
    assert abs(np.mean([words.held_out(labels) for labels in drawn]) - 1 / 8) < 0.02
    for held in (True, False):
        some = [words.draw_labels(rng, held) for _ in range(400)]
        assert {words.held_out(labels) for labels in some} == {held}
        for name, values in (("character", words.CHARACTERS), ("place", words.PLACES), ("color", words.COLORS)):
            assert {labels[name] for labels in some} == set(values)


def test_frames_of_another_form_are_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        checker.read(np.zeros((16, 50, 50, 3), np.uint8))
