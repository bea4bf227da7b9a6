"""The queue of FIFO-Diffusion (arXiv 2405.11473): what stands in it, and how it moves on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.method.layout import Layout, Step, Window
from fifo_diffusion.method.levels import NoiseLevels
from fifo_diffusion.method.noise import Noise, noise_of
from fifo_diffusion.method.tail import PLAIN, Tail, coherent_noise, towards_reference


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
        tail: what enters at the tail.
        texts: of each padded slot, by a number, the text under which its kept clean latent was predicted
            (`NoiseLevels.keeps_clean`); 0 where there is none. Empty: nowhere is one.
        anchors_BCFHW: clean latents that every window sees in its first places; None: there are none.
    """

    latents_BCFHW: Tensor
    known_BCFHW: Tensor
    first_new: int
    origin: int
    iteration: int = 0
    from_noise: bool = False
    tail: Tail = PLAIN
    texts: tuple[int, ...] = ()
    anchors_BCFHW: Tensor | None = None

    @classmethod
    def from_known(
        cls,
        layout: Layout,
        noise: Noise,
        known_BCFHW: Tensor,
        first_new: int,
        *,
        planes: int = 1,
        entry: float = 1.0,
        tail: Tail = PLAIN,
    ) -> "Queue":
        """The first new frames enter at the tail, with the known ones as their past.

        Args:
            known_BCFHW: at least f - 1 clean latents; more than f are never read.
            first_new: frame number of the first new frame; the known ones carry the numbers before it.
            planes, entry: those of the `NoiseLevels`.
            tail: of the queue.
        """
        if known_BCFHW.shape[2] < layout.frames - 1:
            raise ValueError(f"a start needs at least {layout.frames - 1} known frames, not {known_BCFHW.shape[2]}")
        b, c, _, h, w = known_BCFHW.shape
        latents = known_BCFHW.new_zeros((b, c * planes, layout.size, h, w), dtype=torch.float32)
        queue = cls(latents, known_BCFHW.float(), first_new, first_new - layout.slots + layout.entering)
        queue.tail = tail
        queue.anchors_BCFHW = queue.known_BCFHW[:, :, : layout.anchors] if layout.anchors else None
        queue._enqueue(layout, noise, entry)
        return queue

    @classmethod
    def from_pure_noise(
        cls, layout: Layout, noise: Noise, like_BCFHW: Tensor, *, planes: int = 1, entry: float = 1.0
    ) -> "Queue":
        """Algorithm 2: every slot, and the context of lookahead, starts as noise at the top level. `planes` and `entry`
        as in `NoiseLevels`.

        Raises:
            ValueError: a layout whose slots do not all go down by one level per iteration.
        """
        if not layout.level_by_level:
            raise ArgumentError(
                "start", "noise", "it needs a queue that goes down level by level; use ", Setting("start", "clip")
            )
        origin = layout.entering - layout.slots
        frames = range(origin - layout.context, origin + layout.slots)
        latents = entry * noise_of(noise, frames, layout.levels, like_BCFHW)
        memory = [torch.zeros_like(latents)] * (planes - 1)
        return cls(torch.cat([latents, *memory], 1), latents[:, :, :0], 0, origin, from_noise=True)

    @classmethod
    def from_clip_published(cls, layout: Layout, levels: NoiseLevels, noise: Noise, clip_BCFHW: Tensor) -> "Queue":
        """The published start: slot i holds base frame max(0, i - (n f - f)) at level i, the context base frame 0 at
        the lowest level. The frames before number 0 are thrown away by the caller."""
        origin = layout.frames - layout.slots
        source = [0] * layout.context + [max(0, s + origin) for s in range(layout.slots)]
        frames = range(origin - layout.context, origin + layout.slots)
        level = torch.tensor([layout.step(0).levels])
        latents = levels.renoise(
            clip_BCFHW[:, :, source].float(), noise_of(noise, frames, len(levels), clip_BCFHW), level
        )
        return cls(latents, latents[:, :, :0], 0, origin)

    def frames(self, layout: Layout, later: int = 0) -> range:
        """Frame number of each padded slot in this iteration, or in a later one."""
        head = self.origin + layout.left(self.iteration + later)
        return range(head - layout.context, head + layout.slots)

    def numbers(self, layout: Layout) -> Sequence[int]:
        """Frame number of each slot that windows read. Anchors have that of the first frame after them in their window,
        and so its text."""
        frames, m = self.frames(layout), layout.anchors
        if not m:
            return frames
        windows = layout.step(self.iteration).windows
        return (*frames, *(frames[w.reads[m]] for w in windows for _ in range(m)))

    def step(self, layout: Layout) -> Step:
        """What this iteration does: that of the layout, without windows of known frames only.

        While a queue comes down from pure noise, all slots are at one level at least, the context too: then the
        window that writes the head writes it too, and all windows are computed.
        """
        now = layout.step(self.iteration)
        windows = tuple(map(self._of_real_frames(layout), layout.windows_from(self.front(layout), self.iteration)))
        if not self.warming_up(layout):
            return replace(now, windows=windows)
        least = layout.levels - 1 - self.iteration
        targets = tuple(max(target, least - 1) for target in now.targets)
        windows = tuple(_with_context(window, layout) for window in windows)
        return Step(self.levels(layout), targets, windows, now.leave)

    def levels(self, layout: Layout, later: int = 0) -> Sequence[int]:
        """Level of each padded slot before this iteration, or before a later one."""
        iteration = self.iteration + later
        levels, least = layout.step(iteration).levels, layout.levels - 1 - iteration
        return tuple(max(level, least) for level in levels) if self.from_noise else levels

    def computed(self, now: Step, layout: Layout, texts: Sequence[int]) -> Step:
        """What this iteration does, given the text of each padded slot, by a number: no window reuses what was
        predicted under another text, or was not predicted yet."""
        before, front = self.texts or (0,) * layout.size, self.front(layout)

        def told(window: Window) -> Window:
            kept = all(before[p] == texts[p] != 0 for p in window.writes if p >= front)
            return window if kept or not window.reuse else replace(window, reuse=False)

        return replace(now, windows=tuple(map(told, now.windows)))

    def note(self, now: Step, layout: Layout, texts: Sequence[int]) -> None:
        """What was predicted under these texts in the iteration that is over: its slots have moved since."""
        found = list(self.texts or (0,) * layout.size)
        for window in now.windows:
            for p in window.writes:
                found[p] = texts[p]
        self.texts = (*found[now.leave :], *(0,) * now.leave)

    def _of_real_frames(self, layout: Layout) -> Callable[[Window], Window]:
        """Windows that reach further back than the oldest known frame see that one in place of those before it."""
        count = self.known_BCFHW.shape[2]
        oldest = self.first_new - count - self.frames(layout).start if count else 0

        def clamped(window: Window) -> Window:
            if min(window.reads) >= oldest:
                return window
            return replace(window, reads=tuple(max(slot, oldest) for slot in window.reads))

        return clamped

    def front(self, layout: Layout, later: int = 0) -> int:
        """First padded slot that holds a frame to be computed, in this iteration or in a later one: known frames ahead
        of it need no window."""
        if not self.known_BCFHW.shape[2]:
            return 0
        return max(layout.context, self.first_new - self.frames(layout, later).start)

    def warming_up(self, layout: Layout) -> bool:
        """Whether the context is not yet at the lowest level (start from noise)."""
        return self.from_noise and self.iteration < layout.levels - 1

    def advance(
        self, x_BCFHW: Tensor, y_BCFHW: Tensor, layout: Layout, levels: NoiseLevels, noise: Noise
    ) -> tuple[int, Tensor]:
        """Dequeue the head, shift by b slots, enqueue noise.

        Algorithm 4 keeps the heads that left as they were *before* their last step: the context is labelled so.

        Args:
            x_BCFHW, y_BCFHW: what the padded slots held before and after the step.

        Returns:
            the number of the first frame that leaves; the latents (B, C, b, H, W) of those that do.
        """
        c, b, first = layout.context, layout.step(self.iteration).leave, self.frames(layout)[layout.context]
        x_BCFHW, y_BCFHW = x_BCFHW[:, :, : layout.size], y_BCFHW[:, :, : layout.size]
        past = (y_BCFHW if self.warming_up(layout) else x_BCFHW)[:, :, b : c + b]
        self._shift(past, y_BCFHW, layout, levels, noise)
        left = levels.latent(y_BCFHW[:, :, c : c + b])
        for k in range(b) if layout.anchors_every else ():
            if self._renewals(layout, first + k + 1) > self._renewals(layout, first + k):
                assert self.anchors_BCFHW is not None
                self.anchors_BCFHW = torch.cat([self.anchors_BCFHW[:, :, 1:], left[:, :, k : k + 1]], 2)
        return first, left

    def needed(self, layout: Layout) -> Sequence[int]:
        """The padded slots that every rank needs of an iteration. `advance` takes what leaves from the first, and what
        entering noise has of the frame before it from the last. Where frames wait, some rank may read any of them
        later."""
        if layout.holds:
            return range(layout.size)
        leaving = range(layout.context, layout.context + layout.step(self.iteration).leave)
        return (*leaving, layout.size - 1) if self.tail.coherent else leaving

    def _shift(self, context_BCFHW: Tensor, y_BCFHW: Tensor, layout: Layout, levels: NoiseLevels, noise: Noise) -> None:
        """The queue of the next iteration, with this context."""
        c, b = layout.context, layout.step(self.iteration).leave
        self.latents_BCFHW = torch.cat([context_BCFHW, y_BCFHW[:, :, c + b :], y_BCFHW[:, :, :b]], 2)
        self.iteration += 1
        self._enqueue(layout, noise, levels.entry, levels)

    def entered(self, layout: Layout) -> int:
        """How many slots at the tail hold noise that is new in this iteration."""
        return layout.step(self.iteration - 1).leave

    def _enqueue(self, layout: Layout, noise: Noise, entry: float, levels: NoiseLevels | None = None) -> None:
        """Fresh noise into the slots that entered."""
        count = self.entered(layout)
        if not count:
            return
        fresh = self.entering(layout, noise, entry, levels)
        self.latents_BCFHW[:, : fresh.shape[1], -count:] = fresh
        self.latents_BCFHW[:, fresh.shape[1] :, -count:] = 0

    def entering(
        self, layout: Layout, noise: Noise, entry: float, levels: NoiseLevels | None = None, draw: int = 0
    ) -> Tensor:
        """The noise (B, C, b, H, W) of the slots that entered.

        Args:
            entry: of `levels`.
            levels: needed where a frame before them is not known.
            draw: which of the draws; 0 is that of a queue that has no others.
        """
        count, use = self.entered(layout), f"tail-{draw}" if draw else "queue"
        fresh = noise_of(noise, self.frames(layout)[-count:], layout.levels, self.latents_BCFHW, use)
        if self.tail.coherent:
            fresh = coherent_noise(fresh, self._source(layout, noise, levels, fresh.shape[1]), self.tail.coherent)
        return entry * fresh

    def _source(self, layout: Layout, noise: Noise, levels: NoiseLevels | None, channels: int) -> Tensor:
        """The latent (B, C, H, W) that low frequencies of entering noise come from."""
        slot, count = layout.size - self.entered(layout) - 1, self.known_BCFHW.shape[2]
        if count and (slot < 0 or self.frames(layout)[slot] < self.first_new):
            newest, alpha, sigma = self.known_BCFHW[:, :, -1], 1.0, 0.0
        else:
            newest, level = self.latents_BCFHW[:, :channels, slot], layout.step(self.iteration).levels[slot]
            alpha, sigma = (1.0, 0.0) if levels is None else (float(levels.alpha[level]), float(levels.sigma[level]))
        if not self.tail.refers:
            return newest
        first = self.known_BCFHW[:, :, :1]
        drawn = noise_of(noise, [self.first_new - count], layout.levels, first)
        return towards_reference(newest, first[:, :, 0], drawn[:, :, 0], alpha, sigma, self.tail)

    def read(self, layout: Layout, levels: NoiseLevels, noise: Noise) -> Tensor:
        """What the padded slots hold, (B, C, F, H, W): known frames at the levels of their slots, under the noise that
        they would have entered with."""
        count = self.known_BCFHW.shape[2]
        frames = self.frames(layout)
        slots = [p for p, g in enumerate(frames) if self.first_new - count <= g < self.first_new]
        if not slots:
            return self._with_anchors(self.latents_BCFHW, layout, levels, noise)
        numbers = [frames[p] for p in slots]
        clean = self.known_BCFHW[:, :, [g - self.first_new + count for g in numbers]]
        level = torch.tensor([[layout.step(self.iteration).levels[p] for p in slots]])
        latents = self.latents_BCFHW.clone()
        latents[:, : clean.shape[1], slots] = levels.renoise(clean, noise_of(noise, numbers, len(levels), clean), level)
        return self._with_anchors(latents, layout, levels, noise)

    def _with_anchors(self, latents_BCFHW: Tensor, layout: Layout, levels: NoiseLevels, noise: Noise) -> Tensor:
        """With the anchors of each window behind the queue, at their levels, under the noise that they would have
        entered with."""
        if self.anchors_BCFHW is None:
            return latents_BCFHW
        level = torch.tensor([layout.step(self.iteration).levels[layout.size :]])
        drawn = noise_of(noise, self._anchor_frames(layout), len(levels), self.anchors_BCFHW)
        clean, drawn = (x.repeat(1, 1, level.shape[1] // layout.anchors, 1, 1) for x in (self.anchors_BCFHW, drawn))
        slots = latents_BCFHW.new_zeros((*latents_BCFHW.shape[:2], level.shape[1], *latents_BCFHW.shape[3:]))
        slots[:, : clean.shape[1]] = levels.renoise(clean, drawn, level)
        return torch.cat([latents_BCFHW, slots], 2)

    def _anchor_frames(self, layout: Layout) -> Sequence[int]:
        """The anchors' own frame numbers, the oldest first."""
        oldest, every = self.first_new - self.known_BCFHW.shape[2], layout.anchors_every or 0
        renewals = self._renewals(layout, self.frames(layout)[layout.context])
        later = (self.first_new + every * (k + 1) - 1 for k in range(max(0, renewals - layout.anchors), renewals))
        return (*range(oldest, oldest + layout.anchors), *later)[-layout.anchors :]

    def _renewals(self, layout: Layout, head: int) -> int:
        """How often an anchor was renewed by the time that this frame is at the head."""
        every = layout.anchors_every
        return max(0, head - self.first_new) // every if every else 0


def _with_context(window: Window, layout: Layout) -> Window:
    """The window that writes the head, with the context among what it writes; others as they are; all computed."""
    if layout.context not in window.writes:
        return replace(window, reuse=False)
    return Window(window.reads, (*range(layout.context), *window.writes))
