"""The nodes: load a model, make a batch of frames, write a video of any length, go on from a state.

ComfyUI's IMAGE is float32 [frames, height, width, 3] from 0 to 1, on the CPU.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from PIL import Image

from fifo_diffusion import FIFO, RunState, open_writer
from fifo_diffusion.jobs.prompt_files import in_frames, read_schedule
from fifo_diffusion.settings.presets import PRESETS

CATEGORY = "fifo-diffusion"
OWN, AUTO = "the model's own", "auto"
PREVIEW = 512
"""Longest side of the pictures that are shown while frames are made, in pixels."""

_BALL = "a red ball moving right on a navy background"
_COUNT = ("INT", {"default": 64, "min": 1, "max": 1_000_000, "tooltip": "Frames that are made."})
_SEED = ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True})
_PROMPT = ("STRING", {"default": _BALL, "multiline": True})
_SCHEDULE = (
    "STRING",
    {
        "default": "",
        "multiline": True,
        "tooltip": 'Many prompts instead of one: lines such as "0: a red ball" and "120: a blue ball", 0 among them.',
    },
)
_START = ("IMAGE", {"tooltip": "The frame, or the frames, that the video goes on from."})
_SHOWN = ("BOOLEAN", {"default": False, "tooltip": "The given frames are part of the video."})
_PREFIX = ("STRING", {"default": "fifo"})


@dataclass(frozen=True)
class Loaded:
    """A model, and the preset that its streams have."""

    fifo: FIFO
    preset: str | None


class Load:
    """A base model by its hub id, folder or name."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("FIFO_MODEL",), ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("STRING", {"default": "toybox-diagonal"}),
                "dtype": ([AUTO, "float32", "float16", "bfloat16"],),
                "device": ([AUTO, "cpu", "cuda", "mps"],),
                "preset": ([OWN, *PRESETS], {"default": "live"}),
            }
        }

    def load(self, model: str, dtype: str, device: str, preset: str) -> tuple[Loaded]:
        asked: dict[str, Any] = {} if dtype == AUTO else {"dtype": getattr(torch, dtype)}
        asked |= {} if device == AUTO else {"device": device}
        with torch.inference_mode(False):
            fifo = FIFO.from_pretrained(model, **asked)
        return (Loaded(fifo, None if preset == OWN else preset),)


class Run:
    """Frames as one batch, and the state after the last of them."""

    CATEGORY, FUNCTION = CATEGORY, "run"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "FIFO_STATE"), ("frames", "state")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return _new_video()

    def run(self, model: Loaded, num_frames: int, **asked: Any) -> tuple[torch.Tensor, RunState]:
        with torch.inference_mode(False), _begun(model, num_frames, **asked) as stream:
            return _batch(stream, num_frames), stream.state()


class StreamToFile:
    """A video of any length, frame by frame into ComfyUI's output folder: memory does not grow with it."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "write", True
    RETURN_TYPES, RETURN_NAMES = ("STRING", "FIFO_STATE"), ("path", "state")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        every = _new_video()
        every["required"] |= {"filename_prefix": _PREFIX, "format": (["mp4", "webm", "gif"],)}
        return every

    def write(self, model: Loaded, num_frames: int, filename_prefix: str, format: str, **asked: Any) -> dict[str, Any]:
        path = _unused(filename_prefix, f".{format}")
        with torch.inference_mode(False), _begun(model, num_frames, **asked) as stream:
            with open_writer(path, fps=stream.fps, metadata=stream.metadata) as writer:
                for frame in _shown(stream, num_frames):
                    writer.write(frame)
            return _file(path) | {"result": (str(path), stream.state())}


class SaveState:
    """A state as a file, to go on from on another day."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "save", True
    RETURN_TYPES, RETURN_NAMES = ("STRING",), ("path",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"state": ("FIFO_STATE",), "filename_prefix": _PREFIX}}

    def save(self, state: RunState, filename_prefix: str) -> dict[str, Any]:
        path = _unused(filename_prefix, ".safetensors")
        state.save(path)
        return {"ui": {"text": [str(path)]}, "result": (str(path),)}


