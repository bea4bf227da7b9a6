"""`FrameStream`: one running video."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.given import Given
from fifo_diffusion.method import (
    Noise,
    NoiseLevels,
    Queue,
    SeededNoise,
    complete_clip,
    diagonal_denoising,
    sample_clip,
)
from fifo_diffusion.model_calls import ModelCalls, in_batches
from fifo_diffusion.models.following_decoder import FollowingDecoder
from fifo_diffusion.prompts import PromptTrack
from fifo_diffusion.settings import RunSettings
from fifo_diffusion.start import Shown, StartPlan
from fifo_diffusion.state import QueueState
from fifo_diffusion.video.decoder import to_uint8
from fifo_diffusion.video.in_use import end_reading

if TYPE_CHECKING:
    from fifo_diffusion.pipeline import FIFO
    from fifo_diffusion.window_share import WindowShare


_UNSEEN = torch.empty(0)
"""In place of a frame on ranks that do not show it."""


class FrameStream(Iterator[np.ndarray]):
    """Frames of one video (or of a batch), made by `FIFO.stream`. An iterator and a context manager.

    Streams of one `FIFO` may be used in turns, and with the pipeline itself.

    Over several ranks all iterate and assign prompts in the same order. Rank 0 gets the frames, the others None; states
    are taken on rank 0 alone.

    Attributes:
        frame_index: frames handed out so far; the number of the next one.
        fps: frames per second at which the base model's clips play.
        seed: of the first video.
        settings: all arguments, completed.
        metadata: the same as texts, with prompt and model, for `write_video` to keep in a file; without prompts that
            are assigned later.
    """

    def __init__(
        self,
        fifo: "FIFO",
        prompts: PromptTrack,
        settings: RunSettings,
        levels: NoiseLevels,
        plan: StartPlan,
        *,
        noise: Noise | None,
        num_frames: int | None,
        windows_per_batch: int | None,
        callback_on_frame: Callable[[int, np.ndarray], None] | None,
    ) -> None:
        self._fifo, self._model, self._ranks = fifo, fifo.model, fifo.ranks
        self._shows = self._ranks is None or self._ranks.rank == 0
        self._prompts, self.settings, self._levels, self._plan = prompts, settings, levels, plan
        self._layout = settings.layout
        shape = self._model.latent_shape(settings.height, settings.width)
        self._like = torch.empty(
            (len(settings.seeds), shape[0], settings.window, *shape[1:]), device=self._model.device
        )
        self._custom_noise = noise is not None
        self._noise = noise or SeededNoise(settings.seeds, shape)
        self._num_frames = num_frames
        self._callback = callback_on_frame
        self._calls = ModelCalls(
            self._model,
            self._layout,
            self._like,
            fifo.fits,
            windows_per_batch,
            condition=self._condition,
            together=None if self._ranks is None else self._together,
        )
        self._decoder = FollowingDecoder(self._model)
        self._queue: Queue | None = None
        self._loop: Iterator[tuple[int, Tensor]] | None = None
        self._share: WindowShare | None = None
        self._latents: deque[Tensor] = deque()  # clean, not decoded yet
        self._ready: deque[Tensor] = deque()  # decoded, not handed out yet: (B, 3, H, W) in [0, 1]
        self._shown: Iterator[np.ndarray] | None = None  # given frames that open the video
        self._closed = False
        self._timing = plan.new_timing
        self.frame_index = 0
        self._opening = 0  # frames of the video that do not come out of the queue
        self._unwanted = 0  # frames that the decoder will give and that are not to be handed out (again)
        self.fps: float = self._model.defaults["fps"]
        self.seed = settings.seeds[0]
        self.metadata: dict[str, str] = {}
        if plan.state is not None:
            self._restore(plan.state)

    # ------------------------------------------------------------------ frames

    def __iter__(self) -> "FrameStream":
        return self

    def __next__(self) -> np.ndarray:
        """The next frame: uint8 (height, width, 3), or (videos, height, width, 3) for a batch of prompts. None on other
        ranks than 0."""
        if self._closed or (self._num_frames is not None and self.frame_index >= self._num_frames):
            end_reading(self)
            raise StopIteration
        with self._failures_told():
            tensor = self._next_frame()
        if not self._shows:
            return None  # type: ignore[return-value]
        frame = self._picture(tensor)
        if self._callback is not None:
            self._callback(self.frame_index - 1, frame)
        return frame

    def _picture(self, frame: Tensor) -> np.ndarray:
        pictures = to_uint8(frame)
        return pictures if self.settings.batch else pictures[0]

    def collect(self, output_type: str) -> Any:
        """All frames up to `num_frames`, as the wrapped pipeline would return a clip."""
        if self._num_frames is None:
            raise ValueError("an endless stream cannot be collected: give num_frames")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f'output_type {output_type!r} is not one of "pil", "np", "pt", "latent"')
        if self.frame_index >= self._num_frames:
            raise ValueError(f"all {self._num_frames} frames were handed out already: give a larger num_frames")
        items, self._shows = [], True
        while self.frame_index < self._num_frames:  # the frames of the last latent may be more than are asked for
            with self._failures_told():
                item = self._next_latent() if output_type == "latent" else self._next_frame()
            items.append(item if output_type in ("latent", "pt") else item.cpu())
            if self._callback is not None and output_type != "latent":
                self._callback(self.frame_index - 1, self._picture(item))
        return self._model.output(
            torch.cat(items, 2) if output_type == "latent" else torch.stack(items, 1), output_type
        )

    def close(self) -> None:
        """End the stream and free its memory."""
        if not self._closed:
            self._model.free()
        self._closed = True
        end_reading(self)
        self._queue = self._loop = self._shown = None
        self._latents.clear()
        self._ready.clear()

    def __enter__(self) -> "FrameStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ prompts

    @property
    def prompt(self) -> str | list[str]:
        """The prompt under which new frames enter; assign another one at any time (see `prompt_change`)."""
        prompts = self._prompts.entering_at(self._change_frame())
        return list(prompts) if self.settings.batch else prompts[0]

    @prompt.setter
    def prompt(self, value: str | Sequence[str]) -> None:
        prompts = [value] * len(self.settings.seeds) if isinstance(value, str) else list(value)
        if len(prompts) != len(self.settings.seeds):
            raise ValueError(f"{len(prompts)} prompts for {len(self.settings.seeds)} videos: give one, or one for each")
        self._prompts.assign(prompts, self._change_frame(), self._layout.slots)

    def _change_frame(self) -> int:
        """The first frame that an assignment can wholly change; with "queue" the one at the head."""
        if self._queue is None:
            return 0
        frames = self._queue.frames(self._layout)
        at_tail = frames.stop - self._layout.step(self._queue.iteration - 1).leave
        return max(0, frames[self._layout.context] if self.settings.prompt_change == "queue" else at_tail)

    # ------------------------------------------------------------------ saving

    def state(self) -> QueueState:
        """Everything needed to go on from here, bit for bit; save it with `.save(path)`."""
        if self._closed:
            raise RuntimeError("the stream is closed: take its state before closing it")
        if self._ranks is not None and self._ranks.rank:
            raise RuntimeError("only rank 0 has the whole queue: take the state there")
        with self._failures_told():
            self._begin()
        queue = self._queue
        assert queue is not None
        tensors = {"queue": queue.latents_BCFHW, "known": queue.known_BCFHW}
        if self._latents:
            tensors["latents"] = torch.cat(list(self._latents), 2)
        if self._ready:
            tensors["ready"] = torch.stack(list(self._ready), 1)
        tensors |= {f"decoder.{name}": value for name, value in self._decoder.state().items()}
        settings = self.settings.to_json() | {"prompts": self._prompts.to_json()}
        counters = {
            "frame_index": self.frame_index,
            "iteration": queue.iteration,
            "origin": queue.origin,
            "first_new": queue.first_new,
            "from_noise": queue.from_noise,
            "opening": self._opening,
            "unwanted": self._unwanted,
            "continues": self._timing != self._model.timing,
            "custom_noise": self._custom_noise,
            "shown": None,
            "shown_count": 0,
        }
        shown = self._plan.shown
        if shown is not None and self.frame_index < shown.count:
            counters["shown_count"] = shown.count
            given = shown.given
            if isinstance(given.source, str):
                counters |= {"shown": given.source, "shown_fps": given.fps, "shown_fit": given.how}
            else:
                tensors["shown"] = torch.from_numpy(np.stack([*shown.frames_from(0)]))
        return QueueState(
            {k: v.detach().clone().cpu() for k, v in tensors.items()}, settings, counters, self._model.fingerprint()
        )

    def _restore(self, state: QueueState) -> None:
        counters, tensors, device = state.counters, state.tensors, self._like.device
        if counters["custom_noise"] and not self._custom_noise:
            raise ValueError("the state was saved with noise of your own: give the same noise= again")
        if self._num_frames is not None and self._num_frames < counters["frame_index"]:
            raise ValueError(
                f"num_frames={self._num_frames} counts the whole video, of which {counters['frame_index']} frames are "
                "done: give a larger number"
            )
        self.frame_index = counters["frame_index"]
        names = ("first_new", "origin", "iteration", "from_noise")
        latents, known = tensors["queue"].to(device), tensors["known"].to(device)
        kind = self._model.published_queue if self.settings.compat == "published" else Queue
        self._queue = kind(latents, known, *(counters[name] for name in names))
        self._opening = counters.get("opening", self._queue.first_new)
        self._unwanted = counters.get("unwanted", 0)
        if counters.get("continues"):
            self._timing = self._timing.continued()
        if "latents" in tensors:
            self._latents.extend(tensors["latents"].to(device).split(1, 2))
        if "ready" in tensors:
            self._ready.extend(tensors["ready"].to(device).unbind(1))
        source = tensors["shown"].numpy() if "shown" in tensors else counters["shown"]
        if source is not None:
            size, how = (self.settings.height, self.settings.width), counters.get("shown_fit", "crop")
            source = source if isinstance(source, str) else [*source]
            given = Given(source, counters["shown_count"], size, counters.get("shown_fps"), how)
            self._plan = replace(self._plan, shown=Shown(given, size))
        prefix = "decoder."
        self._decoder.load_state({k[len(prefix) :]: v.to(device) for k, v in tensors.items() if k.startswith(prefix)})

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Where this rank fails, or is interrupted, the others do not wait for it."""
        try:
            yield
        except BaseException as error:
            if self._ranks is not None:
                self._ranks.leave(str(error) or type(error).__name__)
            raise

    def _next_frame(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]."""
        shown = self._plan.shown
        showing = shown is not None and self.frame_index < shown.count
        if not (showing and self._completes_clip):  # else the given frames come before that clip is computed
            self._begin()
            self._fill_while_showing()
        if showing:
            assert shown is not None
            self._ready.append(self._given_frame(shown) if self._shows else _UNSEEN)
        while not self._ready:
            ends = self._num_frames is not None and self._num_frames <= self._opening and not self._latents
            held_back = self._flushed() if ends else []
            self._ready.extend(held_back or self._decoded(self._wait_for_latent()))
            if not held_back:
                self._latents.popleft()
        self.frame_index += 1
        return self._ready.popleft()

    def _given_frame(self, shown: Shown) -> Tensor:
        # Forgotten while it is asked: one that failed would end without a word the next time.
        frames, self._shown = self._shown or shown.frames_from(self.frame_index), None
        picture = torch.tensor(next(frames)).permute(2, 0, 1)
        self._shown = frames
        return (picture.float() / 255).expand(len(self.settings.seeds), -1, -1, -1)

    def _decoded(self, latent: Tensor) -> Sequence[Tensor]:
        if not self._shows:  # nobody sees another rank's frames
            frames: Sequence[Tensor] = [_UNSEEN] * self._decoder.skip(latent)
        else:
            frames = _frames(self._decoder.push(latent))
        dropped = min(self._unwanted, len(frames))
        self._unwanted -= dropped
        return frames[dropped:]

    def _flushed(self) -> Sequence[Tensor]:
        """The frames that the decoder holds back, at the end of a video that its opening clip fills. Should it be
        continued after all, the decoder gives them again."""
        frames = _frames(self._decoder.flush())
        self._unwanted += len(frames)
        return frames

    def _next_latent(self) -> Tensor:
        """(B, C, 1, H, W), instead of a frame."""
        self._begin()
        if self._plan.shown is not None:
            raise ValueError("given frames are part of this video and have no latents here: use another output_type")
        latent = self._wait_for_latent()
        self._latents.popleft()
        self.frame_index += self._timing.further if self.frame_index else self._timing.first
        return latent

    def _wait_for_latent(self) -> Tensor:
        while not self._latents:
            self._advance()
        return self._latents[0]

    def _begin(self) -> None:
        """Make the queue, at the first frame."""
        self._fifo._check_open()
        if self._queue is not None:
            return
        plan, layout, window = self._plan, self._layout, self.settings.window
        known, first_new = plan.known_BCFHW, plan.first_latent
        if plan.kind == "noise":
            self._queue = Queue.from_pure_noise(layout, self._noise, self._like, **self._levels.entering)
            return
        if plan.kind == "clip":
            published = self.settings.compat == "published"
            levels = self._model.published_clip_levels(self._levels) if published else self._levels
            *_, known = sample_clip(levels, self._predict, self._clip_noise, range(window), self._like)
            if published:
                kind = self._model.published_queue
                self._queue = kind.from_clip_published(layout, self._levels, self._noise, known)
                return
            first_new = window
            self._latents.extend(known.split(1, 2))
        assert known is not None
        if plan.kind == "known":
            self._unwanted = self._model.timing.frames(known.shape[2]) - self._decoder.skip(known)
        if self._completes_clip:
            given = known.shape[2]
            first_new += window - given
            frames = range(first_new - window, first_new)
            *_, known = complete_clip(self._levels, self._predict, self._clip_noise, frames, known)
            self._latents.extend(known[:, :, given:].split(1, 2))
        self._opening = plan.shown_frames + self._timing.frames(first_new - plan.first_latent)
        self._queue = Queue.from_known(layout, self._noise, known, first_new, **self._levels.entering)

    @property
    def _completes_clip(self) -> bool:
        """Fewer frames are given than a window has: the model makes the rest of the clip that they begin."""
        known = self._plan.known_BCFHW
        return known is not None and known.shape[2] < self.settings.window

    def _clip_noise(self, frame: int, level: int) -> Tensor:
        """Draws of its own for a sampled clip: the queue shows it to the model under the noise that is meant for it."""
        return self._noise(frame, len(self._levels) + 1 + level)

    def _fill_while_showing(self) -> None:
        """Spread the filling of the queue over the known frames that open the video: they come at an even pace, and
        the first at once. A video that ends among them never fills a queue."""
        opening, end = self._opening, self._num_frames
        if self.frame_index >= opening or (end is not None and end <= opening):
            return
        total = self._layout.fill_forwards
        while self._filled < total and self._filled * opening < self.frame_index * total:
            self._advance()

    @property
    def _filled(self) -> int:
        """Frame-forwards computed so far on the way to the first new frame."""
        assert self._queue is not None
        return self._layout.filled_forwards(self._queue.iteration)

    def _advance(self) -> None:
        """One iteration of the queue."""
        queue = self._queue
        assert queue is not None
        if self._loop is None:
            self._share = self._shared(queue)
            run = in_batches(lambda: self._calls.at_once)
            run = run if self._share is None else self._share.run(queue, self._layout, run)
            self._loop = diagonal_denoising(queue, self._layout, self._levels, self._predict_share, self._noise, run)
        try:
            first, latents = next(self._loop)
        except BaseException:
            self._loop = None  # the queue stands as before: it may be gone on with
            raise
        for offset, latent in enumerate(latents.split(1, 2)):
            if first + offset >= max(0, queue.first_new):
                self._latents.append(latent)
        self._prompts.forget_before(queue.frames(self._layout).start)

    def _shared(self, queue: Queue) -> "WindowShare | None":
        """This rank's part in the windows, and from here on the same queue on all ranks: rank 0's."""
        if self._ranks is None:
            return None
        queue.latents_BCFHW = self._ranks.replicate(queue.latents_BCFHW, "queue")
        queue.known_BCFHW = self._ranks.replicate(queue.known_BCFHW, "known frames")
        if self._layout.banded:  # its one pass is shared inside the model
            return None
        # Passes go apart in all iterations or in none: on fewer ranks frames are the same to the last bit.
        enough = self._ranks.size >= 2 * self._layout.most_windows
        passes = len(self._model.passes(self._condition([[0]]))) if enough else 1
        from fifo_diffusion.window_share import WindowShare

        self._ranks.expect(queue.latents_BCFHW)
        return WindowShare(self._ranks, lambda: [queue.iteration, self._prompts.to_json()], passes)

    @contextmanager
    def _together(self) -> Iterator[dict[str, Any]]:
        """This rank's part in a pass that all ranks make together, as an argument for the model."""
        assert self._ranks is not None
        assert self._queue is not None
        with self._ranks.together([self._queue.iteration, self._prompts.to_json()]) as ranks:
            yield {"together": ranks}

    def _condition(self, windows: Sequence[Sequence[int]]) -> Any:
        head = self._queue.frames(self._layout)[self._layout.context] if self._queue else 0
        return self._prompts.condition(windows, head)

    def _predict_share(self, latents_BCFHW: Tensor, timestep_BF: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
        """As `_predict`; of one window perhaps one pass only, with the other from another rank."""
        if self._share is None or self._share.half is None:
            return self._predict(latents_BCFHW, timestep_BF, windows)
        condition = self._condition(windows)
        mine = self._model.passes(condition)[self._share.half]
        output = self._model.predict(latents_BCFHW, timestep_BF, mine).to(self._like.device)
        return self._model.guided(self._share.swap(output), timestep_BF, condition)

    @property
    def _usual(self) -> int:
        """How many windows go through the model at once here when the queue is full."""
        windows = range(self._layout.most_windows)
        return min(self._calls.windows, len(windows if self._share is None else self._share.part(windows)))

    def _predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
        return self._calls.predict(latents_BCFHW, timestep_BF, windows, usual=self._usual)


def _frames(decoded_BFCHW: Tensor) -> Sequence[Tensor]:
    return decoded_BFCHW.unbind(1) if decoded_BFCHW.numel() else ()
