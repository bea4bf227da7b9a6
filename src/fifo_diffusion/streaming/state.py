"""A run as a file: enough to go on from exactly here."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fifo_diffusion.files import written_whole
from fifo_diffusion.streaming.state_checks import check_state

FORMAT = "fifo-diffusion queue state 1"
EMBEDS_PREFIX = "embeds."  # of the names of tensors that are encoded texts


@dataclass
class QueueState:
    """A running stream, frozen between two frames (a few MB).

    Attributes:
        tensors: latents of queue and context, known frames, what waits to be shown, decoder state.
        settings: every argument that shapes the video (prompts, seeds, partitions, sizes, ...).
        counters: where the run stands; `frame_index` frames have been handed out.
        fingerprint: of the model.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    counters: dict[str, Any]
    fingerprint: str
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def frame_index(self) -> int:
        """Frames handed out so far."""
        return self.counters["frame_index"]

    @property
    def embeds(self) -> dict[str, Tensor]:
        """The encoded texts of prompts, by names of which `Embeds.from_saved` knows."""
        prefix = EMBEDS_PREFIX
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}

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
        for name in wanted.keys() & self.tensors.keys():
            shape = self.tensors[name].shape
            if [shape[1], *shape[3:]] != [wanted[name], *size]:
                held = f"its {name} is {tuple(shape)}"
                raise ValueError(f"the state is damaged, or of another model ({held}): start anew")

    @staticmethod
    def is_state(path: str | Path) -> bool:
        """Whether a file is a state, whatever its name."""
        if not Path(path).is_file():  # opening a pipe would wait for its writer
            return False
        try:
            with safe_open(path, "pt") as file:
                return (file.metadata() or {}).get("format") == FORMAT
        except (OSError, SafetensorError):
            return False

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; an older one stays whole until the new one is on disk.

        Raises:
            OSError: the file cannot be written.
        """
        meta = {"settings": self.settings, "counters": self.counters, "fingerprint": self.fingerprint}
        meta["notes"] = self.notes
        try:
            with written_whole(path) as partial:
                save_file(
                    {name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()},
                    partial,
                    metadata={"format": FORMAT, "meta": json.dumps(meta)},
                )
        except SafetensorError as error:
            raise OSError(f"cannot write the state to {path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "QueueState":
        """Read a file written by `save`.

        Raises:
            ValueError: the file is not such a state, or a value in it is missing, of another kind or out of range.
            FileNotFoundError: there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no state file {path}")
        try:
            with safe_open(path, "pt") as file:
                head = file.metadata() or {}
                if head.get("format") != FORMAT:
                    raise ValueError(f"{path} is not a queue state of this version ({FORMAT!r})")
                # Copies: what is mapped into memory keeps the file open, and Windows replaces no open file.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no queue state: {error}") from error
        try:
            meta = json.loads(head.get("meta", ""))
            parts = {name: meta.get(name) for name in ("settings", "counters", "fingerprint", "notes")}
            check_state(tensors, **parts)
        except (ValueError, AttributeError, RecursionError) as error:  # of JSON too, which may be no object
            reason = "" if isinstance(error, AttributeError) else f" ({error})"
            raise ValueError(f"{path} is damaged, or of another version of this program{reason}: start anew") from error
        return cls(tensors, **parts)
