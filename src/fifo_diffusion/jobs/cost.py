"""What a video costs, counted in frame-forwards: one frame sent once through the model."""

from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING

from fifo_diffusion.decoding.timing import ONE_TO_ONE, LatentTiming

if TYPE_CHECKING:  # they would bring PyTorch along
    from collections.abc import Iterable, Sequence

    from fifo_diffusion.baselines.cost import BaselineCost
    from fifo_diffusion.jobs.plan import Plan
    from fifo_diffusion.method import Guidance
    from fifo_diffusion.method.layout import Layout, Window
    from fifo_diffusion.method.tail import Tail


@dataclass(frozen=True)
class Cost:
    """The work of one video.

    Args:
        layout: of the queue.
        passes: 2 with classifier-free guidance, else 1.
        start: "clip", "noise", "known" (given frames), or "published" (a clip, its fill thrown away).
        total: frames of the video, None for endless ones.
        given: how many frames are given ("known").
        shown: how many of them are part of the video: all or none.
        timing: frames per latent.
        one_descent: whether a clip that given frames begin is sampled as any other.
        decoder_latency: latents computed after the last one that is shown, because its decoding waits for them.
        tail: of the queue.
        guidance: its rule, which says where one pass is enough; None: nowhere.
    """

    layout: "Layout"
    passes: int
    start: str = "clip"
    total: int | None = None
    given: int = 0
    shown: int = 0
    timing: LatentTiming = ONE_TO_ONE
    decoder_latency: int = 0
    one_descent: bool = False
    tail: "Tail | None" = None
    guidance: "Guidance | None" = None

    @property
    def per_latent(self) -> float:
        """Frame-forwards for each further latent."""
        layout = self.layout
        steps = [layout.step(k) for k in range(layout.period)]
        return (
            sum(self._of(step.windows, step.levels) for step in steps) / sum(step.leave for step in steps)
            + self.of_draws * self.passes
        )

    @property
    def of_draws(self) -> float:
        """Of these, for one pass, those that go into the choice among draws of the tail; with a threshold at most."""
        if self.tail is None:
            return 0
        from fifo_diffusion.method.draws import draw_forwards_per_frame

        return draw_forwards_per_frame(self.tail, self.layout)

    def _fill_of_draws(self, known: bool = True) -> int:
        if self.tail is None:
            return 0
        from fifo_diffusion.method.draws import fill_draw_forwards

        return fill_draw_forwards(self.tail, self.layout, known=known) * self.passes

    @property
    def per_frame(self) -> float:
        """Frame-forwards for each further frame."""
        return self.per_latent / self.timing.further

    @property
    def clip(self) -> int:
        """Frame-forwards to sample the clip that opens the video, or the rest of one that given frames begin."""
        if self.completes_clip and not self.one_descent:
            return 2 * sum(map(self._descent, self.layout.descents))
        once = self.completes_clip or self.start in ("clip", "published")
        return self._descent(self.layout.levels) if once else 0

    @property
    def completes_clip(self) -> bool:
        """Whether the given frames are fewer than a window has."""
        return self.start == "known" and self._known < self.layout.frames

    @property
    def _known(self) -> int:
        """Latents that the given frames make."""
        return self.timing.whole_latents(self.given)

    @property
    def opening(self) -> int:
        """Frames of the video that do not come out of the queue."""
        if self.start == "clip":
            return self.timing.frames(self.layout.frames)
        made = max(0, self.layout.frames - self._known) * self.timing.further
        return self.shown + made if self.start == "known" else 0

    @property
    def fill(self) -> float:
        """Frame-forwards to fill the queue: until the first new frame can leave, that one's own included."""
        layout = self.layout
        if self.start == "noise":
            return sum(map(self._warming_up, range(layout.fill_iterations))) + self._fill_of_draws(known=False)
        if self.start == "published":
            return (layout.slots - layout.frames + 1) * self.per_latent
        if self.total is not None and self.total <= self.opening:
            return 0
        iterations = range(layout.fill_iterations)
        windows = ((layout.windows_from(layout.front(k), k), layout.step(k).levels) for k in iterations)
        return sum(starmap(self._of, windows)) + self._fill_of_draws()

    def _of(self, windows: "Iterable[Window]", slot_levels: "Sequence[int]") -> int:
        """Frame-forwards of these windows."""
        return sum(len(w.reads) * (self.passes if self._guided(w, slot_levels) else 1) for w in windows if not w.reuse)

    def _guided(self, window: "Window", slot_levels: "Sequence[int]") -> bool:
        return self.guidance is None or self.guidance.guides(window, slot_levels, self.layout.levels)

    def _warming_up(self, iteration: int) -> int:
        """Frame-forwards of an iteration of a start from noise, in which no slot is below the level of the others."""
        least = self.layout.levels - 1 - iteration
        step = (self.layout.plain if least > 0 else self.layout).step(iteration)  # until then all windows are computed
        return self._of(step.windows, [max(level, least) for level in step.levels])

    def _descent(self, steps: int) -> int:
        """Frame-forwards of a clip that comes down so many of the levels."""
        levels = self.layout.levels
        guided = range(levels) if self.guidance is None else self.guidance.levels(levels)
        return sum(self.layout.frames * (self.passes if level in guided else 1) for level in range(steps))

    def late_by(self, change: str) -> tuple[int, int]:
        """After how many more frames, at most, a prompt that is assigned once the opening is out is seen: in the first
        frame that is denoised under it, and from where it counts alone.

        Args:
            change: as the setting `prompt_change`. "queue" is seen from the frame at the head on, more with each.
        """
        layout = self.layout
        leave = max(layout.step(k).leave for k in range(layout.period))
        first = leave if change == "queue" else layout.slots
        whole = 2 * layout.slots if change == "blend" else layout.slots
        # What has left the queue waits for its decoding, or to be handed out.
        further = self.timing.further
        return (first + self.decoder_latency) * further - 1, (whole + self.decoder_latency) * further - 1

    def until(self, frames: int) -> float:
        """Frame-forwards computed by the time this many frames are there."""
        if frames < 1 or (self.completes_clip and frames <= self.shown):
            return 0
        if frames <= self.opening:
            # Filling is spread over these frames.
            return self.clip + self.fill * (frames - 1) / self.opening
        timing = self.timing if self.start == "noise" else self.timing.continued()
        return (
            self.clip + self.fill + (timing.latents(frames - self.opening) - 1 + self.decoder_latency) * self.per_latent
        )


def cost_of(plan: "Plan") -> "Cost | BaselineCost":
    """The work of one of the plan's videos."""
    if plan.request.method != "fifo":
        from fifo_diffusion.baselines.cost import BaselineCost

        return BaselineCost(plan.settings)
    from fifo_diffusion.method import Guidance
    from fifo_diffusion.method.tail import Tail

    passes = 2 if plan.settings.guidance_scale > 1 and not plan.model.told_guidance else 1
    shown = plan.given if plan.kept["include_start"] else 0
    model, layout = plan.model, plan.settings.queue_layout
    return Cost(
        layout,
        passes,
        plan.start,
        plan.num_frames,
        plan.given,
        shown,
        model.timing,
        model.decoder_latency,
        model.clean_start or model.told_picture,
        Tail.of(plan.settings),
        Guidance.of(plan.settings),
    )
