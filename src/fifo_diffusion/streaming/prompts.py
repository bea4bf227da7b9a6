"""Which text each frame is denoised under: one prompt, a schedule, or prompts assigned while running."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from typing import Any

import torch

from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.models.shared.arguments import EMBEDS, NEGATIVE_EMBEDS, check_text
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.texts import Embeds, Prompt, embeds_of, prompt_to_json
from fifo_diffusion.settings import StreamSettings, specs
from fifo_diffusion.settings.kinds import plain
from fifo_diffusion.streaming.schedule import WAYS, Entries, Prompts, Schedule
from fifo_diffusion.text import quoted

MOST_FRAMES = specs(StreamSettings)["num_frames"].kind.most


class PromptTrack:
    """Prompts by frame, and the model's condition for the frames of some windows.

    Args:
        model: encodes the prompts, when their first frame comes.
        schedule: which frame has which.
        call: arguments of the pipeline's own call.
        opens: number of the first frame of the clip that opens the video.
    """

    def __init__(self, model: VideoModel, schedule: Schedule, call: dict[str, Any], opens: int = 0) -> None:
        self._model, self._call, self.schedule, self._opens = model, call, schedule, opens
        self._conditions: dict[Prompts, Any] = {}
        self._made_by: Any = None  # the encoders that made them
        first, *others = schedule.prompts
        self._encoded(first)  # so that bad arguments of the pipeline are found before the first frame
        for prompts in others:
            self._check_mixes(first, prompts)

    def assign(self, prompts: Sequence[Prompt], frame: int, way: str, now: int) -> None:
        """As `Schedule.assign`.

        Raises:
            ValueError: the model cannot take them. Then nothing has changed.
        """
        prompts = tuple(prompts)
        self._encoded(prompts)
        for before in self.schedule.mixture(frame, frame):
            self._check_mixes(before, prompts)
        self.schedule.assign(prompts, frame, way, now)

    def edit(self, entries: Entries, frame: int, now: int) -> None:
        """As `Schedule.edit`.

        Raises:
            ValueError: the model cannot take them. Then nothing has changed.
        """
        first = self.schedule.prompts[0]
        for prompts, _ in entries.values():
            self._check_mixes(first, prompts)
        self.schedule.edit(entries, frame, now)

    def forget_before(self, frame: int) -> None:
        """Drop what no frame from this one on can need, so that endless runs with many prompts do not grow."""
        self.schedule.forget_before(frame)
        used = set(self.schedule.prompts)
        self._conditions = {p: c for p, c in self._conditions.items() if p in used}

    def condition(self, windows: Sequence[Sequence[int]], head: int) -> Any:
        """The condition for windows of frames, when frame `head` is at the head of the queue."""
        mixtures, used = self._mixtures(windows, head)
        conditions = [self._encoded(prompts) for prompts in used]
        found = conditions[0]
        if len(used) > 1:
            weights = [[[mixture.get(prompts, 0.0) for prompts in used] for mixture in window] for window in mixtures]
            found = self._model.mix(conditions, torch.tensor(weights))
        return self._model.at_frames(found, [[frame - self._opens for frame in window] for window in windows])

    def encode(self, windows: Sequence[Sequence[int]], head: int) -> None:
        """Encode what `condition` will want for these windows: before all of them, so that text encoders which take
        turns with the denoiser on a device do so once."""
        if len(self.schedule.prompts) > 1:
            for prompts in self._mixtures(windows, head)[1]:
                self._encoded(prompts)

    def _mixtures(self, windows: Sequence[Sequence[int]], head: int) -> tuple[list[list[Any]], list[Prompts]]:
        """Which prompts count how much for each frame of the windows, and which there are."""
        mixtures = [[self.schedule.mixture(frame, head) for frame in window] for window in windows]
        return mixtures, list(dict.fromkeys(p for window in mixtures for mixture in window for p in mixture))

    def texts(self, frames: Sequence[int], head: int) -> tuple[int, ...]:
        """A number for each frame, when frame `head` is at the head of the queue: another one for another text."""
        numbers: dict[tuple[tuple[Prompts, float], ...], int] = {}
        found = []
        for frame in frames:
            mixture = tuple(self.schedule.mixture(frame, head).items())
            if mixture not in numbers:
                plain = [[[prompt_to_json(text) for text in prompts], weight] for prompts, weight in mixture]
                numbers[mixture] = 1 + int(sha256(json.dumps(plain).encode()).hexdigest()[:13], 16)
            found.append(numbers[mixture])
        return tuple(found)

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
        keys = {plain(frame): () for frame in prompt}
        if 0 not in keys:
            raise ValueError(f"a prompt schedule needs key 0 (the first frame); it has {sorted(keys) or 'no keys'}")
        for frame, text, _ in schedule_items(prompt):
            keys[frame], batch = _texts(text)
            if batch:
                raise ValueError(
                    f"a schedule is for one video: prompt_embeds of frame {frame} are for {len(keys[frame])}"
                )
        return dict(sorted(keys.items())), False
    prompts, batch = _texts(prompt)
    return {0: prompts}, batch


def schedule_items(prompt: Mapping[Any, Any], *, lists: bool = False) -> Iterator[tuple[int, Any, str | None]]:
    """Frame, text and way (None: that of the run) of each key of a schedule, whose values are texts, or
    {"prompt": text, "change": way}; with `lists` a text may be a list, one for each video.

    Raises:
        ValueError: a key that is no frame, or a value that is neither.
    """
    for key, value in prompt.items():
        frame, text, way = plain(key), value, None
        if isinstance(value, Mapping) and "prompt" in value and value.keys() <= {"prompt", "change"}:
            text, way = value["prompt"], value.get("change")
        several = lists and isinstance(text, list | tuple)
        right = isinstance(frame, int) and not isinstance(frame, bool) and frame >= 0
        if not right or not (isinstance(text, str | Embeds) or _is_embeds(text) or several):
            raise ValueError(
                f"a prompt schedule maps frame numbers from 0 on to texts, not {quoted(frame)} to {quoted(text)}"
            )
        if frame > MOST_FRAMES:
            raise ValueError(f"a key of the prompt schedule must be at most {MOST_FRAMES}, not {quoted(frame)}")
        if way is not None and way not in WAYS:
            ways = " or ".join(map(repr, WAYS))
            raise ValueError(f"the change at frame {frame} of the schedule is {quoted(way)}: give {ways}")
        yield frame, text, way


def ways_of(prompt: Any) -> dict[int, str]:
    """{frame: way} of the changes of a schedule that say theirs."""
    items = schedule_items(prompt) if is_schedule(prompt) else ()
    return {frame: way for frame, _, way in items if way is not None}


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
    """A prompt that is assigned to a stream of this many videos.

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
