"""Ask a diffusers pipeline for its denoiser's arguments by running it up to its first scheduler step."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fifo_diffusion.models.shared.hooks import bare
from fifo_diffusion.models.shared.texts import pipeline_texts

STEPS = 4
"""Of the schedule that is never run: as many as every scheduler takes."""


class _Captured(Exception):
    """Stops the pipeline; never seen outside this module."""


@dataclass
class Capture:
    """The denoiser calls of one sampling step: keyword arguments as named by the denoiser's signature."""

    calls: list[dict[str, Any]]


def capture(pipe: Any, *denoisers: torch.nn.Module, first_only: bool = False, **call: Any) -> Capture:
    """Run `pipe(**call)` up to its first `scheduler.step` and record what it would have given its denoiser.

    The record holds text embeddings, masks and whatever else this pipeline passes, and whether guidance is one batched
    call or two. A copy of the pipeline runs, on the same modules, with stand-ins for its denoisers and its scheduler:
    nothing of the pipeline is changed, even while it runs, and no denoiser works or is brought to a GPU. So the clip
    may be of any length: what it costs is the text.

    Args:
        pipe: its class's `__call__` runs.
        denoisers: modules of the pipeline, the first of which is called at the first step.
        first_only: stop at the first call of a denoiser, before it returns.

    Prompts may be encoded (`Embeds`): the pipeline gets them as its own arguments for that.

    Raises:
        RuntimeError: the pipeline never called its denoiser or never stepped its scheduler.
        ValueError: `clip_skip` skips more layers than a text encoder has.
    """
    calls: list[dict[str, Any]] = []
    shadow = copy.copy(pipe)
    for name, value in list(vars(shadow).items()):
        if value is not None and any(value is denoiser for denoiser in denoisers):
            vars(shadow)[name] = _StandIn(value, calls, first_only)  # past __setattr__, which looks at its class
    vars(shadow)["scheduler"] = _scheduler_that_stops(pipe.scheduler)
    vars(shadow)["_progress_bar_config"] = {"disable": True}
    try:
        with torch.no_grad():
            shadow(**{"num_inference_steps": STEPS, **pipeline_texts(call, pipe._execution_device)})
    except _Captured:
        pass
    except IndexError as error:
        _check_clip_skip(pipe, call.get("clip_skip"), error)
        raise
    if not calls:
        raise RuntimeError(f"{type(pipe).__name__} ran without calling its {type(denoisers[0]).__name__}")
    return Capture(calls)


def _check_clip_skip(pipe: Any, skip: Any, error: IndexError) -> None:
    """Pipelines take the output of a layer without looking whether there is one.

    Raises:
        ValueError: the text encoder has fewer layers than are to be skipped.
    """
    configs = (getattr(getattr(pipe, name, None), "config", None) for name in ("text_encoder", "text_encoder_2"))
    layers = [config.num_hidden_layers for config in configs if hasattr(config, "num_hidden_layers")]
    if skip and layers and skip >= min(layers):
        raise ValueError(
            f"clip_skip is {skip}, and the text encoder has {min(layers)} layers: use at most {min(layers) - 1}"
        ) from error


class _Nothing(NamedTuple):
    """What a denoiser returns, as a tuple and by name."""

    sample: Tensor


class _StandIn:
    """Looks like a denoiser, and records what it is called with."""

    def __init__(self, denoiser: torch.nn.Module, calls: list[dict[str, Any]], first_only: bool) -> None:
        vars(self).update(_denoiser=denoiser, _calls=calls, _first_only=first_only)

    @property
    def __class__(self) -> type:
        return type(self._denoiser)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_denoiser"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> _Nothing:
        named = dict(bound(self._denoiser, args, kwargs))
        self._calls.append(named)
        if self._first_only:
            raise _Captured
        latents = [named[name] for name in ("sample", "hidden_states") if name in named] or list(named.values())
        return _Nothing(self._zeros(latents[0]))

    def _zeros(self, latents: Tensor) -> Tensor:
        config = self._denoiser.config
        given, returned = config.get("in_channels"), config.get("out_channels")
        if given is None or returned in (None, given):
            return torch.zeros_like(latents)
        return latents.new_zeros([len(latents), returned, *latents.shape[2:]])


def bound(denoiser: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a denoiser's call by their names, from the first forward of its classes that names them: one
    that was put over it may say `*args, **kwargs` only.

    Raises:
        TypeError: none does.
    """
    if not args:
        return kwargs
    for base in type(bare(denoiser)).__mro__:
        forward = vars(base).get("forward")
        if forward is None:
            continue
        signature = inspect.signature(forward)
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL not in kinds:
            found = dict(signature.bind(None, *args, **kwargs).arguments)
            found.pop(next(iter(signature.parameters)))
            for name, parameter in signature.parameters.items():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    found |= found.pop(name, {})
            return found
    raise TypeError(f"{type(denoiser).__name__}.forward does not name its arguments: give it the signature of its base")


def _scheduler_that_stops(original: Any) -> Any:
    def stop(*_args: Any, **_kwargs: Any) -> None:
        raise _Captured

    scheduler = copy.deepcopy(original)
    # Pipelines look at the parameters of `step` to decide what to pass: keep them visible.
    stop.__signature__ = inspect.signature(original.step)  # type: ignore[attr-defined]
    scheduler.step = stop
    return scheduler
