"""Invariant 1, the half about slots: windows tile the queue, for every f, n and b."""

import pytest

from fifo_diffusion.method import BandedLayout, QueueLayout
from fifo_diffusion.method.memory import MemoryLayout

SHAPES = [(f, n, b) for f in (2, 3, 4, 5, 8, 16, 17, 24, 56) for n in (1, 2, 3, 4) for b in (1, 2, 4) if n * f % b == 0]


@pytest.mark.parametrize(("f", "n", "b"), SHAPES)
@pytest.mark.parametrize("lookahead", [False, True])
def test_every_slot_is_written_exactly_once(f, n, b, lookahead):
    layout = QueueLayout(f, n, lookahead, b)
    written = [slot for window in layout.windows for slot in window.writes]
    assert written == list(range(layout.context, layout.size))
    assert all(len(w.reads) == f and w.reads.start >= 0 and w.reads.stop <= layout.size for w in layout.windows)
    assert all(set(w.writes) <= set(w.reads) for w in layout.windows)
    assert layout.levels * b == n * f
    assert len(layout.windows) == (2 * n if lookahead else n)


@pytest.mark.parametrize("f", [2, 3, 4, 5, 16, 17, 56])
def test_lookahead_sees_at_least_half_a_window_of_cleaner_frames(f):
    for window in QueueLayout(f, 3, lookahead=True).windows:
        assert window.writes.start - window.reads.start >= f // 2


def test_levels_rise_by_one_every_b_slots():
    layout = QueueLayout(6, 2, lookahead=True, frames_per_level=3)
    assert layout.slot_levels == (0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3)


def test_cost_is_that_of_the_paper():
    assert QueueLayout(16, 4, lookahead=False).frame_forwards_per_frame == 64
    assert QueueLayout(16, 4, lookahead=True).frame_forwards_per_frame == 128
    assert QueueLayout(16, 4, lookahead=True, frames_per_level=4).frame_forwards_per_frame == 32


def test_filling_from_known_frames_costs_half_a_queue():
    layout = QueueLayout(16, 4, lookahead=False)
    assert layout.fill_forwards == 16 * 16 * (1 + 2 + 3 + 4)
    assert layout.filled_forwards(16) == 16 * 16


