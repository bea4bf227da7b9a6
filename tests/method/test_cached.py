"""Windows that reuse what was predicted: which, with what result, and at what cost."""

from itertools import islice

import diffusers
import pytest
import torch

from fifo_diffusion.execution.batches import in_batches
from fifo_diffusion.method import Queue, SeededNoise, diagonal_denoising
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny
from layouts import queue_layout

SHAPE = (4, 3, 3)
NOISE = SeededNoise([7], SHAPE)
LAYOUTS = {
    "lookahead": {"window": 4, "num_partitions": 4},
    "partitions only": {"window": 4, "num_partitions": 4, "lookahead": False},
    "odd": {"window": 5, "num_partitions": 3},
    "two per level": {"window": 4, "num_partitions": 8, "frames_per_level": 2},
    "rotating": {"window": 4, "num_partitions": 4, "layout": "rotating"},
    "memory": {"window": 4, "num_partitions": 8, "frames_per_level": 2, "layout": "memory"},
}
EVERY_LAYOUT = pytest.mark.parametrize("name", LAYOUTS)


def mixing(latents, timestep, frames):
    """A denoiser that mixes frames and sees all it is given."""
    number = torch.tensor([list(window) for window in frames]).repeat_interleave(len(latents) // len(frames), 0)
    own = torch.sin(latents + (timestep / 300)[:, None, :, None, None] + number[:, None, :, None, None] / 50)
    return own + 0.3 * latents.mean(2, keepdim=True) + 0.1 * latents.roll(1, 2)


def started(layout, levels):
    known = torch.randn(1, 4, layout.frames, 3, 3, generator=torch.Generator().manual_seed(1))
    return Queue.from_known(layout, NOISE, known, 0, **levels.entering)


def made(layout, levels, predict=mixing, count=None, **more):
    """What leaves the queue until it has moved on by more than its length."""
    loop = diagonal_denoising(started(layout, levels), layout, levels, predict, NOISE, **more)
    return torch.cat([latents for _, latents in islice(loop, count or layout.levels + 9)], 2)


def ages(layout, iterations):
    """For each iteration, how long ago each frame in the queue was computed, frames by number."""
    last, head, found = {}, 0, []
    for i in range(iterations):
        for window in layout.step(i).windows:
            last |= {head + p: i for p in window.writes if not window.reuse}
        found.append({head + p: i - last.get(head + p, -1) for p in range(layout.context, layout.size)})
        head += layout.step(i).leave
    return found


@pytest.mark.parametrize("name", [*LAYOUTS, "paper"])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_windows_take_turns(name, k):
    """No iteration computes a window more than the mean (where the grid moves, two); the noisiest frames and
    the cleanest are computed always; of the paper's queue others at the latest k + 1 iterations after the last time."""
    layout = queue_layout(**LAYOUTS.get(name, {"window": 16, "num_partitions": 4}), cache=k)
    counts = []
    for i in range(layout.period):
        step = layout.step(i)
        assert [w.writes for w in step.windows] == [w.writes for w in layout.plain.step(i).windows]
        counts.append(sum(not w.reuse for w in step.windows))
        for w in step.windows:
            levels = [step.levels[p] for p in w.writes]
            assert not w.reuse or 2 <= min(levels) <= max(levels) < 0.8 * layout.levels
    assert max(counts) <= sum(counts) / len(counts) + 1 + (layout.plain.period > 1)
    assert min(counts) < len(layout.step(0).windows)
    waited = ages(layout, 3 * layout.levels)
    most = k if name == "paper" else 2 * k  # others stay but for some iterations in a part of the queue
    assert k - 1 <= max(age for each in waited for age in each.values()) <= most
    full = {sum(len(w.reads) for w in layout.step(i).windows if not w.reuse) for i in range(layout.period)}
    assert min(full) <= layout.frame_forwards <= max(full)


def remembered(layout, levels, told=lambda iteration, frame: 1):
    """A denoiser for the plain layout that makes every prediction, and gives what the cache would in its place: the one
    that means the clean latent last given of the frame, which it keeps by the frame's number."""
    kept, at = {}, {"iteration": 0, "window": 0}

    def predict(latents, timestep, frames):
        i, plain = at["iteration"], layout.plain.step(at["iteration"])
        front = layout.front(i)
        first = len(plain.windows) - len([w for w in plain.windows if max(w.writes) >= front])
        r = first + at["window"]
        at["window"] += 1
        if r + 1 == len(plain.windows):
            at["iteration"], at["window"] = i + 1, 0
        window, output = layout.step(i).windows[r], mixing(latents, timestep, frames).clone()
        level = torch.tensor([[plain.levels[p] for p in window.reads]])
        places = [(window.reads.index(p), p) for p in window.writes if p >= front]
        under = {j: told(i, frames[0][j]) for j, _ in places}
        if window.reuse and all(kept.get(frames[0][j], (0,))[0] == under[j] for j, _ in places):
            for j, _ in places:
                one = slice(j, j + 1)
                clean = kept[frames[0][j]][1]
                output[:, :, one] = levels.prediction_of(latents[:, :, one], clean, level[:, one])
        clean, _ = levels.split(latents, output, level)
        kept.update({frames[0][j]: (under[j], clean[:, :, j : j + 1]) for j, _ in places})
        return output

    return predict


SCHEDULERS = {
    "epsilon": tiny.scheduler(),
    "v": tiny.scheduler(prediction_type="v_prediction"),
    "history": diffusers.UniPCMultistepScheduler.from_config(tiny.scheduler().config, solver_order=2),
    "flow": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
}


@pytest.mark.parametrize(
    ("name", "scheduler", "eta"),
    [(name, "epsilon", 0.0) for name in LAYOUTS]
    + [("lookahead", "v", 1.0), ("lookahead", "history", 0.0), ("rotating", "flow", 0.0)],
)
def test_a_frame_goes_on_with_what_was_last_predicted_of_it(name, scheduler, eta):
    """Against a memory by frame number, which knows nothing of slots; and it is not what no cache makes."""
    layout = queue_layout(**LAYOUTS[name], cache=3)
    plain = read_levels(SCHEDULERS[scheduler], layout.levels, eta=eta)
    found = made(layout, plain.keeping_clean(), run=in_batches(lambda: 2))
    expected = made(layout.plain, plain, remembered(layout, plain))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    other = made(layout.plain, plain)
    assert float((other - found).norm() / other.norm()) > 1e-3


def test_where_only_the_frame_counts_nothing_changes():
    """A denoiser that predicts the same clean latent of a frame at every level."""
    layout = queue_layout(**LAYOUTS["lookahead"], cache=16)
    levels = read_levels(tiny.scheduler(prediction_type="sample"), layout.levels, eta=0.5)

    def knowing(latents, timestep, frames):
        worlds = [torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(100 + g)) for g in frames[0]]
        return torch.stack(worlds, 1)[None]

    calls = []

    def counted(latents, timestep, frames):
        calls.append(frames)
        return knowing(latents, timestep, frames)

    found = made(layout, levels.keeping_clean(), counted)
    assert torch.equal(found, made(layout.plain, levels, knowing))
    assert len(calls) < 0.6 * (layout.levels + 9) * len(layout.plain.step(0).windows)


