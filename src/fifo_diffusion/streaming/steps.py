"""The denoising steps of a video: noise levels of completed settings, and settings that give a number of steps."""

from typing import Any

from fifo_diffusion.errors import ArgumentError, Message, Setting, joined
from fifo_diffusion.method import Layout, NoiseLevels, QueueLayout
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.models.shared.spacing import STEPS, StepCountError
from fifo_diffusion.settings.fitting import shape_of
from fifo_diffusion.streaming.guidance_checks import check_prediction

NEARLY = 1 / 3
"""How far off, as a share, a number of steps may be that is named beside one that was asked for."""


def levels_of(model: VideoModel, settings: Any) -> NoiseLevels:
    """The noise levels of completed settings, FIFO's or a baseline's.

    Raises:
        ArgumentError: timesteps or sigmas of another number, or that the scheduler does not take; guidance that does
            not go with what the model predicts.
        ValueError: the scheduler cannot give them.
    """
    published = getattr(settings, "compat", None) == "published"
    given = {name: getattr(settings, name) for name in STEPS if getattr(settings, name) is not None}
    for name, value in given.items() if published else ():
        what = "the published code has steps of its own: leave it out, or "
        raise ArgumentError(name, value, what, Setting("compat"))
    steps, layout = settings.steps, getattr(settings, "queue_layout", None)
    options = {"eta": settings.eta, "scheduler_exact": settings.scheduler_exact, "published": published}
    options["size"] = settings.window, settings.height, settings.width
    try:
        levels = model.levels(steps, **options, **given)
    except StepCountError as error:
        other = [Setting("num_inference_steps", error.found)] if layout is None else giving(layout, error.found)
        what = f"they make {error.found} steps, and {'there are' if layout is None else 'the queue has'} {steps}"
        advice = joined(other, ", or ")
        raise ArgumentError(error.name, error.value, what, *(("; use ", *advice) if advice else ())) from error
    check_prediction(settings, levels)
    return levels.keeping_clean() if getattr(settings, "cache", 1) > 1 else levels


def check_steps(layout: Layout, steps: int | None) -> None:
    """Raises ArgumentError where the queue takes another number of steps than was asked for."""
    if steps is None or steps == layout.levels:
        return
    what = f"it does not fit: the queue ({layout.title}) takes {layout.levels} steps; leave it out"
    advice = joined(giving(layout, steps), ", or ")
    raise ArgumentError("num_inference_steps", steps, what, *((", or use ", *advice) if advice else ()))


def giving(layout: Layout, steps: int) -> list[Message]:
    """Settings of the paper's queue that give so many steps: for the same window, else for one that is little smaller,
    and for the same one with levels of nearly as many frames; where there are none, or the window must change, also the
    nearest numbers of partitions that give nearly as many.
    Of another layout there are none to name."""
    layout = layout.plain
    if not isinstance(layout, QueueLayout):
        return []
    f, b = layout.frames, layout.frames_per_level
    shape = shape_of(f, steps)
    shapes = dict.fromkeys(each for each in (shape, shape_of(f, steps, changeable=False)) if each is not None)
    found = [_named(*each, f) for each in shapes]
    if shape is None or shape[0] != f:
        near = sorted({max(1, steps * b // f), max(1, -(-steps * b // f))})
        near = [n for n in near if n * f % b == 0]
        close = [n for n in near if abs(n * f // b - steps) <= NEARLY * steps]
        found += [Message(Setting("num_partitions", n), f" ({n * f // b} steps)") for n in close or near * (not found)]
    return found


def _named(window: int, partitions: int, frames_per_level: int, usual: int) -> Message:
    parts = [Setting("window", window)] if window != usual else []
    parts += [Setting("frames_per_level", frames_per_level)]
    return Message(*joined(parts, ", "), " and ", Setting("num_partitions", partitions))
