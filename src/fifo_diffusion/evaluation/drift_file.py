"""The drift of a video in a file beside it: JSON lines, one for each frame, written as the video is made; the last is
the summary. A run that goes on cuts it to the frames that it counts, and appends."""

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from fifo_diffusion.errors import UserError
from fifo_diffusion.evaluation.drift import DISTANCES, SPACE, Drift, latent_vector

HEADER = {"drift": 1, "features": SPACE, "distances": [*DISTANCES]}
NOTE = "drift"
"""Under this name a state file's notes hold the picture that the next frame is compared with."""


class DriftFile:
    """Writes the drift of one video while it is made (`fifo_diffusion.jobs.job.Watch`).

    Args:
        path: of the file.
        goes_on: with the video of an earlier run. What the file says of the frames that are there is kept.
        done: how many these are.
        notes: of the state that it goes on from.

    Raises:
        UserError: the file cannot be read or written, or is another one.
    """

    def __init__(
        self, path: str | Path, *, goes_on: bool = False, done: int = 0, notes: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.drift = Path(path), Drift()
        self._latents: list[list[float]] = []
        self._file: IO[bytes] | None = None
        self._goes_on, self._done, self._said = goes_on, done, (notes or {}).get(NOTE)

    def __enter__(self) -> "DriftFile":
        try:
            there = self._goes_on and self.path.exists()
            self._file = open(self.path, "r+b" if there else "wb")
            if not there or not self._kept(self._file):
                self._write(HEADER)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        if isinstance(self._said, Mapping) and self._said.get("frames") == self._done:
            self.drift.picture = _unpacked(self._said)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._write({"summary": self.drift.summary()})
            self._file.close()
            self._file = None

    def begin(self, stream: Any) -> None:
        """The stream is open: it tells of its latents, where it has any."""
        if hasattr(stream, "tell_latents"):
            stream.tell_latents(lambda latent: self._latents.append(latent_vector(latent)))

    def frame(self, number: int, frame_HWC: np.ndarray) -> None:
        """A frame was given to the writer of the video."""
        self._write(self.drift.add(frame_HWC, number, self._latents))
        self._latents.clear()

    @property
    def notes(self) -> dict[str, Any]:
        """What a state of this moment must hold, beside the lines so far."""
        picture = self.drift.picture
        return {} if picture is None else {NOTE: _packed(picture) | {"frames": self.drift.frames}}

    def _kept(self, file: IO[bytes]) -> bool:
        """Take in what is known of the frames that are done, and cut off what comes after; whether anything stays."""
        end = _take_in(file, self.drift, self._done, self.path)
        file.truncate(end)
        file.seek(end)
        return end > 0

    def _write(self, values: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(values).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error


def is_drift_file(path: str | Path) -> bool:
    """Whether a file is of drift, by its first line."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.readline(4096))["drift"] == HEADER["drift"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_drift(path: str | Path) -> Drift:
    """What a file says, whole or cut off.

    Raises:
        UserError: there is none, or it is another one.
    """
    drift = Drift()
    try:
        with open(path, "rb") as file:
            _take_in(file, drift, None, Path(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return drift


def _take_in(file: IO[bytes], drift: Drift, before: int | None, path: Path) -> int:
    """Lines of frames below a number, or all; where they end in the file. One that is cut off ends them."""
    end = 0
    for line in iter(file.readline, b""):
        try:
            values = json.loads(line)
            if not end and values["drift"] != HEADER["drift"]:
                raise ValueError
            if end and ("summary" in values or (before is not None and values["frame"] >= before)):
                break
            if end:
                drift.take(values)
        except (ValueError, KeyError, TypeError) as error:
            if not end:
                raise UserError(f"{path} is no drift file: move it away, or name another") from error
            break
        end = file.tell()
    return end


def _packed(picture: np.ndarray) -> dict[str, Any]:
    return {"shape": [*picture.shape], "picture": base64.b64encode(zlib.compress(picture.tobytes())).decode()}


def _unpacked(said: Mapping[str, Any]) -> np.ndarray | None:
    """The picture; None where the notes do not hold one."""
    try:
        height, width, _ = shape = [int(side) for side in said["shape"]]
        size = height * width * 3
        data = zlib.decompressobj().decompress(base64.b64decode(said["picture"]), size)
        return np.frombuffer(data, np.uint8).reshape(shape)
    except (KeyError, TypeError, ValueError, zlib.error):
        return None
