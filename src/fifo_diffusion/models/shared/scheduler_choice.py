"""Schedulers by name, as the command's `--scheduler` and `--flow-shift` say them."""

import inspect
import json
import logging
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import diffusers

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.models.shared.step_rules import RULES, is_flow, known_class, short_error
from fifo_diffusion.settings.kinds import plain

logger = logging.getLogger(__name__)

_OF_THE_MODEL = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
"""What a model was trained with, whatever it is sampled by."""

_ALSO = {"eulera": "eulerancestral", "dpmpp": "dpmsolver", "dpmpp2m": "dpmsolver", "plms": "pndm", "uni": "unipc"}


def choose_scheduler(current: Any, choice: str | None = None, flow_shift: float | None = None) -> Any:
    """Another scheduler for the model that `current` is for.

    Args:
        current: the pipeline's; is not changed. What the model was trained with (betas, prediction, flow shift) is kept
            from it; the rest is as in diffusers' own `from_config`.
        choice: NAME or NAME:key=value,...: a class of diffusers with or without "Scheduler", "Discrete" and
            "Multistep" ("euler", "unipc", "DPMSolverMultistepScheduler"), and arguments of that class. None: the same.
        flow_shift: the shift of a flow-matching scheduler.

    Raises:
        ValueError: no such class or argument (the nearest are named), a value that it does not take, one that does
            not go with the model, or a shift where there is none.
    """
    chosen = current
    if choice is not None:
        name, _, rest = choice.partition(":")
        kind, given = _class_of(name, is_flow(current, known_class(current)[1])), _arguments(rest)
        _check_arguments(kind, given)
        if hasattr(current, "signal_scale"):
            logger.warning("with %s the rescaled signal of this model is left out", kind.__name__)
        try:
            chosen = kind.from_config(dict(current.config), **_kept(current, kind) | given)
        except (ImportError, TypeError, ValueError, NotImplementedError, RuntimeError, LookupError) as error:
            raise ArgumentError("scheduler", choice, short_error(error)) from error
    return chosen if flow_shift is None else with_flow_shift(chosen, flow_shift)


def flow_shift_of(scheduler: Any) -> float | None:
    """The shift of a flow-matching scheduler; None of others."""
    name = _shift_argument(scheduler)
    if name is None:
        return None
    # A property of flow-matching classes only; others answer with what their configuration holds by that name.
    value = scheduler.shift if name == "shift" else scheduler.config.get(name)
    return None if value is None else float(value)


def with_flow_shift(scheduler: Any, shift: float) -> Any:
    """The same scheduler with another shift.

    Raises:
        ValueError: it has none, or the shift is not above 0.
    """
    name, kind, shift = _shift_argument(scheduler), type(scheduler).__name__, plain(shift)
    if name is None:
        raise ArgumentError(
            *(
                "flow_shift",
                shift,
                f"it goes with flow-matching models, and this one is sampled by {kind}: leave it out",
            )
        )
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < float("inf"):
        raise ArgumentError("flow_shift", shift, "give a number above 0")
    # A scheduler that finds its shift by the size of the video (LTX-Video, Motif-Video) would pass this one over.
    dynamic: dict[str, Any] = {"use_dynamic_shifting": False} if scheduler.config.get("use_dynamic_shifting") else {}
    return type(scheduler).from_config(scheduler.config, **{name: float(shift)}, **dynamic)


def _shift_argument(scheduler: Any) -> str | None:
    if not is_flow(scheduler, known_class(scheduler)[1]):
        return None
    # Not by the configuration: that also keeps what came from another class and has no effect in this one.
    inits = [vars(kind)["__init__"] for kind in type(scheduler).__mro__[:-1] if "__init__" in vars(kind)]
    named = {name for init in inits for name in inspect.signature(init).parameters}
    return next((name for name in ("flow_shift", "shift") if name in named), None)


def by_size(pipe: Any, scheduler: Any, height: int, width: int) -> Any:
    """The scheduler for this size, where a checkpoint's publisher has another flow shift for large videos (`OF_SIZE`)
    and the pipeline's is still the one that it was loaded with. The pipeline's own is not changed."""
    known: OfSize | None = getattr(pipe, OF_SIZE, None)
    if known is None or scheduler is not known.scheduler or height * width < LARGE:
        return scheduler
    if not known.told:
        known.told = True
        logger.warning("flow shift %g, as the publishers sample %dx%d", known.large, width, height)
    return with_flow_shift(scheduler, known.large)


