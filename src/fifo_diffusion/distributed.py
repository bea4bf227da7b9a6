"""One video on many processes, with `torch.distributed`: each rank computes its share of the windows.

The queue is there on every rank. In each iteration the ranks meet once, when all are done with their windows: a few
bytes on the CPU say that everybody is well and at the same place, then one all-gather exchanges the written slots.
Every meeting begins with those bytes, so a rank that fails can tell the others, wherever they are, and none waits in an
exchange that another will never come to.
"""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fifo_diffusion.method import Window

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others. They may be that much slower; a rank that *ends* is noticed at once."""
PARTING = timedelta(seconds=20)
"""How long a rank that fails waits to tell the others."""
WORD_BYTES = 512
_ENDED, _HERE = b"!", b"."


class RankError(RuntimeError):
    """Another rank ended the run, or is gone."""


class Ranks:
    """The processes that make one video together.

    Args:
        group: a process group of `torch.distributed`, on any backend. All its ranks must make their `Ranks` at the
            same time: a group of its own is opened beside it, on Gloo.

    Attributes:
        rank, size: this process's number in the group; how many there are.
    """

    def __init__(self, group: Any) -> None:
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("this process is no member of the process group that it was given")
        self._group, self._nccl = group, "nccl" in dist.get_backend_config(group)
        members = dist.get_process_group_ranks(group)
        self._first = members[0]
        # Unlike NCCL, Gloo raises an error where the user can catch it, at once when a connection breaks.
        self._gloo = dist.new_group(members, timeout=PATIENCE, backend="gloo", use_local_synchronization=True)
        self._over = False

    # ------------------------------------------------------------------ meeting

    def meet(self, word: str) -> None:
        """Wait for all ranks, and find them at the same word.

        Raises:
            RankError: a rank has left, is gone, or came with another word.
        """
        with _signals_held():
            self._meet(word)

    def agree(self, facts: dict[str, Any]) -> None:
        """Check that plain values are the same on every rank. A rank without any, because it found an error, says
        {"error": message}.

        Raises:
            ValueError: they are not; the message names those that differ.
            RankError: see `meet`.
        """
        with _signals_held():
            words = self._exchange_words(_HERE, f"arguments {_digest(facts)}")
            if len(set(words)) == 1:
                return
            self._check(words, "arguments")
            found: list[Any] = [None] * self.size
            with _broken_connections():
                dist.all_gather_object(found, facts, group=self._gloo)
        # Every rank has seen this: nobody waits for anybody, and all can go on from here.
        for rank, others in enumerate(found):
            if "error" in others:
                raise ValueError(f"on rank {rank}: {others['error']}")
        for rank, others in enumerate(found):
            for name in facts:
                if others.get(name) != found[0].get(name):
                    values = f"{_short(found[0].get(name))} on rank 0, {_short(others.get(name))} on rank {rank}"
                    raise ValueError(f"{name} differs over ranks ({values}): give all ranks the same arguments")
        raise ValueError("the arguments differ over ranks: give all ranks the same")

    def of_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank; plain data.

        Raises:
            RankError: see `meet`.
        """
        with _signals_held():
            self._meet("value")
            values = [value]
            with _broken_connections():
                dist.broadcast_object_list(values, src=self._first, group=self._gloo)
        return values[0]

    def replicate(self, tensor: Tensor, word: str) -> Tensor:
        """Rank 0's tensor, on every rank.

        Raises:
            RankError: see `meet`.
        """
        with _signals_held():
            self._meet(f"{word} {tuple(tensor.shape)}")
            copy = self._there(tensor.contiguous().clone())
            with _broken_connections():
                dist.broadcast(copy, src=self._first, group=self._group_of(copy))
        return copy.to(tensor.device)

    def gather(self, mine: Tensor, word: str) -> list[Tensor]:
        """Every rank's tensor, all of one shape, by rank.

        Raises:
            RankError: see `meet`.
        """
        with _signals_held():
            self._meet(word)
            sent = self._there(mine.contiguous())
            with _broken_connections():
                if not sent.is_cuda:
                    return self._gather_at_once(sent, PATIENCE)
                parts = [torch.empty_like(sent) for _ in range(self.size)]
                dist.all_gather(parts, sent, group=self._group)
                return parts

    def leave(self, why: object) -> None:
        """Tell the others that this rank ends the run, so that they do not wait for it. Never fails; once the run is
        over, does nothing."""
        if not self._over:
            with suppress(Exception), _signals_held():
                self._exchange_words(_ENDED, " ".join(str(why).split()), PARTING)
            self.close()

    def close(self) -> None:
        """Give the connections back; others that still wait for this rank get an error."""
        self._over = True
        if self._gloo is not None:
            with suppress(Exception):
                dist.destroy_process_group(self._gloo)
            self._gloo = None

    def share(self, describe: Callable[[], Any]) -> "WindowShare":
        """This rank's part in a stream's windows; `describe()` must be the same on all ranks in each iteration."""
        return WindowShare(self, describe)

    # ------------------------------------------------------------------ inside

    def _meet(self, word: str) -> None:
        self._check(self._exchange_words(_HERE, word), word)

    def _exchange_words(self, kind: bytes, word: str, patience: timedelta = PATIENCE) -> list[bytes]:
        if self._over:
            raise RankError("the run over several ranks has ended: make a new FIFO on a new process group")
        content = (kind + word.encode()[: WORD_BYTES - 1]).ljust(WORD_BYTES, b"\0")
        mine = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        try:
            words = self._gather_at_once(mine, patience)
        except RuntimeError as error:
            self.close()  # so that ranks which wait for this one are told too
            raise RankError(_lost(error)) from error
        return [bytes(word.numpy()).rstrip(b"\0") for word in words]

    def _gather_at_once(self, mine: Tensor, patience: timedelta) -> list[Tensor]:
        """Every rank's tensor, straight from it: Gloo's own all-gather passes them on from rank to rank, so that each
        waits for all, one after the other, and hears late of one that is gone."""
        copies = mine.expand(self.size, *mine.shape).contiguous()
        parts = torch.empty_like(copies)
        dist.all_to_all_single(parts, copies, group=self._gloo, async_op=True).wait(patience)
        return list(parts)

    def _check(self, words: Sequence[bytes], expected: str) -> None:
        """That nobody has left, and all words begin as expected."""
        for rank, word in enumerate(words):
            if word.startswith(_ENDED) and rank != self.rank:
                self._over = True
                raise RankError(f"rank {rank} ended the run: {word[1:].decode(errors='replace')}")
        for rank, word in enumerate(words):
            if not word.startswith(_HERE + expected.encode()):
                self._over = True
                place = word[1:].decode(errors="replace")
                raise RankError(
                    f'rank {rank} is at "{place}" where rank {self.rank} is at "{expected}": use the same streams, '
                    "prompts and number of frames on all ranks"
                )

    def _there(self, tensor: Tensor) -> Tensor:
        """Where tensors are exchanged: on the GPU by NCCL, else on the CPU."""
        return tensor if self._nccl and tensor.is_cuda else tensor.cpu()

    def _group_of(self, tensor: Tensor) -> Any:
        return self._group if tensor.is_cuda else self._gloo


