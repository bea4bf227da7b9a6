"""Windows through the model, as many at once as there is memory for."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.execution.frame_shard import FrameGroup
from fifo_diffusion.execution.interfaces import QueueModel, as_banded
from fifo_diffusion.execution.memory import is_out_of_memory
from fifo_diffusion.method import Layout, Run, Window

BatchLimits = dict[tuple[int | bool, ...], tuple[int, bool]]
"""The largest batch known to fit in memory: by the shape of a window, and whether the queue is banded, the number of
windows and whether the CFG passes had to run one after the other."""


def in_batches(size: Callable[[], int]) -> Run:
    """Windows of an iteration several at a time, those of one length together; `size` is asked once per iteration, so
    that it may change."""

    def run(windows: Sequence[Window], denoise: Callable[[Sequence[Window]], None], _y: Tensor) -> None:
        at_once = size()
        if reusing := [window for window in windows if window.reuse]:
            denoise(reusing)
        computed = (window for window in windows if not window.reuse)
        for _, alike in groupby(computed, lambda window: len(window.reads)):
            some = list(alike)
            for start in range(0, len(some), at_once):
                denoise(some[start : start + at_once])

    return run


class WindowBatcher:
    """Runs windows through the model (`fifo_diffusion.method.Predict`), and halves the batch when memory runs out.

    Args:
        layout: of the queue.
        like_BCFHW: a tensor of one window's shape and device.
        fits: what earlier runs on this model found out; what is found out here is added.
        windows: at once; None: one on a CPU, where more gain nothing, else as many as fit.
        condition: the conditioning of windows, by their frame numbers.
        together: the processes that share a banded pass, entered for each; None: this process alone.

    Attributes:
        windows: how many go through the model at once. Falls where memory runs out.
    """

    def __init__(
        self,
        model: QueueModel,
        layout: Layout,
        like_BCFHW: Tensor,
        fits: BatchLimits,
        windows: int | None,
        *,
        condition: Callable[[Sequence[Sequence[int]]], Any],
        together: Callable[[], AbstractContextManager[FrameGroup]] | None,
    ) -> None:
        self._model, self._layout, self._fits = model, layout, fits
        self._videos, self._device = len(like_BCFHW), like_BCFHW.device
        self._condition, self._together = condition, together
        self._schedule = model.schedule_state()
        self._size = (*like_BCFHW.shape, layout.banded)
        most = -(-layout.size // layout.frames) if layout.banded else layout.most_windows
        usual = 1 if self._device.type == "cpu" else most
        fit, self._passes_apart = fits.get(self._size, (usual, False))
        self.windows = windows or min(fit, usual)

    @property
    def at_once(self) -> int:
        """How many windows are asked for together: all, where the model works in stages."""
        return self._layout.most_windows if self._model.stages() else self.windows

    def predict(
        self,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        windows: Sequence[Sequence[int]],
        *,
        usual: int,
        stage: int | None = None,
    ) -> Tensor:
        """The model after guidance.

        Args:
            latents_BCFHW, timestep_BF, windows: as in `Predict`.
            usual: how many windows come at once when the queue is full.
            stage: of `QueueModel.stages`, to be done alone; None: all, one after the other.

        Raises:
            ValueError: the scheduler, by which the queue has its levels, was replaced; or as `VideoModel.follow`.
        """
        if self._model.schedule_state() != self._schedule:
            raise ValueError("pipe.scheduler was replaced while a video runs: put it back, or make a new stream")
        parts = latents_BCFHW, timestep_BF, windows, usual
        if stage is None and (stages := self._model.stages()):
            return torch.stack([self._in_parts(self.windows, *parts, each) for each in stages]).sum(0)
        if 1 < len(windows) < usual and self._model.compiled:
            # One by one: two shapes are compiled in all, and not each that occurs while the queue fills.
            return self._in_parts(1, *parts, stage)
        condition = self._condition(windows)
        condition = condition if stage is None else self._model.of_stage(condition, stage)
        banded = self._layout.banded and len(windows[0]) > self._layout.frames
        at_once = self.windows if banded else len(windows)
        together = self._together if banded else None
        try:
            with nullcontext() if together is None else together() as others:
                predict = self._banded(len(windows[0]), others) if banded else self._model.predict
                passes = self._model.passes(condition) if self._passes_apart else [condition]
                outputs = [predict(latents_BCFHW, timestep_BF, each) for each in passes]
                prediction = self._model.guided(outputs, timestep_BF, condition) if len(passes) > 1 else outputs[0]
            return prediction.to(self._device)
        except (RuntimeError, MemoryError) as error:
            final = together is not None or self._model.sharded or not is_out_of_memory(error)
            if final or not self._take_less(at_once, condition):
                raise
        size = len(windows) if banded or at_once == 1 else self.windows
        return self._in_parts(size, *parts, stage)

    def _in_parts(
        self,
        size: int,
        latents_BCFHW: Tensor,
        timestep_BF: Tensor,
        windows: Sequence[Sequence[int]],
        usual: int,
        stage: int | None,
    ) -> Tensor:
        """As `predict`, `size` windows at a time."""
        rows = [x.split(size * self._videos) for x in (latents_BCFHW, timestep_BF)]
        some = [windows[start : start + size] for start in range(0, len(windows), size)]
        return torch.cat([self.predict(*part, usual=usual, stage=stage) for part in zip(*rows, some, strict=True)])

    def _take_less(self, windows: int, condition: Any) -> bool:
        """Too much at once: from here on half as many windows, at last the CFG passes one by one. False where
        there is no less."""
        if windows > 1:
            self.windows = windows // 2
        elif self._passes_apart or len(self._model.passes(condition)) == 1:
            return False
        else:
            self._passes_apart = True
        self._fits[self._size] = self.windows, self._passes_apart
        return True

    def _banded(self, frames: int, together: FrameGroup | None) -> Callable[[Tensor, Tensor, Any], Tensor]:
        """The model's prediction of more frames than a window at once."""
        size = self._layout.frames * self.windows
        bands, chunks = self._layout.last_bands(frames), -(-frames // size)
        return partial(as_banded(self._model).predict_banded, bands=bands, chunks=chunks, together=together)
