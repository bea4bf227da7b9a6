"""Smoothness, flicker and drift on videos whose answer is known."""

import numpy as np
import pytest

from fifo_diffusion.evaluation.metrics.flicker import flicker
from fifo_diffusion.evaluation.metrics.toybox import change, drift, measure, smoothness

CAPTION = "a red ball moving right on a black background"


def ball(steps: list[float]) -> np.ndarray:
    """A red disc on black that moves by the given steps to the right, on a ring."""
    x, y = np.arange(64)[None, None, :], np.arange(64)[None, :, None]
    place = 32 + np.cumsum([0.0, *steps])[:, None, None]
    inside = np.clip(14.5 - np.hypot((x - place + 32) % 64 - 32, y - 32), 0, 1)[..., None]
    return (inside * np.array([225, 35, 35]) + (1 - inside) * np.array([12, 12, 16])).astype(np.uint8)


def test_even_motion_has_its_speed_and_no_jitter():
    measured = smoothness(ball([2.0] * 40))
    assert measured["speed"] == pytest.approx(2, abs=0.02)
    assert measured["jitter"] < 0.05
    assert measured["largest_jump"] < 0.1


def test_a_jump_is_seen():
    assert smoothness(ball([2.0] * 20 + [9.0] + [2.0] * 20))["largest_jump"] == pytest.approx(7, abs=0.1)


def test_jumps_are_counted_and_shown_in_reports():
    """Things that are suddenly elsewhere, in 100 frames; a step that is only uneven is none."""
    for jumps, count in (([], 0), ([12.0], 1), ([12.0, -12.0], 2), ([7.0], 0)):
        steps = [2.0] * 100
        for number, jump in enumerate(jumps):
            steps[30 * number + 20] += jump
        assert smoothness(ball(steps))["jumps"] == pytest.approx(count)
        assert measure(ball(steps), CAPTION)["jumps"] == pytest.approx(count)


def test_flicker_is_zero_for_even_changes_and_not_for_uneven_ones():
    ramp = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 8, 8, 3))
    assert flicker(ramp) == 0
    uneven = ramp + (np.arange(50, dtype=np.uint8) % 2 * 4)[:, None, None, None]
    assert flicker(uneven) == pytest.approx(8)


def test_drift_sees_a_video_that_stops():
    rows = drift(ball([2.0] * 100 + [0.0] * 99), CAPTION)
    assert [row["start"] for row in rows] == [0, 100]
    assert rows[0]["motion"] == 1
    assert rows[1]["motion"] == 0
    assert change(rows, "score") == pytest.approx(-0.25)
