"""A rank's part in the windows of a stream, and what the ranks give each other of it."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fifo_diffusion.execution.interfaces import GuidedModel
from fifo_diffusion.execution.ranks import Ranks, SendBuffers, digest
from fifo_diffusion.execution.split import Split
from fifo_diffusion.method import Layout, Queue, Run, Window
from fifo_diffusion.method.layout import index_of

Passes = Callable[[Sequence[Window], Sequence[int], int], Sequence[int]]
"""`passes(windows, slot_levels, both)`: how many passes each window takes, where guided ones take `both`."""


def all_guided(windows: Sequence[Window], _slot_levels: Sequence[int], both: int) -> Sequence[int]:
    """All windows take as many passes."""
    return [both] * len(windows)


def share_windows(
    ranks: Ranks,
    queue: Queue,
    layout: Layout,
    describe: Callable[[], Any],
    passes: Callable[[], int],
    of_each: Passes = all_guided,
) -> "WindowShare | None":
    """This rank's part in the windows, and from here on the same queue on all ranks: rank 0's. None where there is one
    pass, which is shared inside the model.

    Args:
        describe: as for `WindowShare`.
        passes: tells how many passes a prediction takes.
        of_each: as for `WindowShare`.
    """
    queue.latents_BCFHW = ranks.broadcast(queue.latents_BCFHW, "queue")
    queue.known_BCFHW = ranks.broadcast(queue.known_BCFHW, "known frames")
    if queue.anchors_BCFHW is not None:
        queue.anchors_BCFHW = ranks.broadcast(queue.anchors_BCFHW.contiguous(), "anchors")
    if layout.banded:
        return None
    ranks.reserve(queue.latents_BCFHW)
    # Passes go apart in all iterations or in none: on fewer ranks frames are the same to the last bit.
    return WindowShare(ranks, describe, passes(), of_each, apart=ranks.size >= 2 * layout.most_windows)


class WindowShare:
    """A rank's part in the windows of a stream.

    Each rank has neighbouring windows, about as many passes of them as the others. Where they do not come out even, the
    first ranks have the smaller shares: rank 0 decodes and writes besides. Where there are ranks for it, the two CFG
    passes go to ranks of their own, which swap their outputs. Ranks beyond that have nothing to compute.

    Rank 0 always has the whole queue. The others have what their windows read, and the frames that leave; where NCCL
    exchanges, all of it.

    Args:
        ranks: on which room for the queue is reserved.
        describe: must say the same on all ranks in each iteration.
        passes: of a prediction; 2 with guidance.
        of_each: which windows take so many.
        apart: whether passes may go to ranks of their own.

    Attributes:
        half: in this iteration, the only pass that is computed here; None: all.
    """

    def __init__(
        self,
        ranks: Ranks,
        describe: Callable[[], Any],
        passes: int = 1,
        of_each: Passes = all_guided,
        *,
        apart: bool = True,
    ) -> None:
        self.ranks, self.describe, self.passes = ranks, describe, passes
        self._of_each, self._may_be_apart, self._swapped = of_each, apart, False
        self._split = self.split([])
        self._traffic: _Traffic | None = None

    @property
    def half(self) -> int | None:
        return self._split.half(self.ranks.rank)

    def split(self, windows: Sequence[Window], slot_levels: Sequence[int] = (), *, reuse: Sequence[bool] = ()) -> Split:
        """Which of these windows each rank computes, or which pass of one.

        Args:
            reuse: which of them reuse what was predicted and take no pass; empty: none.
        """
        each = tuple(self._of_each(windows, slot_levels, self.passes))
        apart = self._may_be_apart and self.passes == 2 and 0 < 2 * len(windows) <= self.ranks.size
        if reuse and not apart:
            each = tuple(0 if reused else count for reused, count in zip(reuse, each, strict=True))
        return Split(self.ranks.size, each, apart)

    def _planned(self, queue: Queue, layout: Layout, later: int = 0) -> tuple[Split, Sequence[Window]]:
        """How the windows of this iteration, or of a later one, are divided, and they. Which of them reuse is as the
        layout has it: whether more are computed, as a text has changed, is known only when their turn comes."""
        windows = layout.windows_from(queue.front(layout, later), queue.iteration + later)
        return self.split(windows, queue.levels(layout, later), reuse=[w.reuse for w in windows]), windows

    def run(self, queue: Queue, layout: Layout, some: Run) -> Run:
        """The windows of an iteration by all ranks together; of this rank's by `some`."""

        def run(windows: Sequence[Window], denoise: Callable[[Sequence[Window]], None], y_BCFHW: Tensor) -> None:
            (now, _), self._swapped = self._planned(queue, layout), False
            self._split = now
            some(windows[now.of(self.ranks.rank)], denoise, y_BCFHW)
            if now.swaps and not self._swapped:  # others swap theirs
                self.ranks.all_to_all(SendBuffers([0] * self.ranks.size), self._word("passes"))
            then, following = self._planned(queue, layout, 1)
            wanted = [_wanted(window, layout, queue.iteration) for window in following]
            self.exchange(y_BCFHW, [window.writes for window in windows], (then, wanted), queue.needed(layout))

        return run

    def part(self, windows: Sequence[Window], slot_levels: Sequence[int]) -> Sequence[Window]:
        """Those of these windows that are computed here."""
        return windows[self.split(windows, slot_levels, reuse=[w.reuse for w in windows]).of(self.ranks.rank)]

    def predict(self, model: GuidedModel, condition: Any, latents_BCFHW: Tensor, timestep_BF: Tensor) -> Tensor:
        """The prediction of one window, of which one pass is computed here and the other on another rank."""
        assert self.half is not None
        mine = model.passes(condition)[self.half]
        output = model.predict(latents_BCFHW, timestep_BF, mine).to(latents_BCFHW.device)
        return model.guided(self.swap(output), timestep_BF, condition)

    def swap(self, output_BCFHW: Tensor) -> list[Tensor]:
        """The outputs of both passes of this rank's window, in order, given the one that was computed here (`half`).

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        half, other = self.half, self._split.partner(self.ranks.rank)
        parcels = SendBuffers([output_BCFHW.numel() if rank == other else 0 for rank in range(self.ranks.size)])
        parcels.contents[other].view(output_BCFHW.shape).copy_(output_BCFHW)
        came = self.ranks.all_to_all(parcels, self._word("passes"))[other][: output_BCFHW.numel()]
        self._swapped = True
        outputs = [output_BCFHW, came.view(output_BCFHW.shape).clone().to(output_BCFHW.device)]
        return outputs if half == 0 else outputs[::-1]

    def exchange(
        self,
        result_BCFHW: Tensor,
        written: Sequence[Sequence[int]],
        wanted: tuple[Split, Sequence[Sequence[int]]],
        head: Sequence[int],
    ) -> None:
        """Fill in, by one collective, at least what this rank needs of what the others computed.

        Frames that went through their step are exchanged, not predictions: so the ranks' queues are the same, bit for
        bit, whatever hardware each rank has.

        Args:
            written: the padded slots that each window of the iteration writes.
            wanted: how the windows of the next iteration are divided, and the padded slots that each of them reads, by
                their numbers in this one.
            head: those that every rank needs: that leave the queue, or that entering noise depends on.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        slots_FBCHW, word = result_BCFHW.movedim(2, 0), self._word("iteration")
        if self.ranks.by_nccl(result_BCFHW):
            self._gather(slots_FBCHW, self._split.spans(written), word)
            return
        of = self._split, written, wanted, head
        if self._traffic is None or self._traffic.of != of:
            self._traffic = _Traffic(self.ranks, of, slots_FBCHW)
        traffic = self._traffic
        for slots, content in traffic.give:
            content.copy_(slots_FBCHW[slots])
        messages = self.ranks.all_to_all(traffic.parcels, word)
        for slots, came in traffic.taken_from(messages):
            slots_FBCHW[slots] = came

    def _word(self, what: str) -> str:
        return f"{what} {digest(self.describe())}"

    def _gather(self, slots_FBCHW: Tensor, spans: Sequence[Sequence[int]], word: str) -> None:
        """Everything for everybody: one all-gather of shares, each as long as the longest."""
        mine = spans[self.ranks.rank]
        sent = slots_FBCHW.new_zeros((max(len(span) for span in spans), *slots_FBCHW.shape[1:]))
        sent[: len(mine)] = slots_FBCHW[index_of(mine)]
        for rank, part in enumerate(self.ranks.gather(sent, word)):
            if rank != self.ranks.rank:
                slots_FBCHW[index_of(spans[rank])] = part[: len(spans[rank])]