class Continue:
    """Further frames from a state, or from the file of one: bit for bit as if the video had never stopped."""

    CATEGORY, FUNCTION = CATEGORY, "go_on"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "FIFO_STATE"), ("frames", "state")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        prompt = (
            "STRING",
            {"default": "", "multiline": True, "tooltip": "Another prompt from here on; empty: as before."},
        )
        path = ("STRING", {"default": "", "tooltip": "A file of Save state; or connect a state."})
        return {
            "required": {"model": ("FIFO_MODEL",), "num_frames": _COUNT},
            "optional": {"state": ("FIFO_STATE",), "state_file": path, "prompt": prompt},
        }

    @classmethod
    def IS_CHANGED(cls, state_file: str = "", **_: Any) -> Any:
        """The file may be another one now."""
        if not state_file or not os.path.exists(state_file):
            return ""
        found = os.stat(state_file)
        return f"{found.st_mtime_ns} {found.st_size}"

    def go_on(
        self, model: Loaded, num_frames: int, state: RunState | None = None, state_file: str = "", prompt: str = ""
    ) -> tuple[torch.Tensor, RunState]:
        if (state is None) == (not state_file):
            raise ValueError("give a state or the name of its file, one of them")
        with torch.inference_mode(False):
            begun = RunState.load(state_file) if state is None else state
            count = begun.frame_index + num_frames
            with model.fifo.stream(prompt.strip() or None, start=begun, num_frames=count) as stream:
                return _batch(stream, num_frames), stream.state()


# ------------------------------------------------------------------ shared


def _new_video() -> dict[str, Any]:
    return {
        "required": {"model": ("FIFO_MODEL",), "prompt": _PROMPT, "num_frames": _COUNT, "seed": _SEED},
        "optional": {"schedule": _SCHEDULE, "start": _START, "include_start": _SHOWN},
    }


def _begun(
    model: Loaded,
    num_frames: int,
    prompt: str,
    seed: int,
    schedule: str = "",
    start: torch.Tensor | None = None,
    include_start: bool = False,
) -> Any:
    """A new stream."""
    fifo = model.fifo
    said: Any = prompt
    if schedule.strip():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "schedule"
            file.write_text(schedule, "utf-8")
            said = in_frames(read_schedule(file), fifo.model.defaults["fps"])
    if start is None and include_start:
        raise ValueError("include_start: connect the frames that the video starts from")
    asked = {} if start is None else {"start": _pictures(start), "include_start": include_start}
    asked |= {} if model.preset is None else {"preset": model.preset}
    return fifo.stream(said, seed=seed, num_frames=num_frames, **asked)


def _pictures(image: torch.Tensor) -> np.ndarray:
    if image.ndim != 4 or image.shape[-1] != 3:
        raise ValueError(f"start has the shape {tuple(image.shape)}: give an IMAGE, [frames, height, width, 3]")
    return (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _shown(stream: Any, count: int) -> Iterator[np.ndarray]:
    """Frames of a stream, with ComfyUI's progress and preview; its cancel button ends them between two frames.

    Raises:
        comfy.model_management.InterruptProcessingException: it was pressed.
    """
    progress = comfy.utils.ProgressBar(count)
    for done, frame in enumerate(stream, 1):
        progress.update_absolute(done, count, ("JPEG", Image.fromarray(frame), PREVIEW))
        yield frame
        comfy.model_management.throw_exception_if_processing_interrupted()


def _batch(stream: Any, count: int) -> torch.Tensor:
    """All frames as an IMAGE."""
    batch: torch.Tensor | None = None
    done = 0
    for done, frame in enumerate(_shown(stream, count), 1):
        if batch is None:
            batch = torch.empty((count, *frame.shape), dtype=torch.float32)
        batch[done - 1] = torch.from_numpy(frame) / 255
    if batch is None or done != count:
        raise ValueError(f"{done} frames came, and {count} were asked for")
    return batch


def _unused(prefix: str, suffix: str) -> Path:
    """A new name in the output folder."""
    folder = Path(folder_paths.get_output_directory()).resolve()
    wanted = (folder / prefix).resolve()
    if not prefix.strip() or wanted == folder or not wanted.is_relative_to(folder):
        raise ValueError(f"filename_prefix {prefix!r}: give a name in the output folder")
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := wanted.with_name(f"{wanted.name}_{number:05d}{suffix}")).exists():
        number += 1
    return path


def _file(path: Path) -> dict[str, Any]:
    """What ComfyUI's page shows of a file."""
    folder = path.parent.relative_to(Path(folder_paths.get_output_directory()).resolve())
    where = {"filename": path.name, "subfolder": "" if folder == Path(".") else folder.as_posix(), "type": "output"}
    return {"ui": {"images": [where], "animated": (True,)}}


NODE_CLASS_MAPPINGS = {
    "FifoLoad": Load,
    "FifoRun": Run,
    "FifoStreamToFile": StreamToFile,
    "FifoSaveState": SaveState,
    "FifoContinue": Continue,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "FifoLoad": "FIFO-Diffusion: load",
    "FifoRun": "FIFO-Diffusion: frames",
    "FifoStreamToFile": "FIFO-Diffusion: stream to file",
    "FifoSaveState": "FIFO-Diffusion: save state",
    "FifoContinue": "FIFO-Diffusion: continue",
}
