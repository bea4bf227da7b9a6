"""Ask a diffusers pipeline for its denoiser's arguments by running it up to its first scheduler step."""

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


class _Captured(Exception):
    """Stops the pipeline; never seen outside this module."""


@dataclass
class Capture:
    """The denoiser calls of one sampling step: keyword arguments as bound by the denoiser's signature."""

    calls: list[dict[str, Any]]


def capture(pipe: Any, denoiser: torch.nn.Module, **call: Any) -> Capture:
    """Run `pipe(**call)` up to its first `scheduler.step` and record what it gave its denoiser.

    The record holds text embeddings, masks and whatever else this pipeline passes, whether guidance is one batched
    call or two, and nothing of the pipeline is left changed. Costs one denoiser pass.

    Raises:
        RuntimeError: the pipeline never called its denoiser or never stepped its scheduler.
    """
    calls: list[dict[str, Any]] = []
    # A compiled module's own forward takes anything.
    signature = inspect.signature(getattr(denoiser, "_orig_mod", denoiser).forward)

    def record(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append(dict(signature.bind(*args, **kwargs).arguments))

    handle = denoiser.register_forward_pre_hook(record, with_kwargs=True)
    try:
        with _scheduler_that_stops(pipe), _quiet(pipe), torch.no_grad():
            pipe(**call)
    except _Captured:
        pass
    finally:
        handle.remove()
    if not calls:
        raise RuntimeError(f"{type(pipe).__name__} ran without calling its {type(denoiser).__name__}")
    return Capture(calls)


@contextmanager
def _scheduler_that_stops(pipe: Any) -> Iterator[None]:
    def stop(*_args: Any, **_kwargs: Any) -> None:
        raise _Captured

    original = pipe.scheduler
    pipe.scheduler = copy.deepcopy(original)
    # Pipelines look at the parameters of `step` to decide what to pass: keep them visible.
    stop.__signature__ = inspect.signature(original.step)  # type: ignore[attr-defined]
    pipe.scheduler.step = stop
    try:
        yield
    finally:
        pipe.scheduler = original


@contextmanager
def _quiet(pipe: Any) -> Iterator[None]:
    before = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe._progress_bar_config = before
