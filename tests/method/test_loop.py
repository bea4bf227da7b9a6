"""The loop, with denoisers that can be followed by hand: invariants 1, 3, 4 and 5."""

from dataclasses import replace
from itertools import islice

import diffusers
import pytest
import torch

from fifo_diffusion.execution.batches import in_batches
from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, complete_clip, diagonal_denoising, sample_clip
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny
from layouts import queue_layout

SHAPE = (4, 3, 3)
LIKE = torch.zeros(1, 4, 1, 3, 3)
NOISE = SeededNoise([7], SHAPE)
CLIP_NOISE = SeededNoise([7], SHAPE, 8)

LAYOUTS = [(16, 1, False), (8, 2, False), (4, 4, False), (16, 1, True), (8, 2, True), (4, 4, True), (2, 8, True)]
LAYOUTS += [(16, 1, "banded"), (4, 4, "banded")]
ODD = [(5, 3, True), (5, 3, False), (3, 5, True), (15, 1, True), (5, 3, "banded")]


def world(frame):
    """The clean latent of a frame."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1000 + frame))


def worlds(frames):
    return torch.stack([world(g) for g in frames], 1)[None]


def entered(frame, levels):
    """The noise of a frame that entered as pure noise, of which the top level takes a little for signal."""
    alpha, sigma = float(levels.alpha[-1]), float(levels.sigma[-1])
    return (NOISE(frame, len(levels)) - alpha * world(frame)) / sigma


def run(predict, layout, levels, count, *, start="known", windows=1, noise=NOISE, first_new=0):
    """Clean latents of the first `count` new frames."""
    if start == "known":
        known = worlds(range(first_new - layout.frames, first_new))
        queue = Queue.from_known(layout, noise, known, first_new, planes=levels.planes)
    elif start == "noise":
        queue = Queue.from_pure_noise(layout, noise, LIKE, planes=levels.planes)
    else:
        queue = Queue.from_clip_published(layout, levels, noise, worlds(range(layout.frames)))
    frames = {}
    for first, latents in diagonal_denoising(queue, layout, levels, predict, noise, in_batches(lambda: windows)):
        frames |= {first + k: latent for k, latent in enumerate(latents.unbind(2)) if first + k >= first_new}
        if len(frames) >= count:
            return torch.stack([frames[g] for g in range(first_new, first_new + count)], 2)


def per_frame(latents, timestep, frames):
    """A denoiser that does not mix frames, and sees latent, timestep and frame number."""
    number = torch.tensor([list(window) for window in frames]).repeat_interleave(len(latents) // len(frames), 0)
    return torch.sin(latents + (timestep / 100)[:, None, :, None, None]) + number[:, None, :, None, None] / 100


def mixing(latents, timestep, frames):
    """A denoiser whose every frame depends on the whole window and on its order."""
    weight = torch.arange(1.0, latents.shape[2] + 1)[None, None, :, None, None]
    return per_frame(latents, timestep, frames) + (latents * weight).mean(2, keepdim=True) / latents.shape[2]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("start", ["known", "noise"])
@pytest.mark.parametrize(("f", "n", "lookahead"), LAYOUTS[1:])
def test_without_frame_mixing_all_settings_of_equal_length_agree(f, n, lookahead, start, eta):
    """Invariant 3; the first layout is Algorithm 1."""
    levels = read_levels(tiny.scheduler(), 16, eta=eta)
    expected = run(per_frame, QueueLayout(16, 1, False), levels, 12, start=start)
    found = run(per_frame, queue_layout(f, n, lookahead), levels, 12, start=start)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize("start", ["known", "noise"])
@pytest.mark.parametrize(("f", "n", "b", "lookahead"), [(12, 1, 1, False), (4, 3, 1, True), (5, 4, 2, "banded")])
def test_what_a_solver_remembers_travels_with_its_frame(f, n, b, lookahead, start, kind):
    """Without frame mixing, every frame of the queue is what ordinary sampling makes of it."""
    layout = queue_layout(f, n, lookahead, b)
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    levels = read_levels(getattr(diffusers, kind)(**flow, flow_shift=3.0), layout.levels)
    *_, expected = sample_clip(levels, per_frame, NOISE, range(8), torch.zeros(1, 4, 8, 3, 3), use="queue")
    found = run(per_frame, layout, levels, 8, start=start)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(run(per_frame, layout, levels.without_memory(), 8, start=start), expected, atol=1e-2)


@pytest.mark.parametrize("lookahead", [False, True, "banded"])
@pytest.mark.parametrize("start", ["known", "noise"])
def test_frames_per_level_without_frame_mixing_is_a_shorter_queue(lookahead, start):
    levels = read_levels(tiny.scheduler(), 8, eta=0.5)
    expected = run(per_frame, QueueLayout(8, 1, False), levels, 12, start=start)
    for b in (2, 4):
        found = run(per_frame, queue_layout(8, b, lookahead, b), levels, 12, start=start)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["known", "noise", "published"])
@pytest.mark.parametrize(("f", "n", "lookahead"), LAYOUTS + ODD)
def test_a_perfect_denoiser_gives_the_frames_that_it_knows(f, n, lookahead, start):
    """Invariant 4, where the last alpha is 1."""
    layout = queue_layout(f, n, lookahead)
    levels = read_levels(tiny.scheduler(prediction_type="sample"), layout.levels)
    found = run(lambda x, t, frames: worlds(frames[0]), layout, levels, 9, start=start)
    torch.testing.assert_close(found, worlds(range(9)), rtol=1e-4, atol=1e-4)


def test_a_perfect_denoiser_leaves_the_lowest_level_where_the_schedule_does():
    """Invariant 4, where the last alpha is not 1: sqrt(a) x0 + sqrt(1 - a) e."""
    layout = QueueLayout(4, 2, True)
    scheduler = tiny.scheduler(prediction_type="sample", set_alpha_to_one=False)
    levels = read_levels(scheduler, layout.levels)
    found = run(lambda x, t, frames: worlds(frames[0]), layout, levels, 6)
    a = float(scheduler.final_alpha_cumprod)
    noise = torch.stack([entered(g, levels) for g in range(6)], 2)
    torch.testing.assert_close(found, a**0.5 * worlds(range(6)) + (1 - a) ** 0.5 * noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("start", ["known", "noise"])
@pytest.mark.parametrize("lookahead", [False, True, "banded"])
@pytest.mark.parametrize("f", [4, 6, 5])
def test_every_frame_goes_through_every_level_once_and_in_order(f, lookahead, start, b):
    """Invariant 1, the half about levels; and every label is the level that the content has."""
    layout = queue_layout(f, 2, lookahead, b)
    levels = read_levels(tiny.scheduler(prediction_type="sample"), layout.levels)
    level_of = {int(t): k for k, t in enumerate(levels.timestep)}
    steps: dict[int, list[int]] = {}

    def predict(latents, timestep, frames):
        for g, t, latent in zip(frames[0], timestep[0], latents.unbind(2), strict=True):
            known = start == "known" and g < 0
            noise = NOISE(g, layout.levels) if known else entered(g, levels)
            expected = levels.renoise(world(g)[None, :, None], noise[:, :, None], torch.tensor([[level_of[int(t)]]]))
            torch.testing.assert_close(latent, expected[:, :, 0], rtol=1e-3, atol=1e-3)
        return worlds(frames[0])

    queue = (
        Queue.from_known(layout, NOISE, worlds(range(-f, 0)), 0)
        if start == "known"
        else Queue.from_pure_noise(layout, NOISE, LIKE)
    )
    loop = diagonal_denoising(queue, layout, levels, predict, NOISE)
    done = []
    for _ in range(2 * layout.levels + 4):
        before = dict(zip(queue.frames(layout), queue.step(layout).levels, strict=True))
        first, _ = next(loop)
        front = layout.context if start == "noise" else max(layout.context, -next(iter(before)))
        for p, (g, level) in enumerate(before.items()):
            if p >= max(layout.context, front) and g >= 0:
                steps.setdefault(g, []).append(level)
        done += [g for g in range(first, first + b) if g >= 0]
    assert done == list(range(len(done)))
    assert done
    for g in done:
        assert steps[g] == list(reversed(range(layout.levels))) or (start == "noise" and g < layout.slots)


@pytest.mark.parametrize("windows", [2, 3, 8])
def test_windows_one_by_one_or_batched_give_the_same(windows):
    """Invariant 5."""
    layout, noise = QueueLayout(4, 4, True), SeededNoise([7, 8], SHAPE)
    levels = read_levels(tiny.scheduler(), layout.levels, eta=0.5)
    videos = [run_two(layout, levels, noise, w) for w in (1, windows)]
    torch.testing.assert_close(videos[1], videos[0], rtol=1e-5, atol=1e-6)


def run_two(layout, levels, noise, windows):
    queue = Queue.from_known(layout, noise, worlds(range(-4, 0)).expand(2, -1, -1, -1, -1), 0)
    loop = diagonal_denoising(queue, layout, levels, mixing, noise, in_batches(lambda: windows))
    return torch.cat([latents for _, latents in islice(loop, 24)], 2)


def test_a_batch_of_videos_is_the_videos_one_by_one():
    layout = QueueLayout(4, 2, True)
    levels = read_levels(tiny.scheduler(), layout.levels, eta=1.0)
    both = run_two(layout, levels, SeededNoise([7, 8], SHAPE), 2)
    for k, seed in enumerate([7, 8]):
        noise = SeededNoise([seed], SHAPE)
        queue = Queue.from_known(layout, noise, worlds(range(-4, 0)), 0)
        loop = diagonal_denoising(queue, layout, levels, mixing, noise)
        alone = torch.cat([latents for _, latents in islice(loop, 24)], 2)
        torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lookahead", [True, "banded"])
def test_known_frames_are_computed_around_but_never_changed(lookahead):
    """The fill skips windows without new frames, and costs what the layout says."""
    layout = queue_layout(4, 3, lookahead)
    levels = read_levels(tiny.scheduler(prediction_type="sample"), layout.levels)
    calls = []

    def predict(latents, timestep, frames):
        calls.append(frames)
        return mixing(latents, timestep, frames)

    run(predict, layout, levels, 1)
    assert sum(len(frames) for call in calls for frames in call) == layout.fill_forwards
    assert calls[0] == [[-3, -2, -1, 0]]  # the first new frame enters with the last known ones as its past


def test_the_loop_reads_one_snapshot_per_iteration():
    """A wrong order of windows would show: the result must not depend on who is computed first."""
    layout = QueueLayout(4, 3, True)
    levels = read_levels(tiny.scheduler(), layout.levels)
    forward = run(mixing, layout, levels, 6, start="noise")

    class Backwards(QueueLayout):
        @property
        def windows(self):
            return tuple(reversed(super().windows))

    backward = run(mixing, Backwards(4, 3, True), levels, 6, start="noise")
    torch.testing.assert_close(backward, forward, rtol=0, atol=0)


def test_mutations_are_noticed():
    """Invariant 9: one slot or one frame off is far outside every tolerance above."""
    layout = QueueLayout(4, 4, True)
    levels = read_levels(tiny.scheduler(), layout.levels)
    right = run(mixing, layout, levels, 6)
    shifted_time = run(lambda x, t, g: mixing(x, t.roll(1, 1), g), layout, levels, 6)
    shifted_window = run(lambda x, t, g: mixing(x.roll(1, 2), t, g), layout, levels, 6)
    for wrong in (shifted_time, shifted_window):
        assert float((wrong - right).norm() / right.norm()) > 1e-2


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_ordinary_clip_is_what_the_scheduler_samples(eta):
    """Eq. 2, against a loop over `scheduler.step`."""
    scheduler = tiny.scheduler()
    levels = read_levels(scheduler, 8, eta=eta, scheduler_exact=True)
    like = torch.zeros(1, 4, 5, 3, 3)
    *_, found = sample_clip(levels, per_frame, NOISE, range(5), like, use="queue")
    scheduler.set_timesteps(8)
    x = torch.stack([NOISE(g, 8) for g in range(5)], 2)
    for k, t in zip(reversed(range(8)), scheduler.timesteps, strict=True):
        fresh = torch.stack([NOISE(g, k) for g in range(5)], 2)
        prediction = per_frame(x, t.expand(1, 5), [range(5)])
        x = scheduler.step(prediction, t, x, eta=eta, variance_noise=fresh).prev_sample
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("given", [1, 3, 4])
def test_a_completed_clip_begins_as_given_and_without_frame_mixing_is_an_ordinary_one(given, eta):
    levels, first = read_levels(tiny.scheduler(), 8, eta=eta), worlds(range(given))
    *_, found = complete_clip(levels, per_frame, CLIP_NOISE, range(5), first, descents=[8])
    *_, expected = sample_clip(levels, per_frame, CLIP_NOISE, range(5), torch.zeros(1, 4, 5, 3, 3))
    assert torch.equal(found[:, :, :given], first)
    torch.testing.assert_close(found[:, :, given:], expected[:, :, given:], rtol=1e-4, atol=1e-5)


def test_a_completed_clip_sees_the_given_frames_clean_and_once_more_not_at_all():
    levels, first, calls = read_levels(tiny.scheduler(), 8), worlds(range(2)), []

    def predict(latents, timestep, frames):
        calls.append((latents[:, :, :2], timestep[0]))
        return mixing(latents, timestep, frames)

    *_, found = complete_clip(levels, predict, CLIP_NOISE, range(5), first)
    assert len(calls) == 2 * (8 + 5 + 5)
    noise = torch.stack([CLIP_NOISE(g, 8, "clip") for g in range(2)], 2)
    top_down = [7, 6, 5, 4, 3, 2, 1, 0, 4, 3, 2, 1, 0, 4, 3, 2, 1, 0]
    for index, seen, unseen in zip(top_down, calls[::2], calls[1::2], strict=True):
        assert seen[1].tolist()[:2] == [int(levels.timestep[0])] * 2
        assert unseen[1].tolist() == [int(levels.timestep[-1])] * 2 + seen[1].tolist()[2:]
        assert set(seen[1].tolist()[2:]) == {int(levels.timestep[index])}
        torch.testing.assert_close(seen[0], levels.renoise(first, noise, torch.zeros(1, 2, dtype=torch.long)))
        assert torch.equal(unseen[0], noise)
    *_, other = complete_clip(levels, mixing, CLIP_NOISE, range(5), first + 1)
    assert (found - other)[:, :, 2:].abs().max() > 0.1


def test_noise_is_a_function_of_seed_frame_and_level():
    again = SeededNoise([7], SHAPE)
    assert torch.equal(NOISE(-3, 5), again(-3, 5))
    draws = [SeededNoise([s], (4, 16, 16))(g, lv) for s in (0, 1) for g in (-1, 0, 1) for lv in (0, 1)]
    for a in range(len(draws)):
        assert abs(float(draws[a].mean())) < 0.15
        assert abs(float(draws[a].std()) - 1) < 0.1
        for b in range(a):
            assert abs(float((draws[a] * draws[b]).mean())) < 0.15


def test_a_start_needs_a_window_of_known_frames():
    with pytest.raises(ValueError, match="at least 3 known frames"):
        Queue.from_known(QueueLayout(4, 2), NOISE, worlds(range(2)), 0)


@pytest.mark.parametrize("descents", [None, [8, 5]])
def test_a_completed_clip_by_hand(descents):
    """History guidance twice as far as the plain prediction, and new noise for each descent."""
    levels, first = read_levels(tiny.scheduler(), 8), worlds(range(2))
    frames, top = range(5), len(levels)
    *_, found = complete_clip(levels, mixing, CLIP_NOISE, frames, first, descents=descents)

    def expected(guidance=2.0, fresh="clip-{}".format):
        unseen = torch.stack([CLIP_NOISE(g, top, "clip") for g in (0, 1)], 2)
        seen = levels.renoise(first, unseen, torch.zeros(1, 2, dtype=torch.long))
        latents = torch.stack([CLIP_NOISE(g, top, "clip") for g in (2, 3, 4)], 2)
        for r, high in enumerate(descents or [8, 5, 5]):
            if r:
                noise = torch.stack([CLIP_NOISE(g, top, fresh(r)) for g in (2, 3, 4)], 2)
                latents = levels.renoise(latents, noise, torch.full((1, 3), high - 1))
            for level in reversed(range(high)):
                times = [torch.tensor([[past] * 2 + [level] * 3]) for past in (0, top - 1)]
                told, untold = (
                    mixing(torch.cat([past, latents], 2), levels.timestep[t], [frames])[:, :, 2:]
                    for past, t in zip((seen, unseen), times, strict=True)
                )
                prediction = untold + guidance * (told - untold)
                rows = torch.full((1, 3), level)
                latents, direction = levels.split(latents, prediction, rows)
                if level:
                    latents = levels.renoise(latents, direction, rows - 1)
        return latents

    torch.testing.assert_close(found[:, :, 2:], expected(), rtol=1e-4, atol=1e-5)
    for wrong in (expected(guidance=1.0), expected(fresh=lambda r: "clip")):
        assert float((wrong - found[:, :, 2:]).norm() / wrong.norm()) > 1e-2


def test_noise_does_not_repeat_in_long_videos():
    """Nor at high levels, for neighbouring seeds, or where 16, 32 or 48 bits would wrap around."""
    places = [(frame, level) for frame in (0, 1, 2**16, 2**16 + 1, 2**32, 2**48, -1) for level in (0, 1, 2**16, 2**32)]
    draws = [SeededNoise([seed], (1, 4, 4))(*place).flatten() for seed in (0, 1, 2**32) for place in places]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3 * len(places)


def test_noise_enters_as_strong_as_the_highest_level_has_it():
    """Where a scheduler counts in sigmas alone, with less than deviation 1: at first, later, and from pure noise."""
    layout = QueueLayout(4, 2, False)
    levels = replace(read_levels(tiny.scheduler(), layout.levels), entry=0.75)
    queue = Queue.from_known(layout, NOISE, worlds(range(-4, 0)), 0, **levels.entering)
    loop = diagonal_denoising(queue, layout, levels, per_frame, NOISE)
    for _ in range(3):
        expected = 0.75 * NOISE(queue.frames(layout)[-1], layout.levels)
        torch.testing.assert_close(queue.latents_BCFHW[:, :, -1], expected)
        next(loop)
    noise = Queue.from_pure_noise(layout, NOISE, LIKE, **levels.entering)
    expected = 0.75 * torch.stack([NOISE(g, layout.levels) for g in noise.frames(layout)], 2)
    torch.testing.assert_close(noise.latents_BCFHW, expected)
