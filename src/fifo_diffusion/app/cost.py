"""What a video costs, counted in frame-forwards: one frame sent once through the model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it would bring PyTorch along
    from fifo_diffusion.method.layout import QueueLayout


@dataclass(frozen=True)
class Cost:
    """The work of one video.

    Args:
        layout: of the queue.
        passes: 2 with classifier-free guidance, else 1.
        start: "clip", "noise", "known" (given frames), or "published" (a clip, its fill thrown away).
        total: frames of the video, None for endless ones.
    """

    layout: "QueueLayout"
    passes: int
    start: str = "clip"
    total: int | None = None

    @property
    def per_frame(self) -> float:
        """Frame-forwards for each further frame."""
        return self.layout.frame_forwards_per_frame * self.passes

    @property
    def clip(self) -> int:
        """Frame-forwards to sample the clip that opens the video."""
        return self.layout.levels * self.layout.frames * self.passes if self.start in ("clip", "published") else 0

    @property
    def fill(self) -> float:
        """Frame-forwards to fill the queue: until the first new frame can leave, that one's own included."""
        layout = self.layout
        if self.start == "noise":
            return layout.levels * len(layout.windows) * layout.frames * self.passes
        if self.start == "published":
            return (layout.slots - layout.frames + 1) * self.per_frame
        if self.start == "clip" and self.total is not None and self.total <= layout.frames:
            return 0
        return layout.fill_windows * layout.frames * self.passes

    def until(self, frames: int) -> float:
        """Frame-forwards that have been computed when so many frames are there."""
        if frames < 1:
            return 0
        opening = self.layout.frames if self.start == "clip" else 0
        if frames <= opening:
            # Filling is spread over the frames of the clip.
            return self.clip + self.fill * (frames - 1) / opening
        return self.clip + self.fill + (frames - opening - 1) * self.per_frame