@dataclass
class OfSize:
    """On a pipeline as `OF_SIZE`: the scheduler that it was loaded with, and the flow shift for 720p."""

    scheduler: Any
    large: float
    told: bool = False


OF_SIZE = "_fifo_shift_of_size"
LARGE = 1280 * 720 * 0.9
"""Pixels from which a video counts as 720p."""


def says_shift(choice: str) -> bool:
    """Whether a scheduler that is chosen as text brings its own flow shift."""
    return not _arguments(choice.partition(":")[2]).keys().isdisjoint(("flow_shift", "shift"))


def _class_of(name: str, flow: bool) -> Any:
    """The class of diffusers that a name means, for a model trained by flow matching or not."""
    classes = {n: getattr(diffusers, n) for n in RULES if hasattr(diffusers, n)}
    forms: dict[str, str] = {}
    for full in sorted(classes, key=len, reverse=True):  # of two with one short form the shorter has it
        form = _plain(full)
        forms |= dict.fromkeys((form, re.sub("discrete|multistep", "", form)), full)
    wanted = _plain(name)
    found = forms.get(_ALSO.get(wanted, wanted))
    fits = [n for n, kind in classes.items() if not RULES[n].refused and _for_flow(kind, n) in (flow, None)]
    short = {re.sub("Scheduler|Discrete|Multistep", "", n): n for n in fits}
    if found is None:
        near = {_plain(n): n for n in short}
        known = [near[n] for n in get_close_matches(wanted, near, 3, 0.6)] or [*short]
        raise ArgumentError("scheduler", name, f"there is none of that name; choose {', '.join(known)}")
    if found not in fits:
        why = RULES[found].refused or f"it is not for models trained by {'flow matching' if flow else 'diffusion'}"
        raise ArgumentError("scheduler", name, f"{why}; choose {', '.join(short)}")
    return classes[found]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower().replace("+", "p")).removesuffix("scheduler")


def _for_flow(kind: Any, name: str) -> bool | None:
    """Whether a class is for flow matching only; None: for both."""
    if RULES[name].space == "flow":
        return True
    return None if "use_flow_sigmas" in inspect.signature(kind.__init__).parameters else False


def _arguments(rest: str) -> dict[str, Any]:
    given = {}
    for item in filter(None, re.split(r",(?![^\[]*\])", rest)):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise ValueError(Message(Setting("scheduler"), f": {item!r} is not key=value"))
        if key in given:
            raise ValueError(Message(Setting("scheduler"), f": {key} is given twice"))
        try:
            given[key] = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        except ValueError:
            given[key] = None if value.lower() == "none" else value
    return given


def _check_arguments(kind: Any, given: dict[str, Any]) -> None:
    parameters = {n: p.default for n, p in inspect.signature(kind.__init__).parameters.items() if n != "self"}
    for key, value in given.items():
        if key not in parameters:
            near = get_close_matches(key, parameters, 3, 0.5) or sorted(parameters)
            raise ValueError(f"{kind.__name__} has no {key}: choose {', '.join(near)}")
        usual = parameters[key]
        if isinstance(usual, bool) and not isinstance(value, bool):
            raise ValueError(f"{kind.__name__}: {key} must be true or false, not {value}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(usual, int | float) and not isinstance(usual, bool) and not number:
            raise ValueError(f"{kind.__name__}: {key} must be a number, not {value}")
        if isinstance(usual, str) and not isinstance(value, str):
            raise ValueError(f"{kind.__name__}: {key} must be a word such as {usual}, not {value}")


def _kept(current: Any, kind: Any) -> dict[str, Any]:
    """What the class must be told so that it is for the same model: `from_config` drops what was a default before."""
    parameters = inspect.signature(kind.__init__).parameters
    kept = {key: current.config[key] for key in _OF_THE_MODEL if key in current.config and key in parameters}
    if is_flow(current, known_class(current)[1]):
        if "use_flow_sigmas" in parameters:
            kept |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
        shift = flow_shift_of(current)
        kept |= {name: shift for name in ("flow_shift", "shift") if name in parameters and shift is not None}
    return kept
