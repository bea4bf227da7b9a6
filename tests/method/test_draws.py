"""Best of k tails: which draw is taken, when, and what it costs."""

import pytest
import torch

from fifo_diffusion.jobs.cost import Cost
from fifo_diffusion.method import Queue, QueueLayout, SeededNoise, Tail, choose_tail, diagonal_denoising
from fifo_diffusion.method.draws import can_choose, is_due
from fifo_diffusion.method.memory import MemoryLayout
from fifo_diffusion.method.rotating import RotatingLayout
from fifo_diffusion.models.shared.schedulers import read_levels
from fifo_diffusion.testing import tiny

SHAPE = (3, 2, 3)
NOISE = SeededNoise([5, 9], SHAPE, 8)
KNOWN = torch.randn((2, SHAPE[0], 8, *SHAPE[1:]), generator=torch.Generator().manual_seed(3))


def mixing(latents, timestep, frames):
    """A denoiser whose frames depend on the others of their window, and on where they stand in it."""
    places = torch.arange(latents.shape[2])[:, None, None]
    return torch.sin(2 * latents) + 0.3 * latents.mean(2, keepdim=True).roll(1, -1) + places / 10


def start(layout, tail, noise=NOISE, known=KNOWN):
    return Queue.from_known(layout, noise, known, 0, tail=tail)


def best_by_hand(queue, layout, levels, b, draws):
    """For each video the draw with the highest mean cosine, one window and one pair at a time."""
    frames, now, found = queue.frames(layout), queue.step(layout), []
    for draw in range(draws):
        x = queue.read(layout, levels, NOISE).clone()
        x[:, :, -b:] = torch.stack(
            [NOISE(g, layout.levels, f"tail-{draw}" if draw else "queue") for g in frames[-b:]], 2
        )
        scores = []
        for window in now.windows:
            entered = [p for p in window.reads if p >= layout.size - b]
            if not set(entered) & set(window.writes):
                continue
            rows = torch.tensor([[now.levels[p] for p in window.reads]])
            output = mixing(x[:, :, list(window.reads)], levels.timestep[rows], None)
            clean = levels.split(x[:, :, list(window.reads)], output, rows)[0].mean(1)
            at = {p: clean[:, k].flatten(1) for k, p in enumerate(window.reads)}
            pairs = [(p, q) for p in entered for q in window.reads if q not in entered]
            scores.append(torch.stack([torch.cosine_similarity(at[p], at[q]) for p, q in pairs]).mean(0))
        found.append(torch.stack(scores).mean(0))
    return torch.stack(found).argmax(0)


@pytest.mark.parametrize("layout", [QueueLayout(4, 2), QueueLayout(4, 4, True, 2), QueueLayout(8, 2, False, 2)])
def test_the_best_draw_enters(layout):
    b, levels = layout.frames_per_level, read_levels(tiny.scheduler(), layout.levels)
    queue, taken = start(layout, Tail(draws=4)), []
    loop = diagonal_denoising(queue, layout, levels, mixing, NOISE)
    for _ in range(8):
        best = best_by_hand(queue, layout, levels, b, 4)
        choose_tail(queue, layout, levels, mixing, NOISE)
        taken.append(best)
        for video, draw in enumerate(best.tolist()):
            use = f"tail-{draw}" if draw else "queue"
            expected = torch.stack([NOISE(g, layout.levels, use)[video] for g in queue.frames(layout)[-b:]], 1)
            assert torch.equal(queue.latents_BCFHW[video, :, -b:], expected)
        chosen = queue.latents_BCFHW
        choose_tail(queue, layout, levels, mixing, NOISE)  # whoever comes again chooses the same
        assert torch.equal(queue.latents_BCFHW, chosen)
        next(loop)
    assert len(torch.stack(taken).unique()) > 2
    assert (torch.stack(taken).diff(dim=1) != 0).any()  # each video has its own


def test_one_draw_is_the_plain_queue_and_no_pass():
    layout, levels = QueueLayout(4, 2), read_levels(tiny.scheduler(), 8)
    queue = start(layout, Tail(draws=1, threshold=0.1))
    before = queue.latents_BCFHW
    choose_tail(queue, layout, levels, None, NOISE)
    assert queue.latents_BCFHW is before


