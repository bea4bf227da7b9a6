"""Which steps a scheduler takes: a number of them, or the timesteps or sigmas that a distilled model was made for."""

import inspect
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fifo_diffusion.errors import ArgumentError, Message, Setting
from fifo_diffusion.settings import StreamSettings, specs

STEPS = ("timesteps", "sigmas")
"""Settings that say the steps one by one."""


class StepCountError(ArgumentError):
    """Timesteps or sigmas that are not as many steps as there are noise levels.

    Args:
        name, value: which, and what was given.
        found: steps that they make.
        levels: that there are.
    """

    def __init__(self, name: str, value: Any, found: int, levels: int) -> None:
        super().__init__(name, value, f"they make {found} steps, and the queue has {levels} levels")
        self.found, self.levels = found, levels

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.value, self.found, self.levels)


@dataclass(frozen=True)
class Spacing:
    """The steps of a run, as in the call of a diffusers pipeline.

    Attributes:
        count: L, the number of levels.
        timesteps: (L,) in descending order, instead of the scheduler's own spacing.
        sigmas: the same in the scheduler's sigmas; whether they end in 0 is up to its class, as in diffusers.
        mu: by how much they shift, for schedulers that shift them by the size of the video.
    """

    count: int
    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    mu: float | None = None

    @property
    def given(self) -> bool:
        """Whether the steps were chosen one by one."""
        return self.timesteps is not None or self.sigmas is not None

    def not_distinct(self, scheduler: Any) -> ValueError:
        """The error for a scheduler that repeats timesteps, or gives another number of them."""
        name = type(scheduler).__name__
        what = f"{name} does not give {self.count} distinct timesteps: choose another "
        return ValueError(Message(what, Setting("num_partitions")))

    def lay(self, scheduler: Any) -> None:
        """`scheduler.set_timesteps` on these steps.

        The DDIM family takes any timesteps here, although its classes have no argument for them: a step between two of
        them needs their noise levels only.

        Raises:
            StepCountError: they are not `count` steps.
            ArgumentError: this class does not take them, or they are out of range.
        """
        name, shift = type(scheduler).__name__, {} if self.mu is None else {"mu": self.mu}
        if not self.given:
            scheduler.set_timesteps(self.count, **shift)
            return
        argument = "timesteps" if self.timesteps is not None else "sigmas"
        given = self.timesteps or self.sigmas or ()
        whole = [int(value) if value == int(value) else value for value in given]
        if _has_argument(scheduler, argument):
            try:
                steps = {argument: whole if argument == "timesteps" else np.array(given)}
                scheduler.set_timesteps(**steps, **shift)
            except (ValueError, TypeError, IndexError) as error:
                raise ArgumentError(argument, given, f"{name} does not take them: {error}") from error
        elif argument == "timesteps" and _of_ddim(scheduler):
            last = scheduler.config.num_train_timesteps - 1
            if any(not isinstance(t, int) or t > last for t in whole):
                raise ArgumentError(argument, given, f"give whole numbers from {last} down to 0")
            scheduler.set_timesteps(len(whole))
            scheduler.timesteps = torch.tensor(whole)
        else:
            other = STEPS[argument == "timesteps"]
            takes_other = _has_argument(scheduler, other) or (other == "timesteps" and _of_ddim(scheduler))
            advice = ("give ", Setting(other)) if takes_other else ("choose another ", Setting("scheduler"))
            raise ArgumentError(argument, given, f"{name} takes no {argument}: ", *advice, ", or leave them out")
        found = len(scheduler.timesteps)
        if found != self.count:
            raise StepCountError(argument, given, found, self.count)


def _has_argument(scheduler: Any, name: str) -> bool:
    return name in inspect.signature(scheduler.set_timesteps).parameters


def _of_ddim(scheduler: Any) -> bool:
    """Whether it looks its noise levels up by whole timesteps."""
    return hasattr(scheduler, "alphas_cumprod") and not hasattr(scheduler, "sigmas")


def numbers_of(name: str, values: Any) -> tuple[float, ...] | None:
    """Timesteps or sigmas as a user gives them: a list, tuple, array or tensor of numbers in descending order.

    Raises:
        ArgumentError: they are none.
    """
    if values is None:
        return None
    found = specs(StreamSettings)[name].kind.take(name, values)
    if not all(a > b for a, b in itertools.pairwise(found)):
        raise ArgumentError(name, found, "give them in descending order, from the noisiest on")
    return found


def linear_sigmas(count: int) -> list[float]:
    """From 1 down to 1 / L, evenly: what most pipelines of flow matching give their scheduler."""
    return np.linspace(1.0, 1 / count, count).tolist()


def shift_by_length(scheduler: Any, tokens: int) -> float:
    """mu of a scheduler with dynamic shifting for a video of this length, as diffusers' `calculate_shift`: on a line
    through two lengths of its configuration. `tokens`: of the whole video."""
    config = scheduler.config
    short, long = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return low + (high - low) * (tokens - short) / (long - short)
