"""Which text each frame is denoised under: one prompt, a schedule, or prompts assigned while running."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fifo_diffusion.models.base import VideoModel

PROMPT_CHANGES = ("tail", "queue", "blend")


class PromptTrack:
    """Prompts by frame, and the model's condition for the frames of some windows.

    Args:
        model: encodes the prompts.
        keys: {frame: prompts of all videos}, with key 0; frames as the viewer counts them.
        change: "tail": every frame keeps the prompt that it was enqueued with, so that frame k is the first that was
            wholly denoised under the prompt of key k. "queue": all frames in the queue change at once, when frame k is
            at the head (as published). "blend": embeddings are interpolated linearly between the keys.
        call: arguments of the pipeline's own call.
    """

    def __init__(self, model: VideoModel, keys: Mapping[int, Sequence[str]], change: str, call: dict[str, Any]) -> None:
        if change not in PROMPT_CHANGES:
            raise ValueError(f"prompt_change={change!r} is not one of {', '.join(map(repr, PROMPT_CHANGES))}")
        self._model, self._call, self.change = model, call, change
        self.keys = {frame: tuple(prompts) for frame, prompts in sorted(keys.items())}
        self._conditions: dict[tuple[str, ...], Any] = {}
        self._mixed: tuple[Any, Any] = (None, None)
        self.encode()

    def encode(self) -> None:
        """Encode every prompt that has not been yet (at once, so that bad input is found before the first frame)."""
        for prompts in self.keys.values():
            if prompts not in self._conditions:
                self._conditions[prompts] = self._model.condition(prompts, **self._call)

    def at(self, frame: int) -> tuple[str, ...]:
        """The prompts of the last key at or before a frame."""
        return self.keys[self._key(frame)]

    def assign(self, prompts: Sequence[str], frame: int, blend_frames: int) -> None:
        """From `frame` on these prompts; with "blend" they are reached `blend_frames` later."""
        current = self.at(frame)
        for key in [k for k in self.keys if k >= frame]:
            del self.keys[key]
        if self.change == "blend":
            self.keys[frame] = current
            frame += blend_frames
        self.keys[frame] = tuple(prompts)
        self.keys = dict(sorted(self.keys.items()))
        self.encode()

    def forget_before(self, frame: int) -> None:
        """Drop what no frame from this one on can need, so that endless runs with many prompts do not grow."""
        if len(self.keys) > 1:
            needed = self._key(frame)
            self.keys = {k: v for k, v in self.keys.items() if k >= needed}
            self._conditions = {p: c for p, c in self._conditions.items() if p in set(self.keys.values())}

    def condition(self, windows: Sequence[Sequence[int]], head: int) -> Any:
        """The condition for windows of frames, when frame `head` is at the head of the queue."""
        if self.change == "queue":
            return self._conditions[self.at(head)]
        weights = [[self._weights(frame) for frame in window] for window in windows]
        used = sorted({key for window in weights for frame in window for key in frame})
        prompts = list(dict.fromkeys(self.keys[key] for key in used))
        if len(prompts) == 1:
            return self._conditions[prompts[0]]
        table = torch.zeros(len(windows), len(windows[0]), len(prompts))
        for w, window in enumerate(weights):
            for f, frame in enumerate(window):
                for key, weight in frame.items():
                    table[w, f, prompts.index(self.keys[key])] += weight
        return self._model.mix([self._conditions[p] for p in prompts], table)

    def _key(self, frame: int) -> int:
        return max((key for key in self.keys if key <= frame), default=next(iter(self.keys)))

    def _weights(self, frame: int) -> dict[int, float]:
        key = self._key(frame)
        following = min((k for k in self.keys if k > frame), default=None)
        if self.change == "tail" or following is None or frame <= key:
            return {key: 1.0}
        share = (frame - key) / (following - key)
        return {key: 1 - share, following: share}


def parse_prompt(prompt: str | Sequence[str] | Mapping[int, str]) -> tuple[dict[int, tuple[str, ...]], bool]:
    """A prompt argument as {frame: prompts of all videos}, and whether it is a batch of videos.

    Raises:
        ValueError: an empty list or schedule, a schedule without key 0 or with negative keys.
        TypeError: anything else than a text, a list of texts or a {frame: text} schedule.
    """
    if isinstance(prompt, str):
        return {0: (prompt,)}, False
    if isinstance(prompt, Mapping):
        if not prompt or 0 not in prompt:
            raise ValueError(f"a prompt schedule needs key 0 (the first frame); it has {sorted(prompt) or 'no keys'}")
        for frame, text in prompt.items():
            if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0 or not isinstance(text, str):
                raise ValueError(f"a prompt schedule maps frame numbers from 0 on to texts, not {frame!r} to {text!r}")
        return {frame: (text,) for frame, text in sorted(prompt.items())}, False
    if isinstance(prompt, Sequence):
        if not prompt:
            raise ValueError("prompt is an empty list: give one text per video")
        if not all(isinstance(text, str) for text in prompt):
            raise TypeError(f"a list of prompts holds one text per video, not {list(prompt)!r}")
        return {0: tuple(prompt)}, True
    raise TypeError(
        f"prompt must be a text, a list of texts or a {{frame: text}} schedule, not {type(prompt).__name__}"
    )
