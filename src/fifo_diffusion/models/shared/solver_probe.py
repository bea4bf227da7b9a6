"""What a scheduler's step does, found by stepping it with unit vectors.

The steps of most schedulers are linear in the sample, in what they remember of earlier steps, in the predicted clean
sample and in the noise that they draw. So one step of each, of unit vectors, says all: orders, warm-up, correctors and
last steps are those of the scheduler itself.
"""

import inspect
from typing import Any

import torch
from torch import Tensor

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.models.shared.step_rules import Grid

_SEED = 20240519
_MOST = 16  # unit vectors: more than any scheduler remembers
_DRAWS = 8
_ROUNDING = 1e-6  # what may be left of the noise where it is taken away again, in float32


def probe(scheduler: Any, grid: Grid, prediction: str, memory: tuple[str, ...], eta: float) -> Tensor:
    """`NoiseLevels.solver` of a scheduler on its grid, level 0 first: (L, P, P + 2), the last column that of noise.

    Args:
        scheduler: a copy, after `set_timesteps`; is stepped down to its end.
        prediction: what its model predicts (`NoiseLevels.prediction`).
        memory: attributes in which it remembers; of lists the newest is the last.
        eta: for schedulers whose step takes it.

    Raises:
        ValueError: the step draws noise in a way that is not known here.
    """
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True
    accepted = inspect.signature(scheduler.step).parameters
    more: dict[str, Any] = {"eta": eta} if "eta" in accepted else {}
    units = torch.zeros(_MOST, _MOST + _DRAWS, dtype=torch.float64)
    units[:, :_MOST] = torch.eye(_MOST)
    sample, clean = units[0:1], units[1:2]
    column: dict[tuple[str, int], int] = {}  # of what is remembered: attribute and age -> unit vector
    steps = []
    for i, t in enumerate(scheduler.timesteps):
        of_sample, of_clean = _prediction_of(prediction, grid.alpha[i], grid.sigma[i])
        if "generator" in accepted:
            more["generator"] = torch.Generator().manual_seed(_SEED)
        output = of_sample * sample + of_clean * clean
        following = scheduler.step(output, t, sample / grid.scale[i], return_dict=False, **more)[0]
        rows = {None: _without_noise(following.double() * grid.scale[i + 1])}
        for name, age, value in _remembered(scheduler, memory):
            key = (name, age)
            column.setdefault(key, 2 + len(column))
            rows[key] = _without_noise(value.double())
            _remember(scheduler, name, age, units[column[key] : column[key] + 1])
        steps.append(rows)
    return _matrices(steps[::-1], column)


def _prediction_of(prediction: str, alpha: Tensor, sigma: Tensor) -> tuple[Any, Any]:
    """The model's output for x and x0, as weights of the two."""
    if prediction == "sample":
        return 0.0, 1.0
    if prediction == "flow_prediction":
        return 1 / sigma, -1 / sigma
    return (alpha / sigma, -1 / sigma) if prediction == "v_prediction" else (1 / sigma, -alpha / sigma)


def _without_noise(row: Tensor) -> Tensor:
    """(units + 1,) the weights of the unit vectors and of the noise in what a step gave."""
    found, drawn = row[0], row[0, _MOST:]
    if not bool(drawn.any()):
        return torch.cat([found[:_MOST], found.new_zeros(1)])
    for dtype in (torch.float32, torch.float64):
        draws = torch.randn(row.shape, generator=torch.Generator().manual_seed(_SEED), dtype=dtype).double()[0]
        weight = (drawn @ draws[_MOST:]) / (draws[_MOST:] @ draws[_MOST:])
        if bool((drawn - weight * draws[_MOST:]).abs().max() < 1e-5 * drawn.abs().max()):
            weights = (found - weight * draws)[:_MOST]
            return torch.cat([weights * (weights.abs() > _ROUNDING), weight[None]])
    if not bool(drawn.isfinite().all()):
        return torch.full((_MOST + 1,), float("nan"), dtype=torch.float64)
    what = "the scheduler draws its noise in a way that cannot be followed: set "
    raise ValueError(Message(what, Setting("scheduler", python="pipe.scheduler"), " to another"))


def _remembered(scheduler: Any, memory: tuple[str, ...]) -> list[tuple[str, int, Tensor]]:
    """What it remembers now: attribute, age (0 is the newest) and value."""
    found = []
    for name in memory:
        value = getattr(scheduler, name, None)
        values = value[::-1] if isinstance(value, list) else [value]
        found += [(name, age, v) for age, v in enumerate(values) if isinstance(v, Tensor)]
    return found


def _remember(scheduler: Any, name: str, age: int, value: Tensor) -> None:
    kept = getattr(scheduler, name)
    if isinstance(kept, list):
        kept[-1 - age] = value
    else:
        setattr(scheduler, name, value)


def _matrices(steps: list[dict[Any, Tensor]], column: dict[tuple[str, int], int]) -> Tensor:
    """The rows of all steps as matrices, without what is remembered but never read."""
    nothing = torch.zeros(_MOST + 1, dtype=torch.float64)
    needed: list[Any] = [None]
    while True:
        read = [
            k for k, c in column.items() if any(bool(rows.get(n, nothing)[c] != 0) for rows in steps for n in needed)
        ]
        if len(read) == len(needed) - 1:
            break
        needed = [None, *read]
    columns = [0, *(column[k] for k in needed[1:]), 1, _MOST]
    return torch.stack([torch.stack([rows.get(k, nothing)[columns] for k in needed]) for rows in steps])
