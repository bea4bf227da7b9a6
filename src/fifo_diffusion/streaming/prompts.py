"""Which text each frame is denoised under: one prompt, a schedule, or prompts assigned while running."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.models.shared.arguments import EMBEDS, NEGATIVE_EMBEDS, check_text
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.texts import Embeds, Prompt, embeds_of, prompt_from_json, prompt_to_json
from fifo_diffusion.settings import StreamSettings, specs
from fifo_diffusion.settings.kinds import plain
from fifo_diffusion.text import quoted

MOST_FRAMES = specs(StreamSettings)["num_frames"].kind.most

PROMPT_CHANGES = ("tail", "queue", "blend")

Prompts = tuple[Prompt, ...]
"""One text per video."""
Mixture = dict[Prompts, float]
"""Weights that sum to one."""

NEGLIGIBLE = 1e-4
"""A text of less weight is left out of a mixture."""
MOST_MIXED = 64
"""Texts of a mixture; beyond them the lightest are left out."""


class PromptTrack:
    """Prompts by frame, and the model's condition for the frames of some windows.

    Args:
        model: encodes the prompts, when their first frame comes.
        keys: {frame: prompts of all videos}, with key 0; frames as the viewer counts them. Or mixtures of prompts.
        change: "tail": every frame keeps the prompt that it was enqueued with, so that frame k is the first that was
            wholly denoised under the prompt of key k. "queue": all frames in the queue change at once, when frame k is
            at the head (as published). "blend": embeddings are interpolated linearly between the keys.
        call: arguments of the pipeline's own call.
    """

    def __init__(
        self, model: VideoModel, keys: Mapping[int, Prompts | Mixture], change: str, call: dict[str, Any]
    ) -> None:
        if change not in PROMPT_CHANGES:
            raise ArgumentError("prompt_change", change, f"give {' or '.join(map(repr, PROMPT_CHANGES))}")
        self._model, self._call, self.change = model, call, change
        self._keys = {k: v if isinstance(v, dict) else {v: 1.0} for k, v in sorted(keys.items())}
        self._conditions: dict[Prompts, Any] = {}
        self._made_by: Any = None  # the encoders that made them
        for prompts in next(iter(self._keys.values())):
            self._encoded(prompts)  # so that bad arguments of the pipeline are found before the first frame
        every = dict.fromkeys(prompts for mixture in self._keys.values() for prompts in mixture)
        for prompts in every:
            self._check_mixes(next(iter(every)), prompts)

    def entering_at(self, frame: int) -> Prompts:
        """The prompts that a frame enters under; with "blend" those that are being approached."""
        following = self._next_key(frame) if self.change == "blend" else None
        mixture = self._keys[self._key(frame) if following is None else following]
        return max(mixture, key=mixture.__getitem__)

    def assign(self, prompts: Sequence[Prompt], frame: int, blend_frames: int) -> None:
        """From `frame` on these prompts; with "blend" they are reached `blend_frames` later, from what is there now.

        Raises:
            ValueError: the model cannot take them. Then nothing has changed.
        """
        prompts = tuple(prompts)
        self._encoded(prompts)
        current = _trimmed(self._mixture(frame))
        for before in current:
            self._check_mixes(before, prompts)
        self._keys = {k: v for k, v in self._keys.items() if k < frame}
        if self.change == "blend":
            self._keys[frame] = current
            frame += blend_frames
        self._keys[frame] = {prompts: 1.0}

    def forget_before(self, frame: int) -> None:
        """Drop what no frame from this one on can need, so that endless runs with many prompts do not grow."""
        needed = self._key(frame)
        self._keys = {k: v for k, v in self._keys.items() if k >= needed}
        used = {prompts for mixture in self._keys.values() for prompts in mixture}
        self._conditions = {p: c for p, c in self._conditions.items() if p in used}

    def condition(self, windows: Sequence[Sequence[int]], head: int) -> Any:
        """The condition for windows of frames, when frame `head` is at the head of the queue."""
        if self.change == "queue":
            windows = [[head] * len(window) for window in windows]
        mixtures = [[self._mixture(frame) for frame in window] for window in windows]
        used = list(dict.fromkeys(prompts for window in mixtures for mixture in window for prompts in mixture))
        conditions = [self._encoded(prompts) for prompts in used]
        if len(used) == 1:
            return conditions[0]
        weights = [[[mixture.get(prompts, 0.0) for prompts in used] for mixture in window] for window in mixtures]
        return self._model.mix(conditions, torch.tensor(weights))

    def to_json(self) -> list[Any]:
        """The keys as plain lists, for a saved state."""
        return [
            [k, [[[prompt_to_json(text) for text in p], weight] for p, weight in mixture.items()]]
            for k, mixture in self._keys.items()
        ]

    @property
    def embeds(self) -> list[Embeds]:
        """The encoded texts among the prompts, whose tensors a saved state needs beside `to_json`."""
        texts = (text for mixture in self._keys.values() for prompts in mixture for text in prompts)
        return [text for text in dict.fromkeys(texts) if isinstance(text, Embeds)]

    @staticmethod
    def keys_from_json(saved: list[Any], tensors: Mapping[str, Tensor]) -> dict[int, Mixture]:
        """What `to_json` gave."""
        return {
            frame: {tuple(prompt_from_json(text, tensors) for text in p): weight for p, weight in mixture}
            for frame, mixture in saved
        }

    def _check_mixes(self, one: Prompts, other: Prompts) -> None:
        """Raises ValueError where frames under one and the other could not be in a window: words and encoded texts of
        other lengths."""
        if all(isinstance(text, Embeds) == isinstance(one[0], Embeds) for text in other):
            return
        with _fitting():
            self._model.mix([self._encoded(one), self._encoded(other)], torch.full((1, 1, 2), 0.5))

    def _encoded(self, prompts: Prompts) -> Any:
        with self._model.lock:
            now = self._model.text_state()
            if now != self._made_by:  # other encoders, adapters or denoisers than before
                self._conditions, self._made_by = {}, now
            if prompts not in self._conditions:
                with _fitting() if isinstance(prompts[0], Embeds) else nullcontext():
                    self._conditions[prompts] = self._model.condition(prompts, **self._call)
                self._model.done_encoding()
            return self._conditions[prompts]

    def _key(self, frame: int) -> int:
        return max((key for key in self._keys if key <= frame), default=next(iter(self._keys)))

    def _next_key(self, frame: int) -> int | None:
        return min((key for key in self._keys if key > frame), default=None)

    def _mixture(self, frame: int) -> Mixture:
        key, following = self._key(frame), self._next_key(frame)
        if self.change != "blend" or following is None or frame <= key:
            return self._keys[key]
        share = (frame - key) / (following - key)
        mixture = {prompts: (1 - share) * weight for prompts, weight in self._keys[key].items()}
        for prompts, weight in self._keys[following].items():
            mixture[prompts] = mixture.get(prompts, 0.0) + share * weight
        return mixture


@contextmanager
def _fitting() -> Iterator[None]:
    """Where encoded texts are joined with others, what is wrong with their shape in one line."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            "the encoded texts have not the shape of those that this model encodes itself, and do not go with words in "
            "one video: encode all of them alike, the negative one too"
        ) from error


