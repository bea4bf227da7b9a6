"""`FrameStream`: one running video."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.errors import ArgumentError
from fifo_diffusion.execution.batches import BatchLimits, WindowBatcher, in_batches
from fifo_diffusion.execution.guidance_gate import GuidanceGate
from fifo_diffusion.method import Guidance, Noise, NoiseLevels, Queue, Tail, choose_tail, diagonal_denoising
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.following_decoder import FollowingDecoder
from fifo_diffusion.streaming.opening import completes_clip, open_video
from fifo_diffusion.streaming.outlet import Outlet, at_work, draws_of, not_finite, picture
from fifo_diffusion.streaming.pace import Pace
from fifo_diffusion.streaming.prompts import PromptTrack
from fifo_diffusion.streaming.running import RunningVideo
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.start import StartPlan, texts_of
from fifo_diffusion.streaming.state import Position, RunState
from fifo_diffusion.video.in_use import end_reading

if TYPE_CHECKING:
    from fifo_diffusion.execution.ranks import Ranks
    from fifo_diffusion.execution.window_share import WindowShare


class FrameStream(RunningVideo, Iterator[np.ndarray]):
    """Frames of one video (or of a batch), made by `FIFO.stream`. An iterator and a context manager.

    Streams of one `FIFO` may be used in turns, and with the pipeline itself.

    Over several ranks all iterate and assign prompts in the same order. Rank 0 gets the frames, the others None; states
    are taken on rank 0 alone.

    Attributes:
        frame_index: frames handed out so far; the number of the next one.
        fps: frames per second at which the base model's clips play.
        seed: of the first video.
        settings: all arguments, completed.
        metadata: the same as texts, with the first prompts and the model, for `write_video` to keep in a file.
    """

    def __init__(
        self,
        model: VideoModel,
        prompts: PromptTrack,
        settings: RunSettings,
        levels: NoiseLevels,
        plan: StartPlan,
        *,
        noise: Noise | None,
        num_frames: int | None,
        windows_per_batch: int | None,
        callback_on_frame: Callable[[int, np.ndarray], None] | None,
        pace: float | None,
        ranks: "Ranks | None",
        fits: BatchLimits,
        check_open: Callable[[], None],
    ) -> None:
        self._model, self._ranks, self._check_open = model, ranks, check_open
        self._prompts, self.settings, self._levels, self._plan = prompts, settings, levels, plan
        self._layout = settings.queue_layout
        shape = self._model.latent_shape(settings.height, settings.width)
        self._like = torch.empty(
            (len(settings.seeds), shape[0], settings.window, *shape[1:]), device=self._model.device
        )
        self._custom_noise = noise is not None
        self._noise = draws_of(noise, settings.seeds, shape, len(levels))
        self._gate = GuidanceGate(model, Guidance.of(settings), levels)
        self._num_frames = num_frames
        self._callback = callback_on_frame
        self._calls = WindowBatcher(
            self._model,
            self._layout,
            self._like,
            fits,
            windows_per_batch,
            condition=self._condition,
            together=None if self._ranks is None else self._together,
        )
        self._outlet = Outlet(FollowingDecoder(self._model), shows=self._ranks is None or self._ranks.rank == 0)
        self._queue: Queue | None = None
        self._loop: Iterator[tuple[int, Tensor]] | None = None
        self._share: WindowShare | None = None
        self._predicted_by = model.text_state()
        self._busy, self._closed = threading.Lock(), False
        self._timing = plan.new_timing
        self.frame_index = 0
        burst = max(self._layout.step(k).leave for k in range(self._layout.period)) * self._timing.further
        self._pace = None if pace is None else Pace(pace, burst)
        self._called_back = 0  # frames that the callback has seen
        self._opening = 0  # frames of the video that do not come out of the queue
        self.fps: float = self._model.defaults["fps"]
        self.seed = settings.seeds[0]
        self.metadata: dict[str, str] = {}
        if plan.known_BCFHW is not None and not plan.known_BCFHW.isfinite().all():
            raise FloatingPointError("the latents to start from are not finite (NaN or inf): give others")
        if plan.state is not None:
            self._restore(plan.state)

    # ------------------------------------------------------------------ frames

    def __iter__(self) -> "FrameStream":
        return self

    def __next__(self) -> np.ndarray:
        """The next frame: uint8 (height, width, 3), or (videos, height, width, 3) for a batch of prompts. None on other
        ranks than 0.

        After an error, or Ctrl-C, the next call goes on from where the queue stands: no frame is lost.

        Raises:
            FloatingPointError: the frame is not finite.
        """
        if self._closed or (self._num_frames is not None and self.frame_index >= self._num_frames):
            end_reading(self)
            raise StopIteration
        if self._pace is not None and self._outlet.shows:
            with self._computing():
                self._next_frame()
            self._pace.wait()  # with the frame ready, and the stream free for other threads
            if self._closed:
                raise StopIteration
        with self._computing():
            frame = self._next_frame()
            shown = self._newest = self._picture(frame) if self._outlet.shows else None
            self._hand_out()
        self._call_back(frame, shown)
        return shown  # type: ignore[return-value]

    def _picture(self, frame: Tensor) -> np.ndarray:
        return picture(frame, self.frame_index, self._model, batch=self.settings.batch)

    def _hand_out(self) -> None:
        self._outlet.ready.popleft()
        self.frame_index += 1

    def _call_back(self, frame: Tensor, shown: np.ndarray | None) -> None:
        """Show the frame that is handed out to the user's function: once, even if that fails."""
        if self._callback is None or shown is None or self.frame_index <= self._called_back:
            return
        self._called_back = self.frame_index
        try:
            self._callback(self.frame_index - 1, shown)
        except BaseException as error:
            self._outlet.ready.appendleft(frame)  # the next call hands it out
            self.frame_index -= 1
            if isinstance(error, StopIteration):
                raise RuntimeError("callback_on_frame raised StopIteration") from error
            raise

    def collect(self, output_type: str, progress: Callable[[int], object] = lambda frames: None) -> Any:
        """All frames up to `num_frames`, as the wrapped pipeline would return a clip; `progress` hears how many are
        there."""
        if self._num_frames is None:
            raise ArgumentError("num_frames", None, "an endless stream cannot be collected: give a number")
        if self._pace is not None:
            raise ArgumentError("pace", True, "a whole video is not watched as it comes: leave it out, or use stream()")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f'output_type {output_type!r} is not one of "pil", "np", "pt", "latent"')
        self._check_not_closed()
        if self.frame_index >= self._num_frames:
            raise ArgumentError("num_frames", self._num_frames, "all were handed out already: give a larger number")
        items: list[Tensor] = []
        self._outlet.shows = True
        while self.frame_index < self._num_frames:  # the frames of the last latent may be more than are asked for
            progress(self.frame_index)
            with self._computing():
                if output_type == "latent":
                    items.append(self._next_latent())
                    continue
                frame = self._next_frame()
                items.append(frame if output_type == "pt" else frame.cpu())
                shown = self._picture(items[-1]) if self._callback or items[-1].device.type == "cpu" else None
                self._hand_out()
            self._call_back(frame, shown)
        progress(self._num_frames)
        video = torch.cat(items, 2) if output_type == "latent" else torch.stack(items, 1)
        if not video.isfinite().all():
            raise not_finite("the video is not finite (NaN or inf)", self._model)
        return self._model.output(video, output_type)

    def close(self) -> None:
        """End the stream and free its memory."""
        if not self._closed:
            self._closed = True
            end_reading(self)
            if not self._busy.locked():  # else whoever computes a frame now does it then
                self._free()

    def _free(self) -> None:
        self._queue = self._loop = self._share = None
        self._outlet.clear()
        self._model.free()

    def _check_not_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the stream is closed: make a new one, of its state if that was taken before")

    def __enter__(self) -> "FrameStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ saving

    def state(self) -> RunState:
        """Everything needed to go on from here, bit for bit; save it with `.save(path)`."""
        self._check_not_closed()
        if self._ranks is not None and self._ranks.rank:
            raise RuntimeError("only rank 0 has the whole queue: take the state there")
        with self._computing():
            self._begin()
            queue, outlet = self._queue, self._outlet.state()
            assert queue is not None
            self._forget_others(queue)
        shown, prompts = self._plan.shown, self._prompts.schedule.to_json()
        texts = (*self._prompts.schedule.embeds, *self.settings.negative_embeds)
        state = RunState(
            queue=queue.latents_BCFHW,
            known=queue.known_BCFHW,
            anchors=queue.anchors_BCFHW,
            outlet=outlet,
            embeds={name: value for text in texts for name, value in text.saved().items()},
            position=Position.of(
                queue,
                frame_index=self.frame_index,
                opening=self._opening,
                continues=self._timing != self._model.timing,
                custom_noise=self._custom_noise,
            ),
            shown=shown.state() if shown is not None and self.frame_index < shown.count else None,
            settings=self.settings.to_json(),
            prompts=prompts,
            around=self._model.around(texts_of(prompts)),
            fingerprint=self._model.fingerprint(),
            picture=None if self._plan.picture is None else torch.from_numpy(self._plan.picture),
        ).copied()
        if not state.is_finite():
            raise not_finite(f"the queue at frame {self.frame_index} is not finite: no state is taken", self._model)
        return state

    def _restore(self, state: RunState) -> None:
        at, device = state.position, self._like.device
        if at.custom_noise and not self._custom_noise:
            raise ValueError("the state was saved with noise of your own: give the same noise= again")
        if self._num_frames is not None and self._num_frames < at.frame_index:
            done = f"it counts the whole video, and {at.frame_index} frames are done: give a larger number"
            raise ArgumentError("num_frames", self._num_frames, done)
        state.check_fits(self._model.latent_shape(self.settings.height, self.settings.width), self._levels.planes)
        kind = self._model.published_queue if self.settings.compat == "published" else Queue
        self._queue = state.queue_of(kind, device)
        self._queue.tail = Tail.of(self.settings)
        self.frame_index, self._opening = at.frame_index, at.opening
        if at.continues:
            self._timing = self._timing.continued()
        self._outlet.load_state(state.outlet, device)

    # ------------------------------------------------------------------ inside

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Where this rank fails, or is interrupted, the others do not wait for it."""
        try:
            with at_work(self._busy):
                try:
                    yield
                except BaseException as error:
                    if self._ranks is not None:
                        self._ranks.abort(str(error) or type(error).__name__)
                    raise
        finally:
            if self._closed and not self._busy.locked():
                self._free()

    def _next_frame(self) -> Tensor:
        """(B, 3, H, W) in [0, 1]; it waits in the outlet until it is handed out."""
        shown, out = self._plan.shown, self._outlet
        showing = shown is not None and self.frame_index < shown.count
        if not (
            showing and completes_clip(self._plan, self.settings)
        ):  # else the given frames come before that clip is computed
            self._begin()
            self._fill_while_showing()
        if showing and not out.ready:
            assert shown is not None
            out.give(shown, self.frame_index, len(self.settings.seeds))
        while not out.ready:
            ends = self._num_frames is not None and self._num_frames <= self._opening and not out.latents
            if not (ends and out.flush()):
                self._wait_for_latent()
                out.decode()
        return out.ready[0]

    def _next_latent(self) -> Tensor:
        """(B, C, 1, H, W), instead of a frame."""
        self._begin()
        if self._plan.shown is not None:
            raise ValueError("given frames are part of this video and have no latents here: use another output_type")
        self._wait_for_latent()
        self.frame_index += self._timing.further if self.frame_index else self._timing.first
        return self._outlet.latents.popleft()

    def _wait_for_latent(self) -> None:
        while not self._outlet.latents:
            self._advance()

    def _begin(self) -> None:
        """Make the queue, at the first frame."""
        self._check_open()
        if self._queue is not None:
            return
        plan, out = self._plan, self._outlet
        predict = self._gate.clip(self._predict)
        opening = open_video(plan, self.settings, self._model, self._levels, predict, self._noise, self._like)
        # From here on nothing fails: whoever comes again after an error finds all of it done, or nothing.
        if opening.given_BCFHW is not None:
            given = opening.given_BCFHW
            out.unwanted = self._model.timing.frames(given.shape[2]) - out.decoder.skip(given)
        if opening.latents_BCFHW is not None:
            out.latents.extend(opening.latents_BCFHW.split(1, 2))
        self._opening, self._queue = opening.frames, opening.queue

    def _fill_while_showing(self) -> None:
        """Spread the filling of the queue over the known frames that open the video: they come at an even pace, and
        the first at once. A video that ends among them never fills a queue."""
        opening, end = self._opening, self._num_frames
        if self.frame_index >= opening or (end is not None and end <= opening):
            return
        assert self._queue is not None
        total, filled = self._layout.fill_forwards, self._layout.filled_forwards
        while (done := filled(self._queue.iteration)) < total and done * opening < self.frame_index * total:
            self._advance()

    def _advance(self) -> None:
        """One iteration of the queue."""
        queue = self._queue
        assert queue is not None
        if self._loop is None:
            if self._ranks is not None:
                from fifo_diffusion.execution.window_share import share_windows

                def passes() -> int:
                    return len(self._model.passes(self._condition([[self._head]])))

                parts = self._layout, self._place, passes, self._gate.passes
                self._share = share_windows(self._ranks, queue, *parts)
            run = self._gate.run(queue, self._layout, in_batches(lambda: self._calls.at_once))
            run = run if self._share is None else self._share.run(queue, self._layout, run)
            known = self._levels, self._predict_share, self._noise
            self._loop = diagonal_denoising(queue, self._layout, *known, run, self._texts)
        frames, now = queue.numbers(self._layout), queue.step(self._layout)
        windows = now.windows if self._share is None else self._share.part(now.windows, now.levels)
        self._prompts.encode([[frames[p] for p in window.reads] for window in windows], frames[self._layout.context])
        before = queue.latents_BCFHW, queue.iteration, queue.texts, queue.anchors_BCFHW
        try:
            choose_tail(queue, self._layout, self._levels, self._predict, self._noise)
            first, latents = next(self._loop)
        except BaseException:  # the loop has ended with it; another goes on from the same queue
            self._loop = None
            queue.latents_BCFHW, queue.iteration, queue.texts, queue.anchors_BCFHW = before
            raise
        for offset, latent in enumerate(latents.split(1, 2) if latents.shape[2] else ()):
            if first + offset >= max(0, queue.first_new):
                self._outlet.latents.append(latent)
        self._prompts.forget_before(queue.frames(self._layout).start)

    def _together(self) -> AbstractContextManager["Ranks"]:
        """The ranks, for a pass that all make together."""
        assert self._ranks is not None
        return self._ranks.together(self._place())

    def _place(self) -> list[Any]:
        """What must be the same on all ranks in each iteration."""
        assert self._queue is not None
        return [self._queue.iteration, self._prompts.schedule.to_json()]

    def _condition(self, windows: Sequence[Sequence[int]]) -> Any:
        return self._gate.condition(self._prompts.condition(windows, self._head))

    def _predict_share(self, latents_BCFHW: Tensor, timestep_BF: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
        """As `_predict`; of one window perhaps one pass only, with the other from another rank."""
        if self._share is None or self._share.half is None:
            outputs = self._predict(latents_BCFHW, timestep_BF, windows)
            if self._preview is not None:
                self._preview.predicted(latents_BCFHW, outputs, timestep_BF, windows)
            return outputs
        return self._share.predict(self._model, self._condition(windows), latents_BCFHW, timestep_BF)

    def _predict(self, latents_BCFHW: Tensor, timestep_BF: Tensor, windows: Sequence[Sequence[int]]) -> Tensor:
        usual = self._gate.usual(self._layout, None if self._share is None else self._share.part)
        usual = min(self._calls.windows, usual)
        return self._calls.predict(latents_BCFHW, timestep_BF, windows, usual=usual)
