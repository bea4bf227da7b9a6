"""What may be seen and changed of a video while it runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.method import Layout, NoiseLevels, Queue
from fifo_diffusion.models.shared.arguments import nearest
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.texts import Prompt
from fifo_diffusion.settings import StreamSettings, specs
from fifo_diffusion.streaming.outlet import Outlet
from fifo_diffusion.streaming.preview import Preview, shown_slots
from fifo_diffusion.streaming.prompt_notes import assigned
from fifo_diffusion.streaming.prompts import PromptTrack, schedule_items
from fifo_diffusion.streaming.schedule import WAYS, Entries
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.shown import ShownVideo
from fifo_diffusion.streaming.start import StartPlan

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks


CHANGING, FIXED = ("frame_index", "fps", "metadata"), ("settings", "seed")
"""Plain attributes of a stream: those that may be written at any time, and those that are written once."""


class RunningVideo(ShownVideo):
    """The queue of a video, its prompts and its schedule, as `FrameStream` shows them. What would have no effect cannot
    be assigned."""

    settings: RunSettings
    frame_index: int
    _model: VideoModel
    _prompts: PromptTrack
    _levels: NoiseLevels
    _layout: Layout
    _plan: StartPlan
    _timing: LatentTiming
    _outlet: Outlet
    _ranks: "Ranks | None"
    _queue: Queue | None
    _opening: int
    _predicted_by: Any
    _num_frames: int | None
    _preview: Preview | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        first = name in FIXED and name not in vars(self)
        if not (first or name.startswith("_") or name in CHANGING or hasattr(type(self), name)):
            raise AttributeError(self._no_use(name))
        super().__setattr__(name, value)

    def _no_use(self, name: str) -> str:
        """Why nothing would come of assigning this."""
        if name in FIXED or name in specs(StreamSettings):
            return f"{name} of a video that runs cannot be changed, prompt and schedule can: make a new stream"
        own = [*CHANGING, *(each for each in dir(type(self)) if not each.startswith("_"))]
        return f"a stream has no {name}" + (nearest(name, own) or ": prompt and schedule can be assigned")

    # ------------------------------------------------------------------ the queue

    @property
    def iteration(self) -> int:
        """Iterations of the queue that are done."""
        return 0 if self._queue is None else self._queue.iteration

    @property
    def slots(self) -> int:
        """Slots of the queue, each of which holds one latent."""
        return self._layout.slots

    @property
    def levels(self) -> int:
        """Number of noise levels: the denoising steps of every frame."""
        return len(self._levels)

    @property
    def given_frames(self) -> int:
        """Frames that were given, with which the video begins."""
        return 0 if self._plan.shown is None else self._plan.shown.count

    def preview(self) -> np.ndarray | None:
        """The queue: small pictures of what the model makes of the latents in it, uint8 (latents, height, width, 3), or
        (videos, latents, height, width, 3) for a batch; clean ones first, noise last. In the size of latents; a latent
        is several frames with some autoencoders.

        The first call begins to take notes, and there are no colours (None) until a frame has come out after it. From
        then on it costs next to nothing; a stream that is never asked has no cost.
        """
        if self._preview is None:
            self._preview = Preview(self._levels, self._layout)
            self._outlet.seen.append(self._preview.came_out)
        if self._queue is None:
            return None
        pictures = self._preview.pictures(self._queue)
        return pictures if pictures is None or self.settings.batch else pictures[0]

    def tell_latents(self, told: Callable[[Tensor], None]) -> None:
        """From now on call this with each clean latent (B, C, 1, H, W) when it is decoded: before its frames are handed
        out."""
        self._outlet.seen.append(lambda latent, _frames: told(latent))

    @property
    def queue_frames(self) -> list[int]:
        """The first frame of each latent that `preview` shows."""
        if self._queue is None:
            return []
        frames = self._queue.frames(self._layout)
        return [self._frame_of(frames[slot]) for slot in shown_slots(self._queue, self._layout)]

    # ------------------------------------------------------------------ prompts

    @property
    def prompt(self) -> Prompt | list[Prompt]:
        """The prompt under which new frames enter; assign another one at any time (see `prompt_change`): a text, one
        for each video, or encoded texts as a dictionary (`prompt_embeds`, ...)."""
        way = self.settings.prompt_change
        prompts = self._prompts.schedule.entering_at(self._changes_at(way), self._head)
        return list(prompts) if self.settings.batch else prompts[0]

    @prompt.setter
    def prompt(self, value: Any) -> None:
        self.change_prompt(value)

    def change_prompt(self, prompt: Any, how: str | None = None) -> int:
        """Go on under another prompt.

        Args:
            prompt: as `prompt` takes it.
            how: "tail": frames that enter the queue from now on. "queue": those in it too. "blend": from now on more
                and more, until the queue has moved on once. None: `prompt_change` of the run.

        Returns:
            The frame at which a schedule makes the same change, as {"prompt": text, "change": how}: the first that
            can wholly be under the new prompt; with "queue" the one at the head; with "blend" the last under the old.

        Raises:
            ValueError, TypeError: a prompt that the model does not take, or another way. Then nothing has changed.
        """
        if how is not None and how not in WAYS:
            raise ArgumentError("how", how, f"give {' or '.join(map(repr, WAYS))}")
        way = how or self.settings.prompt_change
        prompts, frame = self._checked(prompt), self._changes_at(way)
        self._prompts.assign(prompts, frame, way, self._now)
        return self._frame_of(frame)

    @property
    def change_frame(self) -> int:
        """The first frame that an assignment can wholly change; with "queue" the one at the head."""
        return self._frame_of(self._changes_at(self.settings.prompt_change))

    @property
    def schedule(self) -> dict[int, Any]:
        """Which prompt holds from which frame on, as `FIFO.stream` takes it: {frame: text}, or {frame: {"prompt": text,
        "change": how}} where it changes in another way than `prompt_change`. What no frame in the queue needs is
        forgotten. Assign another one to change what is still to come; what it says of frames that are fixed must be
        so, and need not be said."""
        found: dict[int, Any] = {}
        for latent, (prompts, way) in self._prompts.schedule.entries().items():
            text = list(prompts) if self.settings.batch else prompts[0]
            frame = self._frame_of(latent) if found else self._first_frame_of(latent)
            found[frame] = text if way is None else {"prompt": text, "change": way}
        return found

    @schedule.setter
    def schedule(self, value: Mapping[int, Any]) -> None:
        entries: Entries = {}
        for frame, text, way in sorted(schedule_items(value, lists=True), key=lambda item: item[0]):
            entries[self._latent_of(frame)] = self._checked(text), way
        wrong = self._prompts.schedule.disagrees(entries, self._now)
        if wrong is not None:
            raise ValueError(
                f"the schedule says something else of frame {self._frame_of(wrong)} than the video does, where it is "
                f"fixed: what can change begins with frame {self.change_frame}"
            )
        self._prompts.edit(entries, self._changes_at("tail"), self._now)

    # ------------------------------------------------------------------ inside

    def _checked(self, prompt: Any) -> tuple[Prompt, ...]:
        return assigned(self._model, prompt, self.settings, aloud=self._ranks is None or not self._ranks.rank)

    def _texts(self, frames: Sequence[int]) -> Sequence[int]:
        """As the loop asks for them."""
        assert self._queue is not None
        self._forget_others(self._queue)
        return self._prompts.texts(frames, self._head)

    def _forget_others(self, queue: Queue) -> None:
        """What other encoders or denoisers predicted is not reused."""
        now = self._model.text_state()
        if now != self._predicted_by:
            queue.texts, self._predicted_by = (), now

    @property
    def _head(self) -> int:
        """The latent at the head of the queue."""
        return 0 if self._queue is None else self._queue.frames(self._layout)[self._layout.context]

    @property
    def _now(self) -> int:
        """The time of a change that is made now, as `Change.time`."""
        return self._changes_at("tail") - self._prompts.schedule.reach

    def _changes_at(self, way: str) -> int:
        """The first latent that a change can take: that at the head, or the first that can wholly change."""
        if self._queue is None:
            return 0
        if way == "queue":
            return self._head
        frames = self._queue.frames(self._layout)
        return max(0, frames.stop - self._layout.step(self._queue.iteration - 1).leave)

    def _origin(self) -> tuple[int, int]:
        """A latent, and the first frame of it, from which further ones are counted (`_timing`)."""
        if self._timing == self._model.timing:  # from the first of the video
            return 0, 0
        if self._queue is None:
            return self._plan.first_latent, self._plan.shown_frames
        return self._queue.first_new, self._opening

    def _frame_of(self, latent: int) -> int:
        """The first frame of a latent, as the viewer counts."""
        base, frame = self._origin()
        if latent >= base:
            return frame + self._timing.frames(latent - base)
        return max(0, frame - self._timing.further * (base - latent))

    def _first_frame_of(self, latent: int) -> int:
        """The same; 0 for one that no frame comes from but those that open the video."""
        frame = self._frame_of(latent)
        return 0 if frame < self._opening else frame

    def _latent_of(self, frame: int) -> int:
        """The latent that a frame comes from."""
        base, first = self._origin()
        if frame >= first:
            return base + self._timing.latents(frame - first + 1) - 1
        return base - -(-(first - frame) // self._timing.further)