def run(layout, tail, iterations, predict=mixing):
    """The frames' noise of each iteration, and frame-forwards: of draws, of all."""
    levels, sent, entered = read_levels(tiny.scheduler(), layout.levels), [0, 0], []

    def counting(latents, timestep, frames):
        sent[1] += sum(map(len, frames))
        return predict(latents, timestep, frames)

    queue = start(layout, tail)
    loop = diagonal_denoising(queue, layout, levels, counting, NOISE)
    for _ in range(iterations):
        before = sent[1]
        choose_tail(queue, layout, levels, counting, NOISE)
        sent[0] += sent[1] - before
        entered.append(queue.latents_BCFHW[:, :, -1])
        next(loop)
    return torch.stack(entered), sent


@pytest.mark.parametrize(
    "layout",
    [QueueLayout(4, 2), RotatingLayout(4, 2), MemoryLayout(4, 4, frames_per_level=2), QueueLayout(4, 4, True, 4)],
)
@pytest.mark.parametrize("every", [1, 3, 4])
def test_what_is_counted_is_what_is_sent(layout, every):
    tail = Tail(draws=3, every=every)
    cost, plain = Cost(layout, 1, tail=tail), Cost(layout, 1)
    _, (of_draws, total) = run(layout, tail, layout.fill_iterations)
    assert (total, total - of_draws) == (cost.fill, plain.fill)
    more = 12 * layout.period
    _, (later, _) = run(layout, tail, layout.fill_iterations + more)
    frames = layout.left(layout.fill_iterations + more) - layout.left(layout.fill_iterations)
    assert (later - of_draws) / frames == pytest.approx(cost.of_draws, abs=2 * layout.frames * 3 / frames)
    assert cost.per_latent == plain.per_latent + cost.of_draws


def test_a_choice_comes_every_so_many_frames():
    layout = QueueLayout(4, 2)
    entered, _ = run(layout, Tail(draws=30, every=3), 9)
    fresh = torch.stack([NOISE(g, layout.levels) for g in range(9)])
    changed = [bool((a != b).any()) for a, b in zip(entered, fresh, strict=True)]
    assert changed == [g % 3 == 0 for g in range(9)]


def test_a_threshold_leaves_draws_that_do_not_fall_short():
    layout = QueueLayout(4, 2)
    always, (most, _) = run(layout, Tail(draws=4), 6)
    never, (least, _) = run(layout, Tail(draws=4, threshold=2.0), 6)
    some, (between, _) = run(layout, Tail(draws=4, threshold=0.3), 6)
    assert torch.equal(never, torch.stack([NOISE(g, layout.levels) for g in range(6)]))
    assert (least, most) == (6 * 4, 6 * 4 * 4)
    assert least < between < most
    assert not torch.equal(some, never)
    assert not torch.equal(some, always)


def test_further_draws_are_numbers_of_their_own():
    """Of a frame that enters: no step and no other draw has them."""
    seen = [NOISE(3, level) for level in range(9)] + [NOISE(3, 8, "clip")]
    seen += [NOISE(3, 8, f"tail-{draw}") for draw in (1, 2, 3)]
    assert all(not torch.equal(a, b) for k, a in enumerate(seen) for b in seen[:k])


def test_where_no_frame_is_before_those_that_enter_there_is_nothing_to_choose_by():
    assert can_choose(QueueLayout(4, 4, True, 2))
    assert can_choose(QueueLayout(4, 4, True, 4))
    assert not can_choose(QueueLayout(4, 4, False, 4))


def test_a_choice_is_due_where_a_frame_of_its_own_enters():
    """Whatever enters at once: the first new frame has number 0, and every so many have a choice."""
    for every in range(1, 8):
        for count in range(5):
            for first in range(-3, 20):
                entered = range(first, first + count)
                assert is_due(Tail(draws=2, every=every), entered) == any(g % every == 0 for g in entered)
