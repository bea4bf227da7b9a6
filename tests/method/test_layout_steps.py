"""Layouts as data: whatever its steps, a denoiser that does not mix frames makes the same video (invariant 3)."""

from dataclasses import dataclass

import pytest
import torch

from fifo_diffusion.evaluation.relative_mse import diagonal_errors
from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import Layout, Queue, QueueLayout, SeededNoise, Step, Window, diagonal_denoising
from fifo_diffusion.method.layout import index_of
from fifo_diffusion.method.memory import MemoryLayout
from fifo_diffusion.method.rotating import RotatingLayout
from fifo_diffusion.method.widening import WideningLayout
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny

SHAPE = (4, 3, 3)
NOISE = SeededNoise([7], SHAPE)


@dataclass(frozen=True)
class Blocks(Layout):
    """A block of f frames comes down together, `stride` levels at a time, and leaves whole; the block before it is in
    sight."""

    frames: int = 4
    period: int = 3
    stride: int = 1
    slots = property(lambda self: self.frames)
    context = property(lambda self: self.frames)
    levels = property(lambda self: self.period * self.stride)

    def step(self, iteration: int) -> Step:
        level = self.levels - 1 - iteration % self.period * self.stride
        window = Window(range(self.size), range(self.context, self.size))
        now, then = [(0,) * self.context + (j,) * self.slots for j in (level, max(-1, level - self.stride))]
        return Step(now, (0,) * self.context + then[self.context :], (window,), self.slots if then[-1] < 0 else 0)


@dataclass(frozen=True)
class Remembering(QueueLayout):
    """Partitions, of which all but the first see the head too; written noisiest first."""

    @property
    def windows(self) -> tuple[Window, ...]:
        first, *others = super().windows
        return (*(Window((0, *w.reads), tuple(reversed(w.writes))) for w in reversed(others)), first)


@dataclass(frozen=True)
class Alternating(QueueLayout):
    """The border between the two windows moves from iteration to iteration."""

    frames: int = 4
    partitions: int = 2
    lookahead: bool = False
    period: int = 2

    def step(self, iteration: int) -> Step:
        now, border = super().step(iteration), (4, 2)[iteration % 2]
        parts = range(border), range(border, 8)
        return Step(now.levels, now.targets, tuple(Window(part, part) for part in parts), now.leave)


def world(frame):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + frame))


