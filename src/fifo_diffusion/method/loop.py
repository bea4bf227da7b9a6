"""FIFO-Diffusion (arXiv 2405.11473): the queue and the loop of Algorithms 1, 3 and 4."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from fifo_diffusion.method.layout import QueueLayout, Window, descents_of
from fifo_diffusion.method.levels import NoiseLevels, to_device
from fifo_diffusion.method.noise import Noise

HISTORY_GUIDANCE = 2.0
"""Weight of given frames in `complete_clip`; 1 would be the plain prediction."""

Predict = Callable[[Tensor, Tensor, Sequence[Sequence[int]]], Tensor]
"""`predict(latents_BCFHW, timestep_BF, frames)`: the model after guidance. `frames` has one list of f frame numbers per
window (with banded lookahead there is one, of more than f); rows are window by window, and within a window video by
video (B = windows x videos)."""


class Share(Protocol):
    """One process's part in the windows of an iteration, where several make one video together."""

    def mine(self, windows: Sequence[Window]) -> Sequence[Window]:
        """The windows that are computed here; may be none. An iteration begins with this call."""
        ...

    def exchange(self, result_BCFHW: Tensor, written: Sequence[slice], wanted: Sequence[range], head: range) -> None:
        """Fill in what the others computed, in place: at least what this process needs of it.

        Args:
            written: the padded slots that each window of the iteration writes.
            wanted: those that each window of the next iteration reads, by their numbers in this one.
            head: those that leave the queue: everybody needs them.
        """
        ...


@dataclass
class Queue:
    """The latents of the queue and what is needed to go on from here.

    Attributes:
        latents_BCFHW: all padded slots (context first), float32; where a solver remembers, with that in further
            channels (`NoiseLevels.solver`).
        known_BCFHW: known clean latents, the last of which is frame -1 + first_new; may hold no frame.
        first_new: number of the first frame that is not known.
        origin: frame number of slot 0 (the head) in iteration 0.
        iteration: iterations done.
        from_noise: started from noise (Algorithm 2): slots come down together during the warm-up.
        lags: as in some published code, the context holds finished latents, and it is the oldest of them that is
            handed out, after one more pass as if it were at the lowest level.
    """

    latents_BCFHW: Tensor
    known_BCFHW: Tensor
    first_new: int
    origin: int
    iteration: int = 0
    from_noise: bool = False
    lags: bool = False

    @classmethod
    def from_known(
        cls, layout: QueueLayout, noise: Noise, known_BCFHW: Tensor, first_new: int, *, planes: int = 1
    ) -> "Queue":
        """The first new frames enter at the tail, with the known ones as their past.

        Args:
            known_BCFHW: at least f - 1 clean latents; more than f are never read.
            first_new: frame number of the first new frame; the known ones carry the numbers before it.
            planes: `NoiseLevels.planes`.
        """
        if known_BCFHW.shape[2] < layout.frames - 1:
            raise ValueError(f"a start needs at least {layout.frames - 1} known frames, not {known_BCFHW.shape[2]}")
        b, c, _, h, w = known_BCFHW.shape
        latents = known_BCFHW.new_zeros((b, c * planes, layout.size, h, w), dtype=torch.float32)
        queue = cls(latents, known_BCFHW.float(), first_new, first_new - layout.slots + layout.frames_per_level)
        queue._enqueue(layout, noise)
        return queue

    @classmethod
    def from_pure_noise(cls, layout: QueueLayout, noise: Noise, like_BCFHW: Tensor, *, planes: int = 1) -> "Queue":
        """Algorithm 2: every slot, and the context of lookahead, starts as noise at the top level. `planes` as in
        `NoiseLevels`."""
        origin = layout.frames_per_level - layout.slots
        frames = range(origin - layout.context, origin + layout.slots)
        latents = _noise_of(noise, frames, layout.levels, like_BCFHW)
        memory = [torch.zeros_like(latents)] * (planes - 1)
        return cls(torch.cat([latents, *memory], 1), latents[:, :, :0], 0, origin, from_noise=True)

    @classmethod
    def from_clip_published(
        cls, layout: QueueLayout, levels: NoiseLevels, noise: Noise, clip_BCFHW: Tensor, *, lags: bool = False
    ) -> "Queue":
        """The published start: slot i holds base frame max(0, i - (n f - f)) at level i, the context base frame 0 at
        the lowest level. The frames before number 0 are thrown away by the caller."""
        origin = layout.frames - layout.slots
        source = [0] * layout.context + [max(0, s + origin) for s in range(layout.slots)]
        frames = range(origin - layout.context, origin + layout.slots)
        level = torch.tensor([layout.slot_levels])
        latents = levels.renoise(
            clip_BCFHW[:, :, source].float(), _noise_of(noise, frames, len(levels), clip_BCFHW), level
        )
        return cls(latents, latents[:, :, :0], 0, origin, lags=lags)

    def frames(self, layout: QueueLayout) -> range:
        """Frame number of each padded slot in this iteration."""
        head = self.origin + self.iteration * layout.frames_per_level
        return range(head - layout.context, head + layout.slots)

    def levels(self, layout: QueueLayout) -> list[int]:
        """Level of each padded slot in this iteration; higher than the layout's during a warm-up from noise."""
        least = layout.levels - 1 - self.iteration if self.from_noise else 0
        return [max(level, least) for level in layout.slot_levels] if least > 0 else list(layout.slot_levels)

    def front(self, layout: QueueLayout, later: int = 0) -> int:
        """First padded slot that holds a frame to be computed, so many iterations later: known frames ahead of it need
        no window."""
        if not self.known_BCFHW.shape[2]:
            return 0
        return max(layout.context, self.first_new - self.frames(layout).start - later * layout.frames_per_level)

    def warming_up(self, layout: QueueLayout) -> bool:
        """Whether the context is not yet at the lowest level (start from noise)."""
        return self.from_noise and self.iteration < layout.levels - 1

    def _enqueue(self, layout: QueueLayout, noise: Noise) -> None:
        """Fresh noise into the last b slots."""
        b = layout.frames_per_level
        fresh = _noise_of(noise, self.frames(layout)[-b:], layout.levels, self.latents_BCFHW)
        self.latents_BCFHW[:, : fresh.shape[1], -b:] = fresh
        self.latents_BCFHW[:, fresh.shape[1] :, -b:] = 0


