"""Anchors: frames that every window sees in its first places."""

from itertools import islice

import pytest
import torch

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method import (
    AnchoredLayout,
    CachedLayout,
    NoiseLevels,
    Queue,
    QueueLayout,
    SeededNoise,
    diagonal_denoising,
)
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny
from layouts import queue_layout

SHAPE = (4, 3, 3)
NOISE = SeededNoise([7], SHAPE)
KNOWN = torch.randn(1, 4, 7, 3, 3, generator=torch.Generator().manual_seed(1))
FIRST_NEW = 3


def per_frame(latents, timestep, frames):
    """A denoiser that looks at single frames, their times and their numbers."""
    number = torch.tensor([list(window) for window in frames])[:, None, :, None, None] / 100
    return torch.sin(latents + (timestep / 100)[:, None, :, None, None]) + number


def mixing(latents, timestep, frames):
    return per_frame(latents, timestep, frames) + latents.mean(2, keepdim=True)


def anchored(f=4, n=2, m=2, **more):
    """Of which f places of a window are for the queue."""
    return queue_layout(f + m, n, anchors=m, **more)


def levels_of(layout) -> NoiseLevels:
    levels = read_levels(tiny.scheduler(), layout.levels)
    return levels.keeping_clean() if layout.plain is not layout else levels


def video(layout, predict=per_frame, count=12):
    levels = levels_of(layout)
    queue = Queue.from_known(layout, NOISE, KNOWN, FIRST_NEW, **levels.entering)
    latents = []
    for first, left in diagonal_denoising(queue, layout, levels, predict, NOISE):
        latents += [x for k, x in enumerate(left.unbind(2)) if first + k >= FIRST_NEW]
        if len(latents) >= count:
            return torch.stack(latents[:count], 2)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"lookahead": False, "frames_per_level": 2},
        {"layout": "rotating"},
        {"layout": "memory"},
        {"n": 4, "cache": 2},
    ],
    ids=str,
)
def test_a_model_that_does_not_mix_frames_makes_the_same_video(more):
    n = more.pop("n", 2)
    layouts = [anchored(n=n, m=m, **more) for m in (0, 1, 3)]
    assert [layout.anchors for layout in layouts] == [0, 1, 3]
    expected = video(layouts[0])
    for layout in layouts[1:]:
        torch.testing.assert_close(video(layout), expected, rtol=1e-4, atol=1e-5)
        assert layout.frame_forwards == layout.frames / layouts[0].frames * layouts[0].frame_forwards
    mixed = video(layouts[1], mixing)
    assert (mixed - video(layouts[0], mixing)).abs().max() > 1e-2


def test_none_is_the_layout_itself():
    assert anchored(m=0) == QueueLayout(4, 2)


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("every", [None, 3, 1])
def test_every_window_sees_the_anchors_under_their_own_noise_at_one_level(every, lowest):
    """The first ones of the known frames; renewed ones are those that left last, in the order of time."""
    m, layout = 2, AnchoredLayout(QueueLayout(4, 2), 2, every, lowest)
    levels = levels_of(layout)
    queue = Queue.from_known(layout, NOISE, KNOWN, FIRST_NEW)
    oldest = FIRST_NEW - KNOWN.shape[2]
    anchors = [(oldest, KNOWN[:, :, 0]), (oldest + 1, KNOWN[:, :, 1])]
    level_of = {int(t): k for k, t in enumerate(levels.timestep)}
    seen = []

    def looking(latents, timestep, frames):
        told, own = [level_of[int(t)] for t in timestep[0, :m]], [level_of[int(t)] for t in timestep[0, m:]]
        assert told == [0 if lowest else min(own)] * m
        assert list(frames[0][:m]) == [frames[0][m]] * m
        for k, (number, clean) in enumerate(anchors):
            drawn = NOISE(number, layout.levels)[:, :, None]
            expected = levels.renoise(clean[:, :, None], drawn, torch.tensor([told[:1]]))
            torch.testing.assert_close(latents[:, :, k : k + 1], expected)
            seen.append(number)
        return mixing(latents, timestep, frames)

    for first, left in islice(diagonal_denoising(queue, layout, levels, looking, NOISE), 20):
        done = first - FIRST_NEW + 1
        if every and done > 0 and done % every == 0:
            anchors[:] = [anchors[1], (first, left[:, :, 0])]
    assert len(set(seen)) == {None: 2, 3: 6, 1: 14}[every]


def test_anchors_that_leave_no_room_are_refused():
    with pytest.raises(ArgumentError, match=r"^anchors=3: there are 4 places in a window; use anchors=2 or less"):
        queue_layout(4, 2, anchors=3)
    with pytest.raises(ArgumentError, match=r"^lookahead='banded': it has no windows whose first places"):
        queue_layout(6, 2, "banded", anchors=2)


def test_a_layout_of_ones_own_begins_clips_in_its_way_with_anchors_too():
    class Own(QueueLayout):
        descents = (3, 1)

    assert AnchoredLayout(Own(4, 2), 1).descents == CachedLayout(Own(4, 4), 2).descents == (3, 1)
