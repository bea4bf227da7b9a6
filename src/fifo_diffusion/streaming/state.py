"""A run as a file: enough to go on from exactly here."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fifo_diffusion.files import written_whole
from fifo_diffusion.method import Queue
from fifo_diffusion.streaming.state_checks import DECODER, EMBEDS, check_state
from fifo_diffusion.streaming.state_migration import FORMAT, format_name, format_of, migrated
from fifo_diffusion.text import one_line

_OF_QUEUE = ("first_new", "origin", "iteration", "from_noise", "texts")
_OF_SHOWN = ("path", "count", "fps", "fit")


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Attributes:
        frame_index: frames handed out so far.
        iteration, origin, first_new, from_noise, texts: as the `Queue` has them.
        opening: frames of the video that do not come out of the queue.
        continues: whether the latents of the queue go on from given ones, and so make as many frames as those in the
            middle of a video.
        custom_noise: whether the noise is the user's own.
    """

    frame_index: int
    iteration: int
    origin: int
    first_new: int
    from_noise: bool
    opening: int
    continues: bool
    custom_noise: bool
    texts: tuple[int, ...] = ()

    @classmethod
    def of(cls, queue: Queue, **more: Any) -> "Position":
        """Where a queue stands, and the values that it does not have."""
        return cls(**{name: getattr(queue, name) for name in _OF_QUEUE}, **more)


@dataclass(frozen=True, eq=False)
class OutletState:
    """What has left the queue and was not handed out.

    Attributes:
        unwanted: frames that the decoder will give and that are not to be handed out.
        latents: clean latents that were not decoded yet, (B, C, F, H, W).
        ready: decoded frames, (B, F, 3, H, W).
        decoder: what the decoder remembers, by names of its own.
    """

    unwanted: int = 0
    latents: Tensor | None = None
    ready: Tensor | None = None
    decoder: dict[str, Tensor] = field(default_factory=dict)


class NotWhole(ValueError):
    """A file of a state that cannot be read as one by any version: it was cut off, or overwritten."""


@dataclass(frozen=True, eq=False)
class ShownFrames:
    """Given frames that open the video, while not all were handed out.

    Attributes:
        source: the file that they are read from, or the frames, uint8 (F, H, W, 3).
        count: how many.
        fps: the rate at which frames are taken from the file; None: every frame.
        fit: "crop" or "pad": how they are brought to the size of the video.
    """

    source: str | Tensor
    count: int
    fps: float | None = None
    fit: str = "crop"

    @property
    def path(self) -> str | None:
        """The file; None where the frames themselves are held."""
        return self.source if isinstance(self.source, str) else None