@dataclass(frozen=True)
class WindowShare:
    """A rank's part in the windows of a stream (`fifo_diffusion.method.Share`).

    Each rank has neighbouring windows. Where they do not come out even, the first ranks have the smaller shares: rank 0
    decodes and writes besides. Ranks beyond the number of windows have nothing to compute.
    """

    ranks: Ranks
    describe: Callable[[], Any]

    def of(self, rank: int, count: int) -> slice:
        """Which of so many windows a rank computes."""
        return slice(rank * count // self.ranks.size, (rank + 1) * count // self.ranks.size)

    def mine(self, windows: Sequence[Window]) -> Sequence[Window]:
        """The windows that are computed here."""
        return windows[self.of(self.ranks.rank, len(windows))]

    def exchange(self, result_BCFHW: Tensor, written: Sequence[slice]) -> None:
        """Fill in what the others computed: one all-gather of shares, each as long as the longest.

        Frames that went through their step are exchanged, not predictions: so the ranks' queues are the same, bit for
        bit, whatever hardware each rank has.

        Raises:
            RankError: see `Ranks.meet`.
        """
        spans = [_span(written[self.of(rank, len(written))]) for rank in range(self.ranks.size)]
        most = max(len(span) for span in spans)
        mine = spans[self.ranks.rank]
        sent = result_BCFHW.new_zeros((most, *result_BCFHW[:, :, 0].shape))
        sent[: len(mine)] = result_BCFHW[:, :, mine.start : mine.stop].movedim(2, 0)
        for rank, part in enumerate(self.ranks.gather(sent, f"iteration {_digest(self.describe())}")):
            span = spans[rank]
            if span and rank != self.ranks.rank:
                result_BCFHW[:, :, span.start : span.stop] = part[: len(span)].movedim(0, 2).to(result_BCFHW.device)


def join_torchrun() -> Ranks:
    """Open a process group with the processes that torchrun started: Gloo, and NCCL where there are GPUs.

    Raises:
        RankError: the others do not come.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    with _broken_connections():
        dist.init_process_group(backend, timeout=PATIENCE)
    return Ranks(dist.group.WORLD)


def _span(written: Sequence[slice]) -> range:
    """The slots that neighbouring windows write."""
    return range(written[0].start, written[-1].stop) if written else range(0)


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lost(error: RuntimeError) -> str:
    late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
    return f"another rank did not come within {PATIENCE}" if late else "another rank is gone (it was killed, or failed)"


@contextmanager
def _broken_connections() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankError(_lost(error)) from error


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait for the end of this block: an exception between the parts of an exchange would leave the other ranks
    in the middle of it."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted by signals
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
