"""Which text each frame has, as data: changes of the prompt in the order in which they happen. No model.

Frames are numbered as latents are (`plan.latent_of`), but where "as the viewer counts them" is said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fifo_diffusion.method import Layout
from fifo_diffusion.models.shared.texts import Embeds, Prompt, prompt_from_json, prompt_to_json

WAYS = ("tail", "queue", "blend")
"""How a prompt changes: see `Schedule`."""
HOLD = "hold"
"""Of a change that keeps what was there, so that a blend begins with it."""

Prompts = tuple[Prompt, ...]
"""One text per video."""
Mixture = dict[Prompts, float]
"""Weights that sum to one."""
Entries = dict[int, tuple[Prompts, str | None]]
"""What a schedule says: {frame: (prompts, way)}. None is the way of the run, and a blend has then arrived at that
frame; where a way is given it is a change as one is assigned at that frame, and a blend begins there."""

NEGLIGIBLE = 1e-4
"""A text of less weight is left out of a mixture."""
MOST_MIXED = 64
"""Texts of a mixture; beyond them the lightest are left out."""


@dataclass(frozen=True)
class Change:
    """One change of the prompt.

    Attributes:
        frame: of which it holds ("tail"), at the head of the queue ("queue"), or where it is reached ("blend").
        mixture: what holds then.
        way: one of `WAYS`, or `HOLD`.
        time: the frame that is at the head when it happens.
    """

    frame: int
    mixture: Mixture
    way: str
    time: int

    @property
    def approached(self) -> bool:
        return self.way in ("blend", HOLD)

    @property
    def prompts(self) -> Prompts:
        """Those of most weight."""
        return max(self.mixture, key=self.mixture.__getitem__)


def in_queue(layout: Layout) -> dict[str, int]:
    """What a `Schedule` must know of a queue: its `slots` and `reach`."""
    return {"slots": layout.slots, "reach": layout.slots - layout.entering}


class Schedule:
    """What is asked for, frame by frame, and how it may still be changed.

    "tail": every frame keeps the prompt that it was enqueued with, so that frame k is the first that was wholly
    denoised under the prompt of key k. "queue": all frames in the queue change at once, when frame k is at the head (as
    published). "blend": embeddings are interpolated linearly between the keys.

    Of two changes that a frame could follow the later one counts: a change of the whole queue also takes frames that
    entered under a text of their own.

    Args:
        usual: the way of the run.
        slots: of the queue: how long a blend takes that is assigned.
        reach: slots that are denoised when a frame is at the head, so that the frame so much later is the first that
            can change wholly.
    """

    def __init__(self, usual: str, *, slots: int = 1, reach: int = 0) -> None:
        self.usual, self._slots, self.reach = usual, slots, reach
        self._changes: list[Change] = []
        self._undo: tuple[int, list[Change]] | None = None  # before what was assigned at that time

    @classmethod
    def of(cls, entries: Mapping[int, tuple[Prompts, str | None]], usual: str, **queue: int) -> "Schedule":
        """A new one; the first frame of `entries` is where the video begins."""
        schedule = cls(usual, **queue)
        for frame, (prompts, way) in schedule._in_time(entries):
            schedule._put(frame, prompts, way)
        return schedule

    @classmethod
    def from_json(cls, saved: list[Any], tensors: Mapping[str, Tensor], usual: str, **queue: int) -> "Schedule":
        """What `to_json` gave; `tensors` are those of its encoded texts."""
        schedule = cls(usual, **queue)
        for frame, mixture, *way in saved:
            texts = {tuple(prompt_from_json(text, tensors) for text in p): weight for p, weight in mixture}
            schedule._append(frame, texts, way[0] if way else usual)
        return schedule

    def to_json(self) -> list[Any]:
        """[frame, mixture] in the way of the run, [frame, mixture, way] else; in the order in which they happen."""
        return [
            [
                change.frame,
                [[[prompt_to_json(text) for text in p], weight] for p, weight in change.mixture.items()],
                *([] if change.way == self.usual else [change.way]),
            ]
            for change in self._changes
        ]

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def prompts(self) -> list[Prompts]:
        """All that are known, the first ones first."""
        return list(dict.fromkeys(prompts for change in self._changes for prompts in change.mixture))

    @property
    def embeds(self) -> list[Embeds]:
        """The encoded texts among the prompts, whose tensors a saved state needs beside `to_json`."""
        texts = (text for prompts in self.prompts for text in prompts)
        return [text for text in dict.fromkeys(texts) if isinstance(text, Embeds)]

    # ------------------------------------------------------------------ reading

    def mixture(self, frame: int, head: int) -> Mixture:
        """The texts of a frame, while frame `head` is at the head of the queue."""
        at = self._at(frame, head)
        here, following = self._changes[at], self._approached_from(at)
        if following is None or frame <= here.frame:
            return here.mixture
        share = (frame - here.frame) / (following.frame - here.frame)
        mixture = {prompts: (1 - share) * weight for prompts, weight in here.mixture.items()}
        for prompts, weight in following.mixture.items():
            mixture[prompts] = mixture.get(prompts, 0.0) + share * weight
        return mixture

    def entering_at(self, frame: int, head: int) -> Prompts:
        """The prompts that a frame enters under; with a blend those that are being approached."""
        at = self._at(frame, head)
        return (self._approached_from(at) or self._changes[at]).prompts

    def entries(self) -> Entries:
        """What is known of the schedule, as `of` takes it; what no frame in the queue needs is forgotten."""
        return {frame: (prompts, way) for frame, prompts, way, _ in self._said(self._changes)}

    def disagrees(self, entries: Entries, now: int) -> int | None:
        """The first frame, fixed by the time `now`, for which these entries say something else; None: there is none.
        Of frames before the first entry nothing is said, and what is forgotten cannot be compared."""
        known = self._said(change for change in self._changes if change.time < now)
        given = [
            (frame, prompts, None if way == self.usual != "blend" else way, self._time(frame, way))
            for frame, (prompts, way) in self._in_time(entries)
        ]
        given = [each for each in given if each[3] < now]
        if not known or not given:
            return None
        before = [each for each in given if each[3] <= known[0][3]]
        if before and before[-1][1] != known[0][1]:
            return known[0][0]
        there, said = _changing(known), _changing([known[0], *given[len(before) :]])
        for one, other in zip(there, said, strict=False):
            if one != other:
                return min(one[0], other[0])
        longer = max(there, said, key=len)
        return None if len(there) == len(said) else longer[min(len(there), len(said))][0]

    # ------------------------------------------------------------------ changing

    def assign(self, prompts: Prompts, frame: int, way: str, now: int) -> None:
        """From `frame` on these prompts; a blend reaches them when the queue has moved on once, from what is there.
        What was to come is dropped.

        Args:
            frame: the first that can change in this way.
            now: the time, `Change.time`.
        """
        if self._undo is not None and self._undo[0] == now:
            self._changes = self._undo[1]
        before, following = self._changes, self._approached_from(self._at(frame - 1, frame - 1))
        kept = [change for change in before if change.time <= now] or before[:1]
        if way == "queue":
            kept = [change for change in kept if (change.frame, change.way) != (frame, way)]
        elif following is not None and following not in kept:
            kept.append(self._held(frame))
        self._changes = kept
        self._put(frame, prompts, way)
        self._undo = now, list(self._changes) if way == "queue" else before

    def edit(self, entries: Entries, frame: int, now: int) -> None:
        """Put what these entries say from `now` on in place of what was to come; `frame` is the first that can change
        at the tail. `disagrees` says whether they fit."""
        future = [(k, each) for k, each in self._in_time(entries) if self._time(k, each[1]) >= now]
        first, following = self._changes[0], self._approached_from(self._at(frame - 1, frame - 1))
        approaches = bool(future) and self.usual == "blend" and future[0][1][1] is None
        goes_on = following is not None and approaches and future[0][:2] == (following.frame, (following.prompts, None))
        held = self._held(frame)
        kept = [change for change in self._changes if change.time < now]
        if not kept and (not future or future[0][0] > first.frame):
            kept.append(first)
        begun = following is not None and following in kept  # then it goes on to its end
        if kept and not (goes_on or begun) and (following is not None or approaches):
            kept.append(held)
        self._changes, self._undo = kept, None
        for k, (prompts, way) in future:
            self._put(k, prompts, way)

    def forget_before(self, frame: int) -> None:
        """Drop what no frame from this one on can need, so that endless runs with many prompts do not grow."""
        del self._changes[: self._at(frame, frame)]
        self._undo = None

    # ------------------------------------------------------------------ inside

    def _at(self, frame: int, head: int) -> int:
        """The last change that has come for a frame."""
        for at in range(len(self._changes) - 1, 0, -1):
            change = self._changes[at]
            if change.frame <= (head if change.way == "queue" else frame):
                return at
        return 0

    def _approached_from(self, at: int) -> Change | None:
        following = self._changes[at + 1] if at + 1 < len(self._changes) else None
        return following if following is not None and following.approached else None

    def _time(self, frame: int, way: str | None) -> int:
        return frame if (way or self.usual) == "queue" else frame - self.reach

    def _in_time(
        self, entries: Mapping[int, tuple[Prompts, str | None]]
    ) -> list[tuple[int, tuple[Prompts, str | None]]]:
        return sorted(entries.items(), key=lambda each: (self._time(each[0], each[1][1]), each[0]))

    def _append(self, frame: int, mixture: Mixture, way: str) -> None:
        begun = bool(self._changes) and self._begun(self._changes[-1], frame, way)
        time = self._changes[-1].time if begun else self._time(frame, way)
        self._changes.append(Change(frame, mixture, way, time))

    def _begun(self, last: Change, frame: int, way: str) -> bool:
        """Whether a blend begins with the change before it, and happens with it."""
        return way == "blend" and last.way == HOLD and frame == last.frame + self._slots

    def _put(self, frame: int, prompts: Prompts, way: str | None) -> None:
        if way == "blend" and self._changes:
            if (self._changes[-1].way, self._changes[-1].frame) != (HOLD, frame):
                self._changes.append(self._held(frame))
            frame += self._slots
        self._append(frame, {prompts: 1.0}, way or self.usual)

    def _held(self, frame: int) -> Change:
        return Change(frame, _trimmed(self.mixture(frame, frame)), HOLD, self._time(frame, HOLD))

    def _said(self, changes: Iterable[Change]) -> list[tuple[int, Prompts, str | None, int]]:
        """Frame, prompts, way (None: that of the run) and time of what somebody said."""
        said: list[tuple[int, Prompts, str | None, int]] = []
        last: Change | None = None
        for change in changes:
            if last is not None and self._begun(last, change.frame, change.way):
                said = [each for each in said if each[0] != last.frame]
                said.append((last.frame, change.prompts, "blend", change.time))
            elif last is None or change.way != HOLD or len(change.mixture) == 1:
                way = None if last is None or change.way in (self.usual, HOLD) else change.way
                said = [each for each in said if each[0] != change.frame]
                said.append((change.frame, change.prompts, way, change.time))
            last = change
        return said


def _changing(said: Sequence[tuple[int, Prompts, str | None, int]]) -> list[tuple[int, Prompts, str | None, int]]:
    """Without those under the prompts that are there already, but where a blend arrives at them."""
    return [each for k, each in enumerate(said) if k == 0 or each[1] != said[k - 1][1]]


def _trimmed(mixture: Mixture) -> Mixture:
    """Without the texts whose weight is negligible, so that a mixture does not grow with every change."""
    kept = sorted(mixture, key=mixture.__getitem__, reverse=True)[:MOST_MIXED]
    kept = [prompts for prompts in kept if mixture[prompts] >= NEGLIGIBLE]
    if len(kept) == len(mixture):
        return mixture
    total = sum(mixture[prompts] for prompts in kept)
    return {prompts: mixture[prompts] / total for prompts in kept}
