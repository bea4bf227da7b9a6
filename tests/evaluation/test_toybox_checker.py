"""The checker on rendered clips: it must accept true captions and refuse others."""

import numpy as np
import pytest

from fifo_diffusion import toybox
from fifo_diffusion.toybox import checker, world


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(7)
    return [world.make_clip(rng, family=f, held=None) for f in world.FAMILIES for _ in range(60)]


def test_captions_are_parsed(clips):
    for _, caption, labels in clips:
        assert checker.parse(caption) == labels


def test_true_captions_score_high_per_attribute(clips):
    scores = [checker.score(frames, caption) for frames, caption, _ in clips]
    for name in ("color", "shape", "background", "place", "time", "motion"):
        values = [s[name] for s in scores if name in s]
        assert np.mean(values) >= 0.95, name
    assert checker.mean_score(scores) >= 0.95


def test_shuffled_captions_score_low(clips):
    captions = [caption for _, caption, _ in clips]
    order = np.random.default_rng(0).permutation(len(clips))
    scores = [checker.score(clips[i][0], captions[j]) for i, j in enumerate(order)]
    assert checker.mean_score(scores) <= 0.3


def test_speed_is_that_of_the_world(clips):
    speeds = [checker.read(frames)["speed"] for frames, _, _ in clips]
    assert np.mean(np.abs(np.array(speeds) - 2) < 0.25) > 0.95


def test_a_frozen_or_reversed_video_fails_on_motion(clips):
    for frames, caption, _ in clips[::6]:
        assert checker.score(np.repeat(frames[:1], 16, 0), caption)["motion"] == 0
        assert checker.score(frames[::-1], caption)["motion"] == 0


def test_slight_noise_and_blur_do_not_matter(clips):
    rng, scores = np.random.default_rng(1), []
    for frames, caption, _ in clips[::3]:
        soft = (frames.astype(np.float32) + np.roll(frames, 1, 2) + np.roll(frames, 1, 1)) / 3
        noisy = np.clip(soft + rng.normal(0, 6, frames.shape), 0, 255).astype(np.uint8)
        scores.append(checker.score(noisy, caption))
    assert checker.mean_score(scores) >= 0.9


def test_other_sentences_are_refused():
    with pytest.raises(ValueError, match="cannot read"):
        checker.parse("a corgi surfing")


def test_the_showcase_prompts_are_of_this_world():
    for prompt in toybox.PROMPTS:
        checker.parse(prompt)
    assert all(word in toybox.describe() for word in (*toybox.COLORS, *toybox.SHAPES, *toybox.PLACES))