@pytest.mark.parametrize(("f", "n", "b"), SHAPES)
def test_banded_lookahead_is_one_pass_that_costs_the_queue_and_its_context(f, n, b):
    layout = BandedLayout(f, n, frames_per_level=b)
    (window,) = layout.windows
    assert (list(window.reads), list(window.writes)) == (list(range(layout.size)), list(range(f // 2, layout.size)))
    assert layout.frame_forwards_per_frame == (n * f + f // 2) / b
    fronts = [max(layout.context, layout.size - b * i) for i in range(1, layout.levels + 1)]
    passes = [window for front in fronts for window in layout.windows_from(front)]
    assert [list(w.writes) for w in passes] == [list(range(front, layout.size)) for front in fronts]
    # As in windows, f - 1 known frames before the first new one are read, or all there are.
    assert all(w.reads.start == max(0, w.writes.start - f + 1) and w.reads.stop == layout.size for w in passes)
    assert layout.fill_forwards == sum(len(w.reads) for w in passes)
    assert all(len(w.reads) >= f for w in passes)


@pytest.mark.parametrize("f", [2, 5, 16])
@pytest.mark.parametrize("lookahead", [False, True, "banded"])
@pytest.mark.parametrize("band", [None, "windows", 0, 1])
def test_every_slot_sees_f_slots_among_them_itself(f, lookahead, band):
    layout = BandedLayout(f, 3, band=band) if lookahead == "banded" else QueueLayout(f, 3, lookahead)
    assert len(layout.bands) == layout.size
    for p, seen in enumerate(layout.bands):
        assert p in seen
        assert (len(seen), seen.start >= 0, seen.stop <= layout.size) == (f, True, True)
    assert list(layout.bands) == sorted(layout.bands, key=lambda seen: seen.start)
    if lookahead != "banded":
        assert all(layout.bands[p] == window.reads for window in layout.windows for p in window.writes)


def test_bands_of_windows_are_those_of_the_windows():
    for f in (4, 5):
        windows, layout = QueueLayout(f, 3, True).windows, BandedLayout(f, 3, band="windows")
        assert all(layout.bands[p] == w.reads for w in windows for p in w.writes)
        assert layout.bands == QueueLayout(f, 3, True).bands
        assert set(layout.bands[: f // 2]) == {range(f)}


def test_a_sliding_band_stops_at_the_ends_of_the_queue():
    bands = BandedLayout(16, 2, band=11).bands
    assert [band.start for band in bands] == [0] * 12 + list(range(1, 24)) + [24] * 5
    assert BandedLayout(4, 2, band=3).bands[-1] == range(6, 10)
    for f, cleaner in ((2, 0), (4, 2), (7, 5), (16, 13), (24, 20)):
        assert BandedLayout(f, 2).bands == BandedLayout(f, 2, band=cleaner).bands


@pytest.mark.parametrize("band", ["windows", 11])
def test_bands_of_the_last_slots_are_those_of_all_but_at_the_cut(band):
    layout = BandedLayout(16, 4, band=band)
    for count in (16, 17, 40, 72):
        cut, first = layout.last_bands(count), layout.size - count
        assert len(cut) == count
        assert all(seen == range(max(0, seen.start), seen.start + 16) and seen.stop <= count for seen in cut)
        whole = [range(seen.start - first, seen.stop - first) for seen in layout.bands[first:]]
        assert all(a == b or (a.start == 0 and b.start < 0) for a, b in zip(cut, whole, strict=True))
        assert all(p in seen for p, seen in enumerate(cut))
    assert layout.last_bands(72) == layout.bands


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (QueueLayout, {"lookahead": "window"}),
        (QueueLayout, {"lookahead": "banded"}),
        (BandedLayout, {"lookahead": False}),
    ]
    + [(BandedLayout, {"band": band}) for band in (4, -1, "none")],
)
def test_other_kinds_of_lookahead_and_bands_are_named(kind, change):
    name, value = next(iter(change.items()))
    with pytest.raises(ValueError, match=f"^{name}={value!r}: .*give "):
        kind(**{"frames": 4} | change)


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
    with pytest.raises(ValueError, match=f"^{name}=.*: give a whole number of at least"):
        QueueLayout(**{"frames": 4} | change)


def test_where_b_does_not_divide_the_queue_levels_differ_by_one_frame_and_move_round():
    """Wan's f in four levels: a group keeps together on its way down."""
    layout = QueueLayout(21, 1, True, 6)
    assert (layout.levels, layout.groups, layout.period) == (4, (5, 5, 5, 6), 4)
    assert layout.summary == "n = 1 partitions, b = 5 or 6 frames per level"
    assert [layout.step(k).leave for k in range(5)] == [5, 5, 5, 6, 5]
    assert [layout.step(1).levels.count(level) for level in range(1, 4)] == [5, 6, 5]
    assert layout.frame_forwards_per_frame == 8
    for f, n, b in ((21, 1, 4), (7, 3, 5), (16, 1, 3), (5, 1, 5)):
        groups = QueueLayout(f, n, False, b).groups
        assert (sum(groups), max(groups) - min(groups) <= 1, max(groups) <= b) == (n * f, True, True)
        assert len(groups) == -(-n * f // b)


def test_more_frames_per_level_than_slots_and_uneven_levels_for_memory_frames():
    with pytest.raises(ValueError, match="the queue has 2 x 4 = 8 slots; give no more"):
        QueueLayout(4, 2, frames_per_level=9)
    with pytest.raises(ValueError, match="use one of 1, 2, 4, 8"):
        MemoryLayout(4, 2, frames_per_level=3)