def _wanted(window: Window, layout: Layout, iteration: int) -> Sequence[int]:
    """Padded slots that a window reads in the next iteration, or hands down to its context in the one after, by their
    numbers in this one."""
    b, then, slots = layout.step(iteration).leave, layout.step(iteration + 1).leave, set(window.reads)
    if min(slots) < layout.context or layout.period > 1:
        slots |= set(range(layout.context + then))
    return sorted(slot + b for slot in slots if slot + b < layout.size)


class _Traffic:
    """Which slots go from this rank to each other, and from each other to it; and the parcels for them."""

    def __init__(
        self,
        ranks: Ranks,
        of: tuple[Split, Sequence[Sequence[int]], tuple[Split, Sequence[Sequence[int]]], Sequence[int]],
        like_FBCHW: Tensor,
    ) -> None:
        self.of = of
        now, written, (then, wanted), head = of
        spans, me, size = now.spans(written), ranks.rank, ranks.size
        needs = [{*head}.union(*wanted[then.of(rank)]) for rank in range(size)]
        needs[0] = {*range(len(like_FBCHW))}
        others = [rank for rank in range(size) if rank != me]
        give = {rank: slots for rank in others if (slots := [slot for slot in spans[me] if slot in needs[rank]])}
        self.parcels = SendBuffers([like_FBCHW[0].numel() * len(give.get(rank, ())) for rank in range(size)])
        contents = {rank: self.parcels.contents[rank].view(-1, *like_FBCHW.shape[1:]) for rank in give}
        self.give = [(index_of(slots), contents[rank]) for rank, slots in give.items()]
        take = {rank: slots for rank in others if (slots := [slot for slot in spans[rank] if slot in needs[me]])}
        self._take, self._shape = take, like_FBCHW.shape[1:]
        self._messages: Sequence[Tensor] = ()
        self._taken: list[tuple[slice | list[int], Tensor]] = []

    def taken_from(self, messages: Sequence[Tensor]) -> list[tuple[slice | list[int], Tensor]]:
        """Slots, and what came for them, in these messages."""
        if messages is not self._messages:  # else they lie where they lay before
            self._messages, count = messages, self._shape.numel()
            self._taken = [
                (index_of(slots), messages[rank][: len(slots) * count].view(-1, *self._shape))
                for rank, slots in self._take.items()
            ]
        return self._taken
