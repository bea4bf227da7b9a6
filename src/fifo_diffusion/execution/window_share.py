"""A rank's part in the windows of a stream, and what the ranks give each other of it."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fifo_diffusion.execution.interfaces import GuidedModel
from fifo_diffusion.execution.ranks import Ranks, SendBuffers, digest
from fifo_diffusion.method import Layout, Queue, Run, Window
from fifo_diffusion.method.layout import index_of


def share_windows(
    ranks: Ranks, queue: Queue, layout: Layout, describe: Callable[[], Any], passes: Callable[[], int]
) -> "WindowShare | None":
    """This rank's part in the windows, and from here on the same queue on all ranks: rank 0's. None where there is one
    pass, which is shared inside the model.

    Args:
        describe: as for `WindowShare`.
        passes: tells how many passes a prediction takes; only asked where there are ranks for each of them.
    """
    queue.latents_BCFHW = ranks.broadcast(queue.latents_BCFHW, "queue")
    queue.known_BCFHW = ranks.broadcast(queue.known_BCFHW, "known frames")
    if layout.banded:
        return None
    # Passes go apart in all iterations or in none: on fewer ranks frames are the same to the last bit.
    count = passes() if ranks.size >= 2 * layout.most_windows else 1
    ranks.reserve(queue.latents_BCFHW)
    return WindowShare(ranks, describe, count)


class WindowShare:
    """A rank's part in the windows of a stream.

    Each rank has neighbouring windows. Where they do not come out even, the first ranks have the smaller shares: rank 0
    decodes and writes besides. Where there are ranks for it, the two CFG passes go to ranks of their own, which
    swap their outputs. Ranks beyond that have nothing to compute.

    Rank 0 always has the whole queue. The others have what their windows read, and the frames that leave; where NCCL
    exchanges, all of it.

    Args:
        ranks: on which room for the queue is reserved.
        describe: must say the same on all ranks in each iteration.
        passes: of a prediction; 2 with guidance.

    Attributes:
        half: in this iteration, the only pass that is computed here; None: all.
    """

    def __init__(self, ranks: Ranks, describe: Callable[[], Any], passes: int = 1) -> None:
        self.ranks, self.describe, self.passes = ranks, describe, passes
        self.half: int | None = None
        self._count, self._swaps = 0, False
        self._traffic: _Traffic | None = None

    def of(self, rank: int, count: int) -> slice:
        """Which of `count` windows a rank computes, or has a pass of."""
        if self._apart(count):
            taken = self._pass(rank, count)
            return slice(0) if taken is None else slice(taken // 2, taken // 2 + 1)
        return slice(rank * count // self.ranks.size, (rank + 1) * count // self.ranks.size)

    def run(self, queue: Queue, layout: Layout, some: Run) -> Run:
        """The windows of an iteration by all ranks together; of this rank's by `some`."""

        def run(windows: Sequence[Window], denoise: Callable[[Sequence[Window]], None], y_BCFHW: Tensor) -> None:
            some(self.mine(windows), denoise, y_BCFHW)
            if self.half is not None and self._swaps:
                self.ranks.all_to_all(SendBuffers([0] * self.ranks.size), self._word("passes"))  # nothing was computed
            following = layout.windows_from(queue.front(layout, 1), queue.iteration + 1)
            wanted = [_wanted(window, layout, queue.iteration) for window in following]
            self.exchange(y_BCFHW, [window.writes for window in windows], wanted, queue.needed(layout))

        return run

    def mine(self, windows: Sequence[Window]) -> Sequence[Window]:
        """The windows that are computed here; may be none. An iteration begins with this call."""
        self._count, self.half, self._swaps = len(windows), None, True
        if self._apart(self._count):
            taken = self._pass(self.ranks.rank, self._count)
            if taken is None:
                self.ranks.all_to_all(SendBuffers([0] * self.ranks.size), self._word("passes"))  # others swap theirs
            else:
                self.half = taken % 2
        return self.part(windows)

    def part(self, windows: Sequence[Any]) -> Sequence[Any]:
        """Those of these windows that are computed here."""
        return windows[self.of(self.ranks.rank, len(windows))]

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
        taken = self._pass(self.ranks.rank, self._count)
        assert taken is not None
        holder = {self._pass(rank, self._count): rank for rank in range(self.ranks.size)}
        other = holder[taken ^ 1]
        parcels = SendBuffers([output_BCFHW.numel() if rank == other else 0 for rank in range(self.ranks.size)])
        parcels.contents[other].view(output_BCFHW.shape).copy_(output_BCFHW)
        came = self.ranks.all_to_all(parcels, self._word("passes"))[other][: output_BCFHW.numel()]
        self._swaps = False
        outputs = [output_BCFHW, came.view(output_BCFHW.shape).clone().to(output_BCFHW.device)]
        return outputs if taken % 2 == 0 else outputs[::-1]

    def exchange(
        self,
        result_BCFHW: Tensor,
        written: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
        head: Sequence[int],
    ) -> None:
        """Fill in, by one collective, at least what this rank needs of what the others computed.

        Frames that went through their step are exchanged, not predictions: so the ranks' queues are the same, bit for
        bit, whatever hardware each rank has.

        Args:
            written: the padded slots that each window of the iteration writes.
            wanted: those that each window of the next iteration reads, by their numbers in this one.
            head: those that every rank needs: that leave the queue, or that entering noise depends on.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        slots_FBCHW, word = result_BCFHW.movedim(2, 0), self._word("iteration")
        if self.ranks.by_nccl(result_BCFHW):
            self._gather(slots_FBCHW, written, word)
            return
        if self._traffic is None or self._traffic.of != (written, wanted, head):
            self._traffic = _Traffic(self, (written, wanted, head), slots_FBCHW)
        traffic = self._traffic
        for slots, content in traffic.give:
            content.copy_(slots_FBCHW[slots])
        messages = self.ranks.all_to_all(traffic.parcels, word)
        for slots, came in traffic.taken_from(messages):
            slots_FBCHW[slots] = came

    def spans(self, written: Sequence[Sequence[int]]) -> list[list[int]]:
        """The slots that each rank's windows write. Where two ranks have a window, it is the first's."""
        count, ranks = len(written), range(self.ranks.size)
        shares = [written[self.of(rank, count)] for rank in ranks]
        if self._apart(count):
            shares = [
                share if self._pass(rank, count) in range(0, 2 * count, 2) else []
                for rank, share in zip(ranks, shares, strict=True)
            ]
        return [[slot for slots in share for slot in slots] for share in shares]

    def _apart(self, count: int) -> bool:
        """Whether each pass of `count` windows has a rank of its own."""
        return self.passes == 2 and 0 < 2 * count <= self.ranks.size

    def _pass(self, rank: int, count: int) -> int | None:
        """Which of the passes, two for each window, a rank computes where they go apart."""
        first, following = (r * 2 * count // self.ranks.size for r in (rank, rank + 1))
        return first if first < following else None

    def _word(self, what: str) -> str:
        return f"{what} {digest(self.describe())}"

    def _gather(self, slots_FBCHW: Tensor, written: Sequence[Sequence[int]], word: str) -> None:
        """Everything for everybody: one all-gather of shares, each as long as the longest."""
        spans = self.spans(written)
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
        share: WindowShare,
        of: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]], Sequence[int]],
        like_FBCHW: Tensor,
    ) -> None:
        self.of = of
        written, wanted, head = of
        spans, me, size = share.spans(written), share.ranks.rank, share.ranks.size
        needs = [{*head}.union(*wanted[share.of(rank, len(wanted))]) for rank in range(size)]
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
