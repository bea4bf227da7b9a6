"""Which text each frame is denoised under: one prompt, a schedule, or prompts assigned while running."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fifo_diffusion.models.arguments import LARGEST, check_text, plain, short, whole
from fifo_diffusion.models.base import VideoModel

PROMPT_CHANGES = ("tail", "queue", "blend")

Prompts = tuple[str, ...]
"""One text per video."""
Mixture = dict[Prompts, float]
"""Weights that sum to one."""


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
            raise ValueError(f"prompt_change={change!r} is not one of {', '.join(map(repr, PROMPT_CHANGES))}")
        self._model, self._call, self.change = model, call, change
        self._keys = {k: v if isinstance(v, dict) else {v: 1.0} for k, v in sorted(keys.items())}
        self._conditions: dict[Prompts, Any] = {}
        self._made_by: Any = None  # the encoders that made them
        for prompts in next(iter(self._keys.values())):
            self._encoded(prompts)  # so that bad arguments of the pipeline are found before the first frame

    def entering_at(self, frame: int) -> Prompts:
        """The prompts that a frame enters under; with "blend" those that are being approached."""
        following = self._next_key(frame) if self.change == "blend" else None
        mixture = self._keys[self._key(frame) if following is None else following]
        return max(mixture, key=mixture.__getitem__)

    def assign(self, prompts: Sequence[str], frame: int, blend_frames: int) -> None:
        """From `frame` on these prompts; with "blend" they are reached `blend_frames` later, from what is there now."""
        current = self._mixture(frame)
        self._keys = {k: v for k, v in self._keys.items() if k < frame}
        if self.change == "blend":
            self._keys[frame] = current
            frame += blend_frames
        self._keys[frame] = {tuple(prompts): 1.0}

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
        return [[k, [[list(p), weight] for p, weight in mixture.items()]] for k, mixture in self._keys.items()]

    @staticmethod
    def keys_from_json(saved: list[Any]) -> dict[int, Mixture]:
        """What `to_json` gave."""
        return {frame: {tuple(p): weight for p, weight in mixture} for frame, mixture in saved}

    def _encoded(self, prompts: Prompts) -> Any:
        with self._model.lock:
            now = self._model.text_state()
            if now != self._made_by:  # other encoders, adapters or denoisers than before
                self._conditions, self._made_by = {}, now
            if prompts not in self._conditions:
                self._conditions[prompts] = self._model.condition(prompts, **self._call)
                if self._model.text_offload is not None:
                    self._model.text_offload.away()
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


def parse_prompt(prompt: str | Sequence[str] | Mapping[int, str]) -> tuple[dict[int, Prompts], bool]:
    """A prompt argument as {frame: prompts of all videos}, and whether it is a batch of videos.

    Raises:
        ValueError: an empty list or schedule, a schedule without key 0 or with negative keys, bytes that are no text.
        TypeError: anything else than a text, a list of texts or a {frame: text} schedule.
    """
    keys, batch = _parsed(prompt)
    for text in {text for prompts in keys.values() for text in prompts}:
        check_text("prompt", text)
    return keys, batch


def _parsed(prompt: str | Sequence[str] | Mapping[int, str]) -> tuple[dict[int, Prompts], bool]:
    if isinstance(prompt, str):
        return {0: (prompt,)}, False
    if isinstance(prompt, Mapping):
        prompt = {plain(frame): text for frame, text in prompt.items()}
        if not prompt or 0 not in prompt:
            raise ValueError(f"a prompt schedule needs key 0 (the first frame); it has {sorted(prompt) or 'no keys'}")
        for frame, text in prompt.items():
            if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0 or not isinstance(text, str):
                raise ValueError(
                    f"a prompt schedule maps frame numbers from 0 on to texts, not {short(frame)} to {short(text)}"
                )
            whole("a key of the prompt schedule", frame, least=0, most=LARGEST["num_frames"])
        return {frame: (text,) for frame, text in sorted(prompt.items())}, False
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray):
        if not prompt:
            raise ValueError("prompt is an empty list: give one text per video")
        if not all(isinstance(text, str) for text in prompt):
            raise TypeError(f"a list of prompts holds one text per video, not {list(prompt)!r}")
        return {0: tuple(prompt)}, True
    raise TypeError(
        f"prompt must be a text, a list of texts or a {{frame: text}} schedule, not {type(prompt).__name__}"
    )
