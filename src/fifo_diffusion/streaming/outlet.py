"""The way of what has left the queue to the viewer: clean latents, decoded frames, pictures."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import to_pictures
from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.method import Noise, SeededNoise, with_uses
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.following_decoder import FollowingDecoder
from fifo_diffusion.streaming.start import Shown
from fifo_diffusion.streaming.state import OutletState

_UNSEEN = torch.empty(0)
"""In place of a frame on ranks that do not show it."""


class Outlet:
    """What waits to be handed out. What fails in it can be asked for again: nothing is lost on the way.

    Args:
        decoder: of this video alone.
        shows: False on ranks whose frames nobody sees.

    Attributes:
        latents: clean latents that were not decoded yet, (B, C, 1, H, W) each.
        ready: frames that were not handed out yet, (B, 3, H, W) in [0, 1] each; NaN where a value was none.
        unwanted: frames that the decoder will give and that are not to be handed out (again).
        seen: who is told of each latent that was decoded, with the frames that came of it.
    """

    def __init__(self, decoder: FollowingDecoder, *, shows: bool) -> None:
        self.decoder, self.shows = decoder, shows
        self.latents: deque[Tensor] = deque()
        self.ready: deque[Tensor] = deque()
        self.unwanted = 0
        self.seen: list[Callable[[Tensor, list[Tensor]], None]] = []
        self._given: Iterator[np.ndarray] | None = None

    def decode(self) -> None:
        """Make frames of the oldest latent, and of those behind it where small frames are decoded together."""
        some = list(islice(self.latents, self.decoder.at_once(self.latents[0]) if self.shows else 1))
        latents = torch.cat(some, 2)
        with self._past_kept():
            if self.shows:
                frames = _frames(self.decoder.push(latents))
                # 0, or NaN: no decoder may hide that a latent is not finite. Several latents are a frame each.
                nothing = [(latent - latent).flatten(1).sum(1)[:, None, None, None] for latent in some]
                frames = [frame + nothing[min(k, len(some) - 1)].to(frame) for k, frame in enumerate(frames)]
            else:
                frames = [_UNSEEN] * self.decoder.skip(latents)
        dropped = min(self.unwanted, len(frames))
        self.unwanted -= dropped
        self.ready.extend(frames[dropped:])
        for k, latent in enumerate(some):
            self.latents.popleft()
            for tell in self.seen if self.shows else ():
                tell(latent, frames if len(some) == 1 else frames[k : k + 1])

    def flush(self) -> bool:
        """The frames that the decoder holds back, at the end of a video; whether there are any. Should the video be
        continued after all, the decoder gives them again."""
        with self._past_kept():
            frames = _frames(self.decoder.flush())
        self.unwanted += len(frames)
        self.ready.extend(frames)
        return bool(frames)

    def give(self, shown: Shown, index: int, videos: int) -> None:
        """The given frame of this number is the next."""
        if not self.shows:
            self.ready.append(_UNSEEN)
            return
        try:
            self._given = self._given or shown.frames_from(index)
            picture = next(self._given)
        except BaseException:  # it has ended with it; another goes on from the same frame
            self._given = None
            raise
        frame = torch.tensor(picture).permute(2, 0, 1).float() / 255
        self.ready.append(frame.expand(videos, -1, -1, -1))

    def clear(self) -> None:
        self.latents.clear()
        self.ready.clear()
        self._given = None

    # ------------------------------------------------------------------ saving

    def state(self) -> OutletState:
        """All but the given frames."""
        return OutletState(
            self.unwanted,
            torch.cat(list(self.latents), 2) if self.latents else None,
            torch.stack(list(self.ready), 1) if self.ready else None,
            self.decoder.state(),
        )

    def load_state(self, saved: OutletState, device: torch.device) -> None:
        """What `state` gave, on the device of the stream."""
        self.unwanted = saved.unwanted
        if saved.latents is not None:
            self.latents.extend(saved.latents.to(device).split(1, 2))
        if saved.ready is not None:
            self.ready.extend(saved.ready.to(device).unbind(1))
        self.decoder.load_state({name: value.to(device) for name, value in saved.decoder.items()})

    @contextmanager
    def _past_kept(self) -> Iterator[None]:
        """A decoder that fails, or is interrupted, stands where it stood."""
        before = self.decoder.state()
        try:
            yield
        except BaseException:
            self.decoder.load_state(before)
            raise


@contextmanager
def at_work(busy: threading.Lock) -> Iterator[None]:
    """A stream while it makes a frame: in one thread at a time.

    Raises:
        RuntimeError: another thread is at it; or StopIteration was raised, which would end the stream silently.
    """
    if not busy.acquire(blocking=False):
        raise RuntimeError("this stream is at work in another thread: use a lock, or a stream for each thread")
    try:
        yield
    except StopIteration:  # a manager lets its cause pass
        raise RuntimeError("StopIteration was raised while a frame was made") from None
    finally:
        busy.release()


def picture(frame_BCHW: Tensor, number: int, model: VideoModel, *, batch: bool) -> np.ndarray:
    """A frame as it is handed out: uint8 (height, width, 3), or (videos, height, width, 3).

    Raises:
        FloatingPointError: it is not finite.
    """
    pictures, finite = to_pictures(frame_BCHW)
    if not finite.all():
        which = f" of video {', '.join(map(str, np.flatnonzero(~finite)))}" if batch else ""
        raise not_finite(
            f"frame {number}{which} is not finite (NaN or inf): the {number} frames before are kept", model
        )
    return pictures if batch else pictures[0]


def not_finite(what: str, model: VideoModel) -> FloatingPointError:
    """The error for numbers that are none, with what may help."""
    single = Setting("dtype", "float32", python="dtype=torch.float32")
    modules = [part for part in model.parts().values() if isinstance(part, torch.nn.Module)]
    if any(value.dtype == torch.float16 for module in modules for value in module.parameters()):
        half = Setting("dtype", "bfloat16", python="dtype=torch.bfloat16")
        return FloatingPointError(
            Message(f"{what}; the model overflows in float16, load it with ", half, " or ", single)
        )
    sound = ("; where the model's weights and ", Setting("guidance_scale"), " are sound, load it with ", single)
    return FloatingPointError(Message(what, *sound))


def draws_of(
    noise: Callable[..., Tensor] | None, seeds: Sequence[int], shape: tuple[int, int, int], levels: int
) -> Noise:
    """The noise of a video: the seeded one, or the user's own, its numbers checked where that costs nothing: on a GPU
    they show in the frames."""
    if noise is None:
        return SeededNoise(seeds, shape, levels)
    drawn = with_uses(noise, levels)

    def draw(frame: int, level: int, use: str = "queue") -> Tensor:
        values, what = drawn(frame, level, use), f'noise({frame}, {level}, "{use}")'
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        if found not in (tuple(shape), (len(seeds), *shape)):
            raise TypeError(f"{what} must be a tensor {tuple(shape)} or {(len(seeds), *shape)}, not {found}")
        if values.device.type == "cpu" and not values.isfinite().all():
            raise FloatingPointError(f"{what} is not finite (NaN or inf): give other noise=")
        return values

    return draw


def _frames(decoded_BFCHW: Tensor) -> list[Tensor]:
    return list(decoded_BFCHW.unbind(1)) if decoded_BFCHW.numel() else []
