"""What a video starts from: a sampled clip, noise, given frames or latents, or a saved run."""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.frames import decoded, to_uint8
from fifo_diffusion.decoding.timing import ONE_TO_ONE, LatentTiming
from fifo_diffusion.errors import ArgumentError, Setting
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.fingerprint import content_hash
from fifo_diffusion.streaming.given import Given
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.state import RunState, ShownFrames

KINDS = ("clip", "noise")


@dataclass(frozen=True)
class Shown:
    """Given frames that open the video.

    Attributes:
        given: the frames.
        size: (height, width) of the video.
    """

    given: Given
    size: tuple[int, int]

    @property
    def count(self) -> int:
        return self.given.count

    def frames_from(self, index: int) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3), from frame `index` on."""
        return self.given.frames_from(index, self.size)

    def state(self) -> ShownFrames:
        """For a state. A file is only named; it must be there when the run goes on."""
        if isinstance(self.given.source, str):
            return ShownFrames(self.given.source, self.count, self.given.fps, self.given.how)
        return ShownFrames(torch.from_numpy(np.stack([*self.frames_from(0)])), self.count)

    @classmethod
    def of_state(cls, saved: ShownFrames, size: tuple[int, int]) -> "Shown":
        """What `state` gave."""
        source = saved.source if isinstance(saved.source, str) else [*saved.source.numpy()]
        return cls(Given(source, saved.count, size, saved.fps, saved.fit), size)


@dataclass(frozen=True)
class StartPlan:
    """How to begin.

    Attributes:
        kind: "clip", "noise", "known" or "state".
        known_BCFHW: clean latents of the given frames, at most f, for every video ("known").
        shown: the given frames, where they open the video.
        state: the saved run ("state").
        timing: the model's.
        picture: uint8 (H, W, 3), that the model is told the video begins with (`VideoModel.told_picture`).
    """

    kind: str
    known_BCFHW: Tensor | None = None
    shown: Shown | None = None
    state: RunState | None = None
    timing: LatentTiming = ONE_TO_ONE
    picture: np.ndarray | None = None

    @property
    def shown_frames(self) -> int:
        """How many given frames open the video."""
        return 0 if self.shown is None else self.shown.count

    @property
    def first_latent(self) -> int:
        """Number of the first latent after the given frames that open the video."""
        return self.timing.latents(self.shown_frames)

    @property
    def new_timing(self) -> LatentTiming:
        """Of the latents from there on, which go on from given ones if there are any."""
        return self.timing.continued() if self.kind == "known" else self.timing

    def latent_of(self, frame: int) -> int:
        """The latent that a frame of the video comes from; before the first new one, the last given one."""
        return self.first_latent + self.new_timing.latents(frame + 1 - self.shown_frames) - 1

    def opens(self, window: int) -> int:
        """Number of the first latent of the clip that opens the video, whose last ones may be the model's."""
        if self.state is not None:
            return self.state.position.first_new - window
        given = 0 if self.known_BCFHW is None else self.known_BCFHW.shape[2]
        return self.first_latent - given

    def facts(self) -> list[Any]:
        """What must be the same on all ranks, as plain values; the latents themselves are rank 0's."""
        return [
            self.kind,
            None if self.known_BCFHW is None else list(self.known_BCFHW.shape),
            None if self.shown is None else self.shown.count,
            None if self.state is None else self.state.header | {"notes": None},
            None if self.picture is None else content_hash(self.picture),
        ]