def parse_prompt(prompt: Any) -> tuple[dict[int, Prompts], bool]:
    """A prompt argument as {frame: prompts of all videos}, and whether it is a batch of videos.

    A text may be encoded already: `Embeds`, or a dictionary for `embeds_of`, then perhaps of several videos.

    Raises:
        ValueError: an empty list or schedule, a schedule without key 0 or with negative keys, bytes that are no text,
            encoded texts that do not fit.
        TypeError: anything else than a text, a list of texts or a {frame: text} schedule.
    """
    if is_schedule(prompt):
        prompt = {plain(frame): text for frame, text in prompt.items()}
        if not prompt or 0 not in prompt:
            raise ValueError(f"a prompt schedule needs key 0 (the first frame); it has {sorted(prompt) or 'no keys'}")
        keys = {}
        for frame, text in prompt.items():
            right = isinstance(frame, int) and not isinstance(frame, bool) and frame >= 0
            if not right or not (isinstance(text, str | Embeds) or _is_embeds(text)):
                raise ValueError(
                    f"a prompt schedule maps frame numbers from 0 on to texts, not {quoted(frame)} to {quoted(text)}"
                )
            if frame > MOST_FRAMES:
                raise ValueError(f"a key of the prompt schedule must be at most {MOST_FRAMES}, not {quoted(frame)}")
            keys[frame], batch = _texts(text)
            if batch:
                raise ValueError(
                    f"a schedule is for one video: prompt_embeds of frame {frame} are for {len(keys[frame])}"
                )
        return dict(sorted(keys.items())), False
    prompts, batch = _texts(prompt)
    return {0: prompts}, batch