def denoise(latents, timestep, frames):
    """A denoiser that does not mix frames, and sees latent, timestep and frame number."""
    number = torch.tensor(frames).repeat_interleave(len(latents) // len(frames), 0)
    return torch.sin(latents + (timestep / 100)[:, None, :, None, None]) + number[:, None, :, None, None] / 100


def video(layout, levels, count=10, predict=denoise, noise=NOISE):
    known = torch.stack([world(g) for g in range(-12, 0)], 1)[None]
    queue, frames = Queue.from_known(layout, noise, known, 0), {}
    for first, latents in diagonal_denoising(queue, layout, levels, predict, noise):
        frames |= {first + k: latent for k, latent in enumerate(latents.unbind(2)) if first + k >= 0}
        if len(frames) >= count:
            return torch.stack([frames[g] for g in range(count)], 2)


LAYOUTS = {
    "blocks": (Blocks(4, 8), 8),
    "remembering": (Remembering(4, 3, False), 12),
    "alternating": (Alternating(), 8),
    "rotating": (RotatingLayout(4, 2), 8),
    "rotating without lookahead": (RotatingLayout(3, 3, False), 9),
    "widening": (WideningLayout(4, 3, frames_per_level=2), 6),
    "widening early": (WideningLayout(4, 2, frames_per_level=1, clean_levels=6), 8),
    "widening in threes": (WideningLayout(5, 2, frames_per_level=1, clean_levels=3), 10),
    "widening one level": (WideningLayout(4, 3, frames_per_level=4, clean_levels=1), 3),
    "memory": (MemoryLayout(4, 4, frames_per_level=2), 8),
    "long memory": (MemoryLayout(8, 4, frames_per_level=4), 8),
    "levels of one or two": (QueueLayout(5, 1, True, 2), 3),
    "levels of three or four": (QueueLayout(5, 3, False, 4), 4),
    "uneven and rotating": (RotatingLayout(5, 1, True, 2), 3),
}


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout_makes_the_video_of_the_plain_one(name, eta):
    layout, count = LAYOUTS[name]
    levels = read_levels(tiny.scheduler(), count, eta=eta)
    expected = video(QueueLayout(count, 1, False), levels)
    torch.testing.assert_close(video(layout, levels), expected, rtol=1e-4, atol=1e-5)
    shifted = video(layout, levels, predict=lambda x, t, g: denoise(x, t + 20, g))
    assert (shifted - expected).abs().max() > 0.01


def test_steps_over_several_levels_are_those_of_fewer_levels():
    """Levels 5, 3, 1 and clean of six are a scheduler's own three, where it spaces them so."""
    six, three = (read_levels(tiny.scheduler(timestep_spacing="trailing"), count) for count in (6, 3))
    assert torch.equal(six.timestep[1::2], three.timestep)
    entering = {"noise": lambda frame, level, use: NOISE(frame, 0)}
    found, expected = video(Blocks(4, 3, 2), six, **entering), video(Blocks(4, 3), three, **entering)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_steps_over_several_levels_are_refused_where_noise_is_kept_in_part():
    with pytest.raises(ValueError, match="eta=0"):
        video(Blocks(4, 3, 2), read_levels(tiny.scheduler(), 6, eta=0.5))


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS.values()] + [QueueLayout(5, 3, True, 3)])
def test_slots_become_what_the_next_step_says(layout):
    """What a slot's target is, the slot that it moves to begins with; each is written once where its level changes."""
    for k in range(2 * layout.period):
        now, then = layout.step(k), layout.step(k + 1)
        queue = range(layout.context, layout.size)
        moved = [now.targets[p] for p in queue if p >= layout.context + now.leave]
        entered = [layout.levels - 1] * now.leave
        assert list(then.levels[layout.context :]) == moved + entered
        assert all(now.targets[p] == -1 for p in queue[: now.leave])
        written = sorted(p for w in now.windows for p in w.writes)
        assert written == [p for p in range(layout.size) if now.targets[p] != now.levels[p]]
        assert all(set(w.writes) <= set(w.reads) for w in now.windows)


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS.values()])
def test_costs_and_errors_are_read_from_the_steps(layout):
    """What is counted is what the loop sends through the model."""
    sent, levels = [], read_levels(tiny.scheduler(), layout.levels)

    def counting(latents, timestep, frames):
        sent.append(sum(map(len, frames)))
        return denoise(latents, timestep, frames)

    queue = Queue.from_known(layout, NOISE, torch.zeros(1, 4, 12, 3, 3), 0)
    loop, each = diagonal_denoising(queue, layout, levels, counting, NOISE), []
    for _ in range(layout.fill_iterations + 2 * layout.period):
        before = sum(sent)
        next(loop)
        each.append(sum(sent) - before)
    assert sum(each[: layout.fill_iterations]) == layout.fill_forwards
    per_frame = sum(each[-layout.period :]) / sum(layout.step(k).leave for k in range(layout.period))
    assert layout.frame_forwards_per_frame == per_frame == Cost(layout, 1).per_latent

    class Model:
        def predict(self, latents, timestep, condition):
            return latents.clone()

    clips = torch.randn(2, 4, layout.size, 3, 3)
    errors = diagonal_errors(Model(), levels, layout, clips, torch.randn_like(clips), None)
    assert errors.shape == (2, layout.slots)
    assert bool(errors.isfinite().all())


@pytest.mark.parametrize("layout", [RotatingLayout(4, 3), RotatingLayout(5, 2), MemoryLayout(8, 4, frames_per_level=4)])
def test_windows_that_move_read_f_real_frames(layout):
    """From a start of f known frames on: never a slot before the oldest of them, and each window is f long."""
    f, seen = layout.frames, []

    def looking(latents, timestep, frames):
        assert bool((latents != 0).flatten(1).any(1).all())
        assert {len(window) for window in frames} == {f}
        seen.append(min(map(min, frames)))
        return denoise(latents, timestep, frames)

    known = torch.stack([world(g) for g in range(-f, 0)], 1)[None]
    queue = Queue.from_known(layout, NOISE, known, 0)
    loop = diagonal_denoising(queue, layout, read_levels(tiny.scheduler(), layout.levels), looking, NOISE)
    for _ in range(layout.fill_iterations + layout.period):
        next(loop)
    assert min(seen) == (-f if isinstance(layout, MemoryLayout) else 1 - f)