def prepare_start(
    model: VideoModel, settings: RunSettings, start: Any, given: Given | None, include_start: bool
) -> StartPlan:
    """Read and encode what the caller gave as start.

    Args:
        model, settings: of the run.
        start: as the caller said it.
        given: the frames of it, where it is frames (`take_given`).
        include_start: whether they open the video.

    Raises:
        ValueError: frames or latents that do not fit; a state of another model.
        VideoFileError: a file that cannot be read.
    """
    if isinstance(start, RunState):
        if start.fingerprint != model.fingerprint():
            raise ValueError(
                "the state was saved with another model, other weights, another precision, or adapters (LoRA, "
                "IP-adapter) of another kind or scale: load and set what it was made with, or start anew"
            )
        saved, now = start.around, model.around(texts_of(start.prompts))
        for name in sorted(saved.keys() & now.keys()):
            if saved[name] != now[name]:
                told = f"another {name}" if isinstance(now[name], str) else f"{name}={saved[name]}, not {now[name]}"
                raise ValueError(f"the state was saved with {told}: put back what it was made with, or start anew")
        shown = None if start.shown is None else Shown.of_state(start.shown, (settings.height, settings.width))
        picture = None if start.picture is None else start.picture.numpy()
        return StartPlan("state", shown=shown, state=start, timing=model.timing, picture=picture)
    kind = start if isinstance(start, str) and start in KINDS else None
    if settings.compat == "published" and kind != "clip":
        raise ArgumentError(
            "compat", "published", "it always starts from a sampled clip: leave ", Setting("start"), " out"
        )
    if kind == "noise" and not settings.queue_layout.level_by_level:
        use = "needs a queue that goes down level by level; use ", Setting("start", "clip")
        raise ArgumentError("layout", settings.layout, Setting("start", "noise"), " ", *use)
    for name in ("tail_reference", "tail_adain") if kind == "noise" else ():
        if value := getattr(settings, name):
            none = Setting("start", "noise"), " has no first frame to refer to; use "
            raise ArgumentError(name, value, *none, Setting("start", "clip"), ", or leave it out")
    if kind is not None:
        if include_start:
            raise ArgumentError("include_start", True, "it goes with given frames, not with ", Setting("start", start))
        return StartPlan(kind, timing=model.timing)
    if given is None:
        if include_start:
            raise ArgumentError("include_start", True, "it goes with frames; decode the latents, or leave it out")
        return StartPlan("known", _known_latents(model, settings, start), timing=model.timing)
    size = (settings.height, settings.width)
    # Only the last f latents can ever be seen by a window that holds a new one.
    recent = given.last(model.timing.frames(settings.window), size)
    shown = Shown(given, size) if include_start else None
    known = model.encode(recent)
    if shown is not None and known.shape[2] < settings.window:
        # These are frames of a clip that the model makes (`complete_clip`): handed out as its other frames are, or the
        # first step of the video would show what the autoencoder changes in a picture.
        # A decoder that waits for further latents cannot do that: then they are shown as they were given.
        rendered = decoded(model.decoder(), known)[0]
        if len(rendered) == model.timing.frames(known.shape[2]):
            unused = recent[: len(recent) - len(rendered)]
            frames = [*unused, *to_uint8(rendered)]
            shown = Shown(Given(frames, len(frames), size), size)
    picture = recent[-1] if model.told_picture else None
    return StartPlan("known", _for_all(known, settings), shown, timing=model.timing, picture=picture)


def texts_of(prompts: list[Any]) -> list[str]:
    """All texts among the prompts of a state, but those that are encoded already."""
    every = {text for _, mixture, *_ in prompts for several, _ in mixture for text in several if isinstance(text, str)}
    return sorted(every)


def files_of(start: Any) -> list[str]:
    """The files and folders that a start is made from."""
    if isinstance(start, RunState):
        start = None if start.shown is None else start.shown.path
    items = start if isinstance(start, list | tuple) else [start]
    items = [getattr(item, "filename", None) or item for item in items]  # Pillow's images know theirs
    return [str(item) for item in items if isinstance(item, str | PathLike) and item not in KINDS]


def _known_latents(model: VideoModel, settings: RunSettings, latents: Tensor) -> Tensor:
    latents = latents.detach().to(model.device, torch.float32)
    latents = latents[None] if latents.dim() == 4 else latents
    shape, videos = model.latent_shape(settings.height, settings.width), len(settings.seeds)
    found = (latents.shape[1], *latents.shape[3:])
    if found != shape or len(latents) not in (1, videos) or not latents.shape[2]:
        needed = f"({videos}, {shape[0]}, frames, {shape[1]}, {shape[2]})"
        raise ValueError(f"start latents have shape {tuple(latents.shape)}; needed: {needed}")
    return _for_all(latents[:, :, -settings.window :], settings)


def _for_all(latents: Tensor, settings: RunSettings) -> Tensor:
    return latents.expand(len(settings.seeds), -1, -1, -1, -1).contiguous()
