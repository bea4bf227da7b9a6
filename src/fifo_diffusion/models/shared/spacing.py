"""Which steps a scheduler takes: a number of them, or the timesteps or sigmas that a distilled model was made for."""

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fifo_diffusion.errors import Message, Setting
from fifo_diffusion.settings.kinds import plain
from fifo_diffusion.text import quoted


@dataclass(frozen=True)
class Spacing:
    """The steps of a run, as in the call of a diffusers pipeline.

    Attributes:
        count: L, the number of levels.
        timesteps: (L,) in descending order, instead of the scheduler's own spacing.
        sigmas: the same in the scheduler's sigmas; whether they end in 0 is up to its class, as in diffusers.
    """

    count: int
    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None

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
            ValueError: this class does not take them, they are out of range or not in descending order, or they are not
                `count` steps.
        """
        name, taken = type(scheduler).__name__, inspect.signature(scheduler.set_timesteps).parameters
        if not self.given:
            scheduler.set_timesteps(self.count)
            return
        argument = "timesteps" if self.timesteps is not None else "sigmas"
        values = list(self.timesteps or self.sigmas or ())
        if argument in taken:
            try:
                scheduler.set_timesteps(**{argument: values if argument == "timesteps" else np.array(values)})
            except (ValueError, TypeError, IndexError) as error:
                raise ValueError(f"{name} does not take {argument}={quoted(values)}: {error}") from error
        elif argument == "timesteps" and not hasattr(scheduler, "sigmas") and hasattr(scheduler, "alphas_cumprod"):
            last = scheduler.config.num_train_timesteps - 1
            if any(t != int(t) or not 0 <= t <= last for t in values):
                raise ValueError(f"timesteps={quoted(values)} must be whole numbers from {last} down to 0")
            scheduler.set_timesteps(len(values))
            scheduler.timesteps = torch.tensor([int(t) for t in values])
        else:
            others = "sigmas" if argument == "timesteps" and "sigmas" in taken else ""
            advice = f"give {others}" if others else "choose another scheduler, euler or dpmsolver say"
            raise ValueError(f"{name} takes no {argument}: {advice}, or leave {argument} out")
        found = len(scheduler.timesteps)
        if found != self.count:
            raise ValueError(f"{argument}={quoted(values)} makes {found} steps, and the queue has {self.count} levels")


def numbers_of(name: str, values: Any) -> tuple[float, ...] | None:
    """Timesteps or sigmas as a user gives them: a list, tuple, array or tensor of numbers in descending order.

    Raises:
        ValueError: they are none.
    """
    if values is None:
        return None
    found = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(found, Sequence) or isinstance(found, str | bytes) or not found:
        raise ValueError(f"{name} must be a list of numbers in descending order, not {quoted(values)}")
    found = [plain(value) for value in found]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
        raise ValueError(f"{name} must be a list of numbers in descending order, not {quoted(values)}")
    if not all(a > b >= 0 for a, b in itertools.pairwise(found)) or not 0 <= found[0] < float("inf"):
        raise ValueError(f"{name} must be in descending order and not below 0, not {quoted(found)}")
    return tuple(found)