@pytest.mark.parametrize("layout", [WideningLayout(8, 4, frames_per_level=4), WideningLayout(6, 3, clean_levels=7)])
def test_a_burst_is_narrow_at_the_noisy_end_and_wide_at_the_clean_one(layout):
    """How many frames share a level in a window's writes, and that the clean ones see no frame but their own and those
    before them; at the noisy end each level has b frames."""
    f, b, e = layout.frames, layout.frames_per_level, layout.wide
    for step in map(layout.step, range(layout.period)):
        for window in step.windows:
            assert len(window.reads) == f
            levels = [step.levels[p] for p in window.writes]
            assert len({level < e for level in levels}) == 1
            if levels[0] < e:
                assert len(set(levels)) == 1
                assert len(levels) == f // 2
        moving = [step.levels[p] for p in range(layout.size) if step.levels[p] != step.targets[p]]
        assert [moving.count(level) for level in range(e, layout.levels)] == [b] * (layout.levels - e)
        assert all(moving.count(level) in (0, f) for level in range(e))
    assert sorted(step.leave for step in map(layout.step, range(layout.period)))[-2:] == [0, f]


def test_a_burst_needs_levels_of_both_kinds():
    for more, said in (
        ({"frames_per_level": 3}, "frames_per_level=3: bursts are as long as a window of 4"),
        ({"frames_per_level": 8}, "frames_per_level=8: bursts are as long as a window of 4"),
        ({"clean_levels": 8}, "clean_levels=8: give a whole number from 1 to 7"),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            WideningLayout(4, 2, **more)


MOVING = [RotatingLayout(4, 2), MemoryLayout(4, 4, frames_per_level=2), QueueLayout(5, 3, True, 2)]


@pytest.mark.parametrize("layout", MOVING)
def test_windows_that_move_start_from_noise(layout):
    levels, like = read_levels(tiny.scheduler(), 8), torch.zeros(1, 4, 1, 3, 3)
    videos = []
    for each in (QueueLayout(8, 1, False), layout):
        queue, found = Queue.from_pure_noise(each, NOISE, like), {}
        for first, latents in diagonal_denoising(queue, each, levels, denoise, NOISE):
            found |= {first + k: latent for k, latent in enumerate(latents.unbind(2)) if first + k >= 0}
            if len(found) >= 10:
                break
        videos.append(torch.stack([found[g] for g in range(10)], 2))
    torch.testing.assert_close(*videos, rtol=1e-4, atol=1e-5)


def test_a_start_from_noise_needs_a_queue_that_goes_down_level_by_level():
    with pytest.raises(ValueError, match="use start='clip'"):
        Queue.from_pure_noise(Blocks(), NOISE, torch.zeros(1, 4, 1, 3, 3))


def test_neighbours_are_indexed_without_a_copy():
    assert index_of(range(2, 5)) == index_of((2, 3, 4)) == slice(2, 5)
    assert index_of((4, 3, 2)) == [4, 3, 2]
    assert index_of(()) == []


@pytest.mark.parametrize("b", [1, 2])
def test_memory_frames_come_before_their_window_in_the_order_of_the_video(b):
    """Two of them at f = 8; one from the middle of each group of a level before the window, but near the head."""
    layout, far = MemoryLayout(8, 4, frames_per_level=b), 0
    for k in range(layout.period):
        for window in layout.step(k).windows:
            assert list(window.reads) == sorted(set(window.reads))
            memory, first = window.reads[:2], window.reads[2]
            if first >= 2 * b and window.reads[-1] - first == 5:
                far += 1
                assert [(first - slot - (b + 1) // 2) / b for slot in memory] == [1, 0]
    assert far >= layout.period


@pytest.mark.parametrize("lookahead", [False, True])
def test_the_borders_between_windows_move_by_a_slot_in_each_iteration(lookahead):
    layout = RotatingLayout(4, 3, lookahead)
    for k in range(layout.period):
        borders = {window.writes[0] for window in layout.step(k).windows}
        assert borders == {layout.context, *range(layout.context + k, layout.size, 2 if lookahead else 4)}
    assert layout.period == (2 if lookahead else 4)
