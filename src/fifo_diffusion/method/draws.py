"""Best of k tails: of several draws of the noise that enters, the one whose frames agree best with those before them.
Not in FIFO-Diffusion's paper. ScalingNoise (arXiv 2503.16400) searches tails by decoded frames and DINO; MIGA
(arXiv 2605.18233) compares latents while the queue fills. Here it is the clean latents that the model predicts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fifo_diffusion.method.fifo import Predict
from fifo_diffusion.method.layout import Layout, Window
from fifo_diffusion.method.levels import NoiseLevels
from fifo_diffusion.method.noise import Noise
from fifo_diffusion.method.queue import Queue
from fifo_diffusion.method.tail import Tail


def choose_tail(queue: Queue, layout: Layout, levels: NoiseLevels, predict: Predict, noise: Noise) -> None:
    """Before an iteration: put the best of `queue.tail.draws` draws into the slots that entered, where it is time to.

    The windows that write these slots go through the model once for each draw. A frame is the mean over channels of the
    clean latent that the model predicts for it, and two agree by the cosine of these. A draw is as good as its frames
    agree, in the mean, with the others before them in their windows. Each video of a batch has its own choice. The same
    call on the same queue chooses the same, so nothing of it need be saved.

    Args:
        queue: at the beginning of an iteration. Only what the slots hold that entered is changed.
    """
    tail, count = queue.tail, queue.entered(layout)
    first = layout.size - count
    if tail.draws == 1 or not is_due(tail, range(*(p - queue.first_new for p in _ends(queue.frames(layout)[first:])))):
        return
    now, frames, tested = queue.step(layout), queue.numbers(layout), queue.read(layout, levels, noise).clone()
    windows, moves = tail_windows(now.windows, first), (torch.tensor(now.levels), torch.tensor(now.targets))
    scores, drawn, entered = [], [], range(first, layout.size)
    for draw in range(tail.draws):
        fresh = queue.entering(layout, noise, levels.entry, levels, draw)
        tested[:, : fresh.shape[1], first : layout.size] = fresh
        found = [_agreement(tested, window, entered, moves, levels, predict, frames) for window in windows]
        agrees, before = torch.stack(found).mean(0)
        if not draw and tail.threshold:
            dropped = before - agrees > tail.threshold
            if not dropped.any():
                return
            keeps = torch.where(dropped, 0.0, 3.0)  # more than any cosine
        scores.append(agrees + keeps if not draw and tail.threshold else agrees)
        drawn.append(fresh)
    best = torch.stack(scores).argmax(0)
    chosen = torch.stack(drawn)[best, torch.arange(len(best), device=best.device)]
    queue.latents_BCFHW = queue.latents_BCFHW.clone()
    queue.latents_BCFHW[:, : chosen.shape[1], first:] = chosen


def _agreement(
    x_BCFHW: Tensor,
    window: Window,
    entered: range,
    moves: tuple[Tensor, Tensor],
    levels: NoiseLevels,
    predict: Predict,
    frames: Sequence[int],
) -> Tensor:
    """(2, B): the mean cosine of the frames of a window that entered with those before them, and of the latter with
    each other; -1 where a prediction is not finite."""
    latents = levels.latent(x_BCFHW)[:, :, window.read]
    rows, targets = (of_slots[window.read].expand(len(x_BCFHW), -1) for of_slots in moves)
    output = predict(latents, levels.told(rows, targets), [[frames[p] for p in window.reads]])
    clean, _ = levels.split(latents, output, rows)
    vectors = torch.nn.functional.normalize(clean.mean(1).flatten(2), dim=-1)
    cosines = vectors @ vectors.mT
    new = torch.tensor([p in entered for p in window.reads], device=cosines.device)
    old, others = ~new, len(window.reads) - int(new.sum())
    agrees = cosines[:, new][:, :, old].mean((1, 2))
    among = cosines[:, old][:, :, old]
    pairs = others * (others - 1)
    before = (among.sum((1, 2)) - among.diagonal(dim1=1, dim2=2).sum(1)) / pairs if pairs else torch.ones_like(agrees)
    return torch.stack([agrees, before]).nan_to_num(nan=-1.0)


def _ends(numbers: Sequence[int]) -> tuple[int, int]:
    return (numbers[0], numbers[-1] + 1) if numbers else (0, 0)


# ------------------------------------------------------------------ when, and what it costs


def is_due(tail: Tail, entered: range) -> bool:
    """Whether there is a choice where these frames enter, counted from the first new one."""
    return len(entered) > 0 and -entered.start % tail.every < len(entered)


def tail_windows(windows: Sequence[Window], first: int) -> list[Window]:
    """Those that write padded slot `first` or a later one, with a frame before it in sight."""
    return [w for w in windows if max(w.writes) >= first > min(w.reads)]


def can_choose(layout: Layout) -> bool:
    """Whether the frames that enter are always seen beside others before them."""
    entered = [layout.step(k - 1).leave for k in range(layout.period)]
    return all(
        not count or tail_windows(layout.step(k).windows, layout.size - count) for k, count in enumerate(entered)
    )


def draw_forwards_per_frame(tail: Tail, layout: Layout) -> float:
    """Frame-forwards for each frame, beside those of the layout; with a threshold at most so many."""
    if tail.draws == 1:
        return 0.0
    entered = [layout.step(k - 1).leave for k in range(layout.period)]
    sent = (
        min(1.0, count / tail.every) * _sent(layout.step(k).windows, layout.size - count)
        for k, count in enumerate(entered)
        if count
    )
    return tail.draws * sum(sent) / sum(entered)


def fill_draw_forwards(tail: Tail, layout: Layout, *, known: bool = True) -> int:
    """Frame-forwards until the first new frame leaves, beside those of the layout; with a threshold at most so many.

    Args:
        known: the queue starts from known frames, not from noise.
    """
    if tail.draws == 1:
        return 0
    total, entered = 0, 0
    for k in range(layout.fill_iterations):
        count = layout.step(k - 1).leave
        if is_due(tail, range(entered, entered + count)):
            windows = layout.windows_from(layout.front(k), k) if known else layout.step(k).windows
            total += tail.draws * _sent(windows, layout.size - count)
        entered += count
    return total


def _sent(windows: Sequence[Window], first: int) -> int:
    return sum(len(window.reads) for window in tail_windows(windows, first))