@dataclass(eq=False, kw_only=True, repr=False)
class RunState:
    """A running stream, frozen between two frames (a few MB).

    Attributes:
        queue: latents of all slots, those of the context first, (B, C, slots, H, W).
        known: known clean latents, (B, C, F, H, W).
        anchors: those that stay in every window, (B, C, m, H, W); None: there are none.
        outlet: what has left the queue and was not handed out.
        embeds: the encoded texts among the prompts, by names of which `Embeds.from_saved` knows.
        position: where the run stands.
        shown: given frames of which some are still to be handed out; None where there are none.
        picture: uint8 (H, W, 3), that the model is told the video begins with; None: it is told none.
        settings: every argument that shapes the video but the prompts, completed, as `RunSettings.to_json` gives them.
        prompts: as `Schedule.to_json` gives them.
        around: what `VideoModel.around` says; {} where that is not known.
        fingerprint: of the model.
        notes: plain values of whoever saves it; the stream makes nothing of them.
    """

    queue: Tensor
    known: Tensor
    outlet: OutletState
    embeds: dict[str, Tensor]
    position: Position
    shown: ShownFrames | None
    settings: dict[str, Any]
    prompts: list[Any]
    around: dict[str, Any]
    fingerprint: str
    picture: Tensor | None = None
    anchors: Tensor | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        slots, seeds = self.queue.shape[2], ", ".join(map(str, self.settings["seeds"][:4]))
        return f"<{type(self).__name__}: frame {self.frame_index}, {slots} slots, seed {seeds}>"

    @property
    def frame_index(self) -> int:
        """Frames handed out so far."""
        return self.position.frame_index

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors, by their names in the file."""
        found: dict[str, Tensor | None] = {"queue": self.queue, "known": self.known, "anchors": self.anchors}
        found |= {"latents": self.outlet.latents, "ready": self.outlet.ready, "picture": self.picture}
        if self.shown is not None and not isinstance(self.shown.source, str):
            found["shown"] = self.shown.source
        found |= {DECODER + name: value for name, value in self.outlet.decoder.items()}
        found |= {EMBEDS + name: value for name, value in self.embeds.items()}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def header(self) -> dict[str, Any]:
        """All but the tensors, as plain values."""
        return {
            "settings": self.settings,
            "prompts": self.prompts,
            "position": asdict(self.position),
            "outlet": {"unwanted": self.outlet.unwanted},
            "shown": self.shown and {name: getattr(self.shown, name) for name in _OF_SHOWN},
            "around": self.around,
            "fingerprint": self.fingerprint,
            "notes": self.notes,
        }

    @classmethod
    def of(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> "RunState":
        """From the two parts of a file, which must be right (`check_state`)."""

        def below(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}

        shown = None
        if header["shown"] is not None:
            path, *others = (header["shown"][name] for name in _OF_SHOWN)
            shown = ShownFrames(tensors["shown"] if path is None else path, *others)
        return cls(
            queue=tensors["queue"],
            known=tensors["known"],
            outlet=OutletState(
                header["outlet"]["unwanted"], tensors.get("latents"), tensors.get("ready"), below(DECODER)
            ),
            embeds=below(EMBEDS),
            position=Position(**header["position"] | {"texts": tuple(header["position"]["texts"])}),
            shown=shown,
            settings=header["settings"],
            prompts=header["prompts"],
            around=header["around"],
            fingerprint=header["fingerprint"],
            picture=tensors.get("picture"),
            anchors=tensors.get("anchors"),
            notes=header["notes"],
        )

    def copied(self) -> "RunState":
        """The same with tensors of its own, in host memory."""
        tensors = {name: value.detach().to("cpu", copy=True) for name, value in self.tensors.items()}
        return self.of(tensors, self.header)

    def is_finite(self) -> bool:
        """Whether no tensor holds NaN or inf."""
        return all(bool(value.isfinite().all()) for value in self.tensors.values())

    def queue_of(self, kind: type[Queue], device: torch.device) -> Queue:
        """The queue as it stood, of this kind."""
        where = {name: getattr(self.position, name) for name in _OF_QUEUE}
        where["anchors_BCFHW"] = None if self.anchors is None else self.anchors.to(device)
        return kind(self.queue.to(device), self.known.to(device), **where)

    def check_fits(self, latent_shape: tuple[int, int, int], planes: int) -> None:
        """Refuse a queue of other latents.

        Args:
            latent_shape: channels, height and width of the model's latents.
            planes: latents in each slot of the queue.

        Raises:
            ValueError: the queue or what goes with it is of another shape.
        """
        channels, *size = latent_shape
        wanted = {"queue": channels * planes, "known": channels, "latents": channels}
        tensors = self.tensors
        for name in wanted.keys() & tensors.keys():
            shape = tensors[name].shape
            if [shape[1], *shape[3:]] != [wanted[name], *size]:
                held = f"its {name} is {tuple(shape)}"
                raise ValueError(f"the state is damaged, or of another model ({held}): start anew")

    # ------------------------------------------------------------------ files

    @staticmethod
    def is_state(path: str | Path) -> bool:
        """Whether a file is a state, whatever its name and format."""
        if not Path(path).is_file():  # opening a pipe would wait for its writer
            return False
        try:
            with safe_open(path, "pt") as file:
                return format_of(file.metadata() or {}) is not None
        except (OSError, SafetensorError):
            return False

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; an older one stays whole until the new one is on disk.

        Raises:
            OSError: the file cannot be written.
        """
        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()}
        metadata = {"format": format_name(), "meta": json.dumps(self.header)}
        try:
            with written_whole(path) as partial:
                save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write the state to {path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "RunState":
        """Read a file written by `save`, now or by an earlier version.

        Raises:
            ValueError: the file is not such a state, or of a later version, or a value in it is missing, of another
                kind or out of range. `NotWhole` where its end is missing, say.
            FileNotFoundError: there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no state file {path}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                number = format_of(metadata)
                if number is None:
                    raise ValueError(f"{path} is no state of a run: give a file that was saved as one")
                if number > FORMAT:
                    known = f"its format is {number}, and this one reads up to {FORMAT}"
                    raise ValueError(f"{path} was saved by a newer version of this program ({known}): update it")
                # Copies: what is mapped into memory keeps the file open, and Windows replaces no open file.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise NotWhole(f"{path} is damaged or no state of a run: {one_line(error)}") from error
        try:
            header = migrated(json.loads(metadata.get("meta", "")), number)
            check_state(tensors, header)
        except (ValueError, RecursionError) as error:  # of JSON too
            what = f"{path} is damaged, or of another version of this program"
            raise ValueError(f"{what} ({one_line(error)}): start anew") from error
        return cls.of(tensors, header)
