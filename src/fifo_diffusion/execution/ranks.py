"""One video on many processes, with `torch.distributed`: each rank computes its share of the windows.

Each iteration ends with one all-to-all, when all ranks are done with their windows: a 512-byte status header (the rank
is alive, and at which step), then the slots that the receiver reads next. Every message begins with that header,
whatever it is for, so a rank that fails can tell the others wherever they are, and none waits for one that will never
come.
"""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others. They may be that much slower; a rank that *ends* is noticed at once."""
ABORT_TIMEOUT = timedelta(seconds=20)
"""How long a rank that fails waits to tell the others."""
WORD_BYTES = 512
_WORD_FLOATS = WORD_BYTES // 4
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
        group: as it was given.
        lend: called before a meeting: where ranks share weights, what the others still need of them
            (`execution.shared_weights`).
    """

    def __init__(self, group: Any) -> None:
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("this process is no member of the process group that it was given")
        self.group, self._nccl = group, "nccl" in dist.get_backend_config(group)
        members = dist.get_process_group_ranks(group)
        self._first = members[0]
        # Unlike NCCL, Gloo raises an error where the user can catch it, at once when a connection breaks.
        self._gloo = dist.new_group(members, timeout=TIMEOUT, backend="gloo", use_local_synchronization=True)
        self._room = 0
        self._make_room(_WORD_FLOATS)
        self._over = False
        self.lend: Callable[[], None] = _nothing

    # ------------------------------------------------------------------ meeting

    def check_equal(self, facts: dict[str, Any]) -> None:
        """Check that plain values are the same on every rank. A rank without any, because it found an error, says
        {"error": message}.

        Raises:
            ValueError: they are not; the message names those that differ.
            RankError: a rank has left, is gone, or is at another place.
        """
        with _signals_held():
            self.lend()
            words = self._exchange(_HERE, f"arguments {digest(facts)}")
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

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value, on every rank; plain data.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        with _signals_held():
            self._meet("value")
            values = [value]
            with _broken_connections():
                dist.broadcast_object_list(values, src=self._first, group=self._gloo)
        return values[0]

    def broadcast(self, tensor: Tensor, word: str) -> Tensor:
        """Rank 0's tensor, on every rank.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
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
            RankError: a rank has left, is gone, or is at another place.
        """
        with _signals_held():
            self._meet(word)
            return self.gather_parts(mine)

    @contextmanager
    def together(self, facts: Any) -> Iterator["Ranks"]:
        """A meeting of ranks with the same facts, and after it a stretch in which all make the same calls of
        `gather_parts` and none may leave: one that fails gives its connections back, so that the others do not wait.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        with _signals_held():
            self._meet(f"iteration {digest(facts)}")
            try:
                yield self
            except BaseException:
                self.close()
                raise

    def gather_parts(self, mine: Tensor) -> list[Tensor]:
        """Every rank's tensor, all of one shape, by rank. Only right after a meeting, or within `together`."""
        sent = self._there(mine.contiguous())
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        with _broken_connections():  # as bytes: Gloo does not know every type
            dist.all_gather([x.view(torch.uint8) for x in parts], sent.view(torch.uint8), group=self._group_of(sent))
        return [part.to(mine.device) for part in parts]

    def all_to_all(self, parcels: "SendBuffers", word: str) -> list[Tensor]:
        """What each rank has sent to this one, in return for the parcels: float32, flat; valid until the next meeting.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        with _signals_held():
            self.lend()
            self._check(self._exchange(_HERE, word, parcels), word)
        return self._contents

    def wishes(self, mine: int) -> list[int]:
        """A number of every rank, by rank: a meeting in which each may say another one.

        Raises:
            RankError: a rank has left, is gone, or is at another place.
        """
        words = self._exchange(_HERE, f"wish {mine}")
        self._check(words, "wish ")
        return [int(word.split()[1]) for word in words]

    def undisturbed(self) -> AbstractContextManager[None]:
        """Signals wait for the end of this block: within it all ranks do the same."""
        return _signals_held()

    def connected(self) -> AbstractContextManager[None]:
        """Where a collective of `torch.distributed` fails within, that is a `RankError`."""
        return _broken_connections()

    def abort(self, why: object) -> None:
        """Tell the others that this rank ends the run, so that they do not wait for it. Never fails; once the run is
        over, does nothing."""
        if not self._over:
            with suppress(Exception), _signals_held():
                self._exchange(_ENDED, " ".join(str(why).split()), patience=ABORT_TIMEOUT)
            self.close()

    def close(self) -> None:
        """Give the connections back; others that still wait for this rank get an error."""
        self._over = True
        if self._gloo is not None:
            with suppress(Exception):
                dist.destroy_process_group(self._gloo)
            self._gloo = None

    def reserve(self, longest: Tensor) -> None:
        """From here on parcels may be as long as this. All ranks must say so at the same place."""
        self._make_room(_WORD_FLOATS + longest.numel())

    # ------------------------------------------------------------------ inside

    def _meet(self, word: str) -> None:
        self.lend()
        self._check(self._exchange(_HERE, word), word)

    def _exchange(
        self, kind: bytes, word: str, parcels: "SendBuffers | None" = None, patience: timedelta = TIMEOUT
    ) -> list[bytes]:
        """Send all the word, and the parcels with it; return theirs. Their parcels are in the inbox.

        Gloo lets a message be shorter than the room for it, and ends the process where it is longer. So there is always
        room for the longest, and it matters not whether all have parcels or some only words.
        """
        if self._over:
            raise RankError("the run over several ranks has ended: make a new FIFO on a new process group")
        parcels = parcels or SendBuffers([0] * self.size)
        parcels.address((kind + word.encode()[: WORD_BYTES - 1]).ljust(WORD_BYTES, b"\0"))
        try:
            # Straight from each: Gloo's own all-gather passes on from rank to rank, so that each waits for all, one
            # after the other, and hears late of one that is gone.
            lengths = self._lengths, parcels.lengths
            dist.all_to_all_single(self._inbox, parcels.sent, *lengths, group=self._gloo, async_op=True).wait(patience)
        except RuntimeError as error:
            self.close()  # so that ranks which wait for this one learn of it too
            raise RankError(_lost(error)) from error
        return [word.tobytes().rstrip(b"\0") for word in self._words]

    def _make_room(self, longest: int) -> None:
        """For messages of this many floats from each of the others. The one to itself must be just as long as it is."""
        if longest > self._room:
            self._room, self._lengths = longest, [longest] * self.size
            self._lengths[self.rank] = _WORD_FLOATS
            self._inbox = torch.empty(sum(self._lengths))
            self._words, self._contents = _words_and_contents(self._inbox, self._lengths)

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

    def by_nccl(self, tensor: Tensor) -> bool:
        """Whether a tensor is exchanged where it is, on a GPU; else it goes by way of the CPU."""
        return self._nccl and tensor.is_cuda

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor if self.by_nccl(tensor) else tensor.cpu()

    def _group_of(self, tensor: Tensor) -> Any:
        return self.group if self.by_nccl(tensor) else self._gloo


class SendBuffers:
    """Messages with floats for each rank; made once and filled in every iteration.

    Args:
        gives: how many floats each rank gets.

    Attributes:
        contents: what is in the parcel for each rank; to be written to.
        sent, lengths: all messages in one piece, and the length of each.
    """

    def __init__(self, gives: Sequence[int]) -> None:
        self.lengths = [_WORD_FLOATS + count for count in gives]
        self.sent = torch.empty(sum(self.lengths))
        self._words, self.contents = _words_and_contents(self.sent, self.lengths)

    def address(self, word: bytes) -> None:
        """Write the word that all messages begin with."""
        for place in self._words:
            place[:] = np.frombuffer(word, np.uint8)


def _words_and_contents(messages: Tensor, lengths: Sequence[int]) -> tuple[list[np.ndarray], list[Tensor]]:
    """Of messages in one piece, the bytes that each begins with, and the floats that follow."""
    parts = messages.split(lengths)
    return [part[:_WORD_FLOATS].numpy().view(np.uint8) for part in parts], [part[_WORD_FLOATS:] for part in parts]


def join_torchrun() -> Ranks:
    """Open a process group with the processes that torchrun started: Gloo, and NCCL where there are GPUs.

    Raises:
        RankError: the others do not come.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    with _broken_connections():
        dist.init_process_group(backend, timeout=TIMEOUT)
    return Ranks(dist.group.WORLD)


def digest(facts: Any) -> str:
    """A short hash of plain values, for words."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _nothing() -> None:
    """Ranks that share no weights lend none."""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lost(error: RuntimeError) -> str:
    late = "timed out" in str(error).lower() or "timeout" in str(error).lower()
    return f"another rank did not come within {TIMEOUT}" if late else "another rank is gone (it was killed, or failed)"


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
