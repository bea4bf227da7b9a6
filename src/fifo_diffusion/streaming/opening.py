"""How a video opens: what comes before the first frame out of the queue, and the queue that goes on from there."""

from dataclasses import dataclass, replace

from torch import Tensor

from fifo_diffusion.method import Noise, NoiseLevels, Predict, Queue, Tail, clip_after, complete_clip, sample_clip
from fifo_diffusion.models.shared.base import VideoModel
from fifo_diffusion.streaming.settings import RunSettings
from fifo_diffusion.streaming.start import StartPlan


@dataclass
class Opening:
    """The beginning of a video.

    Attributes:
        queue: at its first iteration.
        latents_BCFHW: clean latents to be decoded before those that leave the queue, if there are any.
        given_BCFHW: those before them, which the decoder has as their past; none where no frames are given.
        frames: of the video that do not come out of the queue; given ones that are shown count.
    """

    queue: Queue
    latents_BCFHW: Tensor | None = None
    given_BCFHW: Tensor | None = None
    frames: int = 0


def completes_clip(plan: StartPlan, settings: RunSettings) -> bool:
    """Fewer frames are given than a window has: the model makes the rest of the clip that they begin."""
    return plan.known_BCFHW is not None and plan.known_BCFHW.shape[2] < settings.window


def open_video(
    plan: StartPlan,
    settings: RunSettings,
    model: VideoModel,
    levels: NoiseLevels,
    predict: Predict,
    noise: Noise,
    like_BCFHW: Tensor,
) -> Opening:
    """Sample or complete a clip where the plan wants one, and make the queue. Changes none of its arguments.

    Args:
        like_BCFHW: a tensor of one window's shape and device.
    """
    layout, window, tail = settings.queue_layout, settings.window, Tail.of(settings)
    known, first_new, clean, past = plan.known_BCFHW, plan.first_latent, None, plan.known_BCFHW

    if plan.kind == "noise":
        return Opening(replace(Queue.from_pure_noise(layout, noise, like_BCFHW, **levels.entering), tail=tail))
    if plan.kind == "clip":
        published = settings.compat == "published"
        clip_levels = model.published_clip_levels(levels) if published else levels
        *_, known = sample_clip(clip_levels, predict, noise, range(window), like_BCFHW)
        if published:
            return Opening(model.published_queue.from_clip_published(layout, levels, noise, known))
        first_new, clean = window, known
    assert known is not None
    if completes_clip(plan, settings):
        given = known.shape[2]
        first_new += window - given
        frames = range(first_new - window, first_new)
        if model.told_picture:  # its latent is sampled with the others
            *_, known = sample_clip(levels, predict, noise, frames, like_BCFHW)
        else:
            complete = clip_after if model.clean_start else complete_clip
            *_, known = complete(levels, predict, noise, frames, known)
        past, clean = known[:, :, :given], known[:, :, given:]
    count = plan.shown_frames + plan.new_timing.frames(first_new - plan.first_latent)
    queue = Queue.from_known(layout, noise, known, first_new, **levels.entering, tail=tail)
    return Opening(queue, clean, past, count)
