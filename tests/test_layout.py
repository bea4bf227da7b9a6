"""Invariant 1, the half about slots: windows tile the queue, for every f, n and b."""

import pytest

from fifo_diffusion.method import QueueLayout

SHAPES = [(f, n, b) for f in (2, 3, 4, 5, 8, 16, 17, 24, 56) for n in (1, 2, 3, 4) for b in (1, 2, 4) if n * f % b == 0]


@pytest.mark.parametrize(("f", "n", "b"), SHAPES)
@pytest.mark.parametrize("lookahead", [False, True])
def test_every_slot_is_written_exactly_once(f, n, b, lookahead):
    layout = QueueLayout(f, n, lookahead, b)
    written = [slot for window in layout.windows for slot in window.writes]
    assert written == list(range(layout.context, layout.size))
    assert all(len(w.reads) == f and w.reads.start >= 0 and w.stop <= layout.size for w in layout.windows)
    assert all(set(w.writes) <= set(w.reads) for w in layout.windows)
    assert layout.levels * b == n * f
    assert len(layout.windows) == (2 * n if lookahead else n)


@pytest.mark.parametrize("f", [2, 3, 4, 5, 16, 17, 56])
def test_lookahead_sees_at_least_half_a_window_of_cleaner_frames(f):
    for window in QueueLayout(f, 3, lookahead=True).windows:
        assert window.write_start - window.start >= f // 2


def test_levels_rise_by_one_every_b_slots():
    layout = QueueLayout(6, 2, lookahead=True, frames_per_level=3)
    assert layout.slot_levels == (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)


def test_cost_is_that_of_the_paper():
    assert QueueLayout(16, 4, lookahead=False).frame_forwards_per_frame == 64
    assert QueueLayout(16, 4, lookahead=True).frame_forwards_per_frame == 128
    assert QueueLayout(16, 4, lookahead=True, frames_per_level=4).frame_forwards_per_frame == 32


def test_filling_from_known_frames_costs_half_a_queue():
    layout = QueueLayout(16, 4, lookahead=False)
    assert layout.fill_windows == 16 * (1 + 2 + 3 + 4)
    assert layout.filled_windows(16) == 16


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"frames": 1}, "window"),
        ({"frames": 0}, "window"),
        ({"partitions": 0}, "num_partitions"),
        ({"frames_per_level": 0}, "frames_per_level"),
    ],
)
def test_values_out_of_range_are_named(change, name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least"):
        QueueLayout(**{"frames": 4} | change)


def test_an_uneven_number_of_levels_names_those_that_fit():
    with pytest.raises(ValueError, match="use one of 1, 2, 4, 8"):
        QueueLayout(4, 2, frames_per_level=3)