def take_embeds(prompt: Any, negative_prompt: Any, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Prompt and negative prompt, which may stand as encoded texts among the other arguments (and are taken out).

    Raises:
        ValueError: both are given.
    """
    found = []
    for name, given, embeds in (("", prompt, EMBEDS), ("negative_", negative_prompt, NEGATIVE_EMBEDS)):
        encoded = {key: arguments.pop(key) for key in embeds if arguments.get(key) is not None}
        if encoded and given is not None:
            raise ValueError(f"give either {name}prompt or {name}prompt_embeds, not both")
        found.append(encoded or given)
    return found[0], found[1]


def parse_assigned(prompt: Any, videos: int) -> Prompts:
    """A prompt that is assigned while so many videos run.

    Raises:
        ValueError: another number of texts, or a schedule.
        TypeError: no text, nor a list of texts.
    """
    if is_schedule(prompt):
        raise ValueError(
            "a schedule belongs to the start of a video: assign one text, or a list with one for each video"
        )
    prompts, batch = _texts(prompt)
    prompts = prompts * videos if not batch else prompts
    if len(prompts) != videos:
        raise ValueError(f"{len(prompts)} prompts for {videos} videos: give one, or one for each")
    return prompts


def check_prompts(model: VideoModel, prompts: Iterable[Prompts], call: Mapping[str, Any]) -> None:
    """Whether a model takes these prompts, all of them in one video.

    Raises:
        ValueError: it does not, or encoded texts differ in their number of tokens.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in dict.fromkeys(text for each in prompts for text in each):
        model.check_prompt(text, call)
        for name, shape in (text.shapes() if isinstance(text, Embeds) else {}).items():
            if shapes.setdefault(name, shape) != shape:
                raise ValueError(
                    f"{name} of one video must all have one shape, and there are {shapes[name]} and {shape}: encode "
                    "them with the same number of tokens"
                )


def is_schedule(prompt: Any) -> bool:
    """Whether a prompt is a {frame: text} schedule, not encoded texts."""
    return isinstance(prompt, Mapping) and not _is_embeds(prompt)


def _is_embeds(value: Any) -> bool:
    """Whether a dictionary holds encoded texts: its keys are words, those of a schedule numbers."""
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(key, str) for key in value)


def _texts(prompt: Any) -> tuple[Prompts, bool]:
    """One text or several, and whether it is a list of them."""
    if isinstance(prompt, str):
        check_text("prompt", prompt)
    if isinstance(prompt, str | Embeds):
        return (prompt,), False
    if isinstance(prompt, Mapping):
        found = tuple(embeds_of(prompt))
        return found, len(found) > 1
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        if not prompt:
            raise ValueError("prompt is an empty list: give one text per video")
        if not all(isinstance(text, str | Embeds) or _is_embeds(text) for text in prompt):
            raise TypeError(f"a list of prompts holds one text per video, not {quoted(list(prompt))}")
        found = tuple(text for each in prompt for text in _texts(each)[0])
        if len({isinstance(text, str) for text in found}) > 1:
            raise ValueError("a batch holds texts or encoded texts, not both: encode all of them")
        return found, True
    raise TypeError(
        f"prompt must be a text, a list of texts or a {{frame: text}} schedule, not {type(prompt).__name__}"
    )


def _trimmed(mixture: Mixture) -> Mixture:
    """Without the texts whose weight is negligible, so that a mixture does not grow with every change."""
    kept = sorted(mixture, key=mixture.__getitem__, reverse=True)[:MOST_MIXED]
    kept = [prompts for prompts in kept if mixture[prompts] >= NEGLIGIBLE]
    if len(kept) == len(mixture):
        return mixture
    total = sum(mixture[prompts] for prompts in kept)
    return {prompts: mixture[prompts] / total for prompts in kept}