def test_what_was_predicted_under_another_text_is_not_reused():
    """Half of the frames get another text in iteration 20, and all in 30; every window that holds one is computed."""
    layout = queue_layout(**LAYOUTS["lookahead"], cache=4)
    plain = read_levels(tiny.scheduler(), layout.levels)
    queue = started(layout, plain.keeping_clean())

    def told(iteration, frame):
        return 1 + (iteration >= 20 and frame % 8 < 4) + 2 * (iteration >= 30)

    calls = []

    def counted(latents, timestep, frames):
        calls.append(queue.iteration)
        return mixing(latents, timestep, frames)

    args = layout, plain.keeping_clean(), counted, NOISE
    loop = diagonal_denoising(queue, *args, texts=lambda frames: [told(queue.iteration, g) for g in frames])
    found = torch.cat([latents for _, latents in islice(loop, 40)], 2)
    expected = made(layout.plain, plain, remembered(layout, plain, told), 40)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    usual = sum(not w.reuse for w in layout.step(30 % layout.period).windows)
    assert calls.count(30) == len(layout.step(30).windows) > usual
    assert usual < calls.count(20) < calls.count(30)
    assert calls.count(34) == usual


def test_no_window_reuses_what_was_never_predicted():
    """A queue that came from elsewhere, with nothing kept; and the way down from pure noise."""
    layout = queue_layout(**LAYOUTS["lookahead"], cache=2)
    levels, calls = read_levels(tiny.scheduler(), layout.levels).keeping_clean(), []

    def counted(latents, timestep, frames):
        calls.append(queue.iteration)
        return mixing(latents, timestep, frames)

    queue = Queue.from_pure_noise(layout, NOISE, torch.zeros(1, 4, 1, 3, 3), **levels.entering)
    for _ in islice(diagonal_denoising(queue, layout, levels, counted, NOISE), layout.levels + 4):
        pass
    whole = len(layout.step(0).windows)
    assert [calls.count(i) for i in range(layout.levels - 1)] == [whole] * (layout.levels - 1)
    assert all(calls.count(i) < whole for i in range(layout.levels - 1, layout.levels + 4))
    calls.clear()
    queue.texts = ()
    next(diagonal_denoising(queue, layout, levels, counted, NOISE))
    assert len(calls) == whole


@EVERY_LAYOUT
def test_the_cost_is_what_is_computed(name):
    layout = queue_layout(**LAYOUTS[name], cache=2)
    levels, forwards = read_levels(tiny.scheduler(), layout.levels).keeping_clean(), []

    def counted(latents, timestep, frames):
        forwards[-1] += sum(map(len, frames))
        return mixing(latents, timestep, frames)

    loop = diagonal_denoising(started(layout, levels), layout, levels, counted, NOISE)
    for _ in range(layout.fill_iterations + 4 * layout.period):
        forwards.append(0)
        next(loop)
    assert sum(forwards[: layout.fill_iterations]) == layout.fill_forwards
    left = layout.left(2 * layout.period) / 2 / layout.period
    steady = forwards[-layout.period :]
    assert sum(steady) / len(steady) / left == pytest.approx(layout.frame_forwards_per_frame)
    assert layout.frame_forwards_per_frame < layout.plain.frame_forwards_per_frame


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction", "sample"])
def test_a_prediction_can_be_made_of_the_clean_latent_that_it_means(kind):
    levels = read_levels(tiny.scheduler(), 8)
    levels = type(levels)(**{n: getattr(levels, n) for n in levels.__dataclass_fields__} | {"prediction": kind})
    x, y = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    at = torch.tensor([[1, 4, 6]])
    torch.testing.assert_close(levels.prediction_of(x, levels.split(x, y, at)[0], at), y, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="keep no clean latents"):
        levels.step(x, None, at)


def test_a_queue_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="cache=2: no window of this queue lies between"):
        queue_layout(4, 1, cache=2)
    with pytest.raises(ValueError, match="lookahead='banded': it computes the queue as one"):
        queue_layout(4, 4, "banded", cache=2)