def diagonal_denoising(
    queue: Queue,
    layout: QueueLayout,
    levels: NoiseLevels,
    predict: Predict,
    noise: Noise,
    *,
    windows_per_batch: Callable[[], int] = lambda: 1,
    share: Share | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """The loop: denoise every window from one snapshot of the queue, step, hand out the head, shift, enqueue noise.

    Algorithm 1 (n = 1), Algorithm 3 (latent partitioning) and Algorithm 4 (lookahead), with b frames per level.

    Args:
        queue: changed in place; when an item is handed out the queue already stands at the next iteration, so that it
            can be saved there and continued later.
        predict: see `Predict`.
        windows_per_batch: asked once per iteration, so that it may change while running.
        share: compute only a part of the windows here and get the others' results; None: compute them all.

    Yields:
        (number of the first frame, (B, C, b, H, W) latents that went through their last step), once per iteration,
        for ever. Frames that are known or were enqueued only to warm up come out too; the caller drops them.
    """
    context, b = layout.context, layout.frames_per_level
    shape = (*queue.latents_BCFHW.shape[:2], layout.size + b, *queue.latents_BCFHW.shape[3:])
    channels = shape[1] // levels.planes
    # The queue moves on by b slots from one to the other and back: fresh memory every time costs more than the step.
    for memory in itertools.cycle([queue.latents_BCFHW.new_empty(shape) for _ in range(2)]):
        frames, level, front = queue.frames(layout), torch.tensor(queue.levels(layout)), queue.front(layout)
        snapshot = _with_known_frames(queue, layout, levels, noise)
        result = memory[:, :, : layout.size]
        result[:, :, :front] = snapshot[:, :, :front]
        windows, written, wanted = _plan(layout, front, queue.front(layout, 1), queue.lags or queue.warming_up(layout))
        for some in _chunks(windows if share is None else share.mine(windows), windows_per_batch()):
            inputs = torch.cat([snapshot[:, :channels, w.start : w.stop] for w in some])
            rows = torch.stack([level[w.start : w.stop] for w in some]).repeat_interleave(len(snapshot), 0)
            output = predict(inputs, levels.timestep[rows], [frames[w.start : w.stop] for w in some])
            for w, prediction in zip(some, output.chunk(len(some)), strict=True):
                kept = written[windows.index(w)]
                prediction = prediction[:, :, kept.start - w.start :]
                result[:, :, kept] = _step(levels, snapshot[:, :, kept], prediction, level[kept], frames[kept], noise)
        if share is not None:
            share.exchange(result, written, wanted, range(0 if queue.lags else context, context + b))
        head = result[:, :, context : context + b].clone()
        if queue.lags:
            late = result[:, :, :b].clone()
            result[:, :, b : context + b] = torch.cat([snapshot[:, :, :context], head], 2)[:, :, -context:]
            head = late
        elif not queue.warming_up(layout):
            # Algorithm 4 keeps the head as it was *before* its last step: the context is labelled so.
            result[:, :, b : context + b] = snapshot[:, :, b : context + b]
        queue.latents_BCFHW = memory[:, :, b:]
        queue.iteration += 1
        queue._enqueue(layout, noise)
        yield frames[context], head[:, :channels]


def sample_clip(
    levels: NoiseLevels, predict: Predict, noise: Noise, frames: Sequence[int], like_BCFHW: Tensor
) -> Iterator[Tensor]:
    """Ordinary sampling (Eq. 2): all frames at one level, from the noisiest level down.

    Args:
        frames: frame numbers of the clip.
        like_BCFHW: a tensor of the clip's shape and device.

    Yields:
        the latents after each of the L steps; the last are the clean clip.
    """
    latents = levels.blank(_noise_of(noise, frames, len(levels), like_BCFHW))
    channels = latents.shape[1] // levels.planes
    for index in reversed(range(len(levels))):
        level = torch.full((len(frames),), index)
        rows = level.expand(len(latents), -1)
        prediction = predict(latents[:, :channels], levels.timestep[rows], [frames])
        latents = _step(levels, latents, prediction, level, frames, noise)
        yield latents[:, :channels]


def complete_clip(
    levels: NoiseLevels,
    predict: Predict,
    noise: Noise,
    frames: Sequence[int],
    first_BCKHW: Tensor,
    *,
    descents: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """Sampling of a clip that begins with given frames: the others see them at the lowest level all the way down.

    A model that was never taught to heed cleaner frames follows them too little. So each step is computed twice, the
    second time with noise in their place, and the prediction is moved away from that (history guidance, Song et al.,
    arXiv 2502.06764). And what came out is noised again, part of the way, and denoised with the given frames in sight
    (resampling, as in RePaint, Lugmayr et al., arXiv 2201.09865). Solvers step without history here.

    Args:
        noise: descent r (0 is the first) draws at its levels plus r (L + 1).
        frames: frame numbers of the clip.
        first_BCKHW: clean latents of its first K frames.
        descents: from how many levels to come down; all, and twice two thirds of them, unless said otherwise.

    Yields:
        the latents after each step, beginning with the given ones; the last are the clean clip.
    """
    levels, given = levels.without_memory(), first_BCKHW.shape[2]
    unseen = _noise_of(noise, frames[:given], len(levels), first_BCKHW)
    latents = _noise_of(noise, frames[given:], len(levels), first_BCKHW)
    seen = levels.renoise(first_BCKHW, unseen, torch.zeros(1, given, dtype=torch.long))
    steps = [(r, top, j) for r, top in enumerate(descents or descents_of(len(levels))) for j in reversed(range(top))]
    for descent, top, index in steps:
        draws = _later(noise, descent * (len(levels) + 1))
        if descent and index == top - 1:
            fresh = _noise_of(draws, frames[given:], len(levels), first_BCKHW)
            latents = levels.renoise(latents, fresh, torch.full((1, len(frames) - given), index))
        level, predictions = torch.full((len(frames),), index), []
        for past, past_level in ((seen, 0), (unseen, len(levels) - 1)):
            level[:given] = past_level
            rows = level.expand(len(latents), -1)
            prediction = predict(torch.cat([past, latents], 2), levels.timestep[rows], [frames])
            predictions.append(prediction[:, :, given:])
        with_past, without = predictions
        prediction = without + HISTORY_GUIDANCE * (with_past - without)
        latents = _step(levels, latents, prediction, level[given:], frames[given:], draws)
        yield torch.cat([first_BCKHW, latents], 2)


def _later(noise: Noise, by: int) -> Noise:
    return lambda frame, level: noise(frame, level + by)


@lru_cache(maxsize=16)
def _plan(
    layout: QueueLayout, front: int, following: int, whole_first: bool
) -> tuple[tuple[Window, ...], list[slice], list[range]]:
    """The windows of an iteration, what each writes, and what each of the next one reads. The same again and again once
    the queue is full; of queues that begin at these padded slots, in this iteration and in the next."""
    windows = layout.windows_from(front)
    wanted = [_wanted(window, layout) for window in layout.windows_from(following)]
    return windows, [_written(window, whole_first) for window in windows], wanted


def _written(window: Window, whole_first: bool) -> slice:
    """Padded slots that take the window's result. Window 0 may take the context along: that of a start from noise comes
    down with the queue."""
    return slice(0 if window.start == 0 and whole_first else window.write_start, window.write_stop)


def _wanted(window: Window, layout: QueueLayout) -> range:
    """Padded slots that a window reads in the next iteration, or hands down to its context in the one after, by their
    numbers in this one."""
    b = layout.frames_per_level
    stop = max(window.stop, layout.context + b) if window.start == 0 else window.stop
    return range(window.start + b, min(stop + b, layout.size))


def _chunks(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), max(1, size)):
        yield windows[start : start + max(1, size)]


def _step(
    levels: NoiseLevels, latents: Tensor, prediction: Tensor, level: Tensor, frames: Sequence[int], noise: Noise
) -> Tensor:
    fresh = None
    if levels.needs_noise(level):
        draws = [_noise_of(noise, [g], int(j), latents) for g, j in zip(frames, level, strict=True)]
        fresh = torch.cat(draws, 2)
    return levels.step(latents, prediction, level[None], fresh)


def _with_known_frames(queue: Queue, layout: QueueLayout, levels: NoiseLevels, noise: Noise) -> Tensor:
    """The queue with every known frame at the level of its slot, under the noise that it would have entered with."""
    count = queue.known_BCFHW.shape[2]
    frames = queue.frames(layout)
    slots = [p for p, g in enumerate(frames) if queue.first_new - count <= g < queue.first_new]
    if not slots:
        return queue.latents_BCFHW
    numbers = [frames[p] for p in slots]
    clean = queue.known_BCFHW[:, :, [g - queue.first_new + count for g in numbers]]
    level = torch.tensor([[layout.slot_levels[p] for p in slots]])
    latents = queue.latents_BCFHW.clone()
    latents[:, : clean.shape[1], slots] = levels.renoise(clean, _noise_of(noise, numbers, len(levels), clean), level)
    return latents


def _noise_of(noise: Noise, frames: Sequence[int], level: int, like_BCFHW: Tensor) -> Tensor:
    """Noise of several frames at one level, (B, C, F, H, W) float32 on the device of `like`."""
    draws = torch.stack([noise(g, level) for g in frames], -3)
    shape = (like_BCFHW.shape[0], draws.shape[-4], len(frames), *like_BCFHW.shape[-2:])
    return to_device(draws.float(), like_BCFHW.device).expand(shape).contiguous()
