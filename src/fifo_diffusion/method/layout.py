"""Which level each slot of the queue holds, and which windows read and write which slots. Integers only.

Padded coordinates count the context slots first: padded slot `context + s` is slot s, slot 0 is the head.
"""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Window:
    """f consecutive padded slots that go through the model together, and the part of them that is kept."""

    start: int
    stop: int
    write_start: int
    write_stop: int

    @property
    def reads(self) -> range:
        """Padded slots given to the model."""
        return range(self.start, self.stop)

    @property
    def writes(self) -> range:
        """Padded slots that take the model's result."""
        return range(self.write_start, self.write_stop)


@dataclass(frozen=True)
class QueueLayout:
    """Shape of the queue: n partitions of f frames, `frames_per_level` (b) neighbours sharing one noise level.

    Args:
        frames: f >= 2, the window length: what the base model was trained on.
        partitions: n >= 1 (latent partitioning, section 3.2, Algorithm 3). n = 1 is diagonal denoising (Algorithm 1).
        lookahead: keep only the noisier half of each window's output (section 3.3, Eq. 8, Algorithm 4).
        frames_per_level: b >= 1; the paper has b = 1. n f must be a multiple of b.

    Raises:
        ValueError: a value out of range, or n f not a multiple of b.
    """

    frames: int
    partitions: int = 4
    lookahead: bool = True
    frames_per_level: int = 1

    def __post_init__(self) -> None:
        # Named as the arguments of `FIFO.stream`, which is where people meet them.
        limits = {"window": (self.frames, 2), "num_partitions": (self.partitions, 1)}
        limits["frames_per_level"] = (self.frames_per_level, 1)
        for name, (value, least) in limits.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.slots % self.frames_per_level:
            divisors = [b for b in range(1, self.slots + 1) if self.slots % b == 0]
            raise ValueError(
                f"frames_per_level={self.frames_per_level} does not divide the queue of {self.partitions} x "
                f"{self.frames} = {self.slots} slots: use one of {', '.join(map(str, divisors))}"
            )

    @property
    def slots(self) -> int:
        """Number of slots, n f."""
        return self.partitions * self.frames

    @property
    def levels(self) -> int:
        """Number of noise levels L = n f / b, which is the number of denoising steps of every frame."""
        return self.slots // self.frames_per_level

    @property
    def context(self) -> int:
        """Slots in front of the head that are read but not written: f' = f // 2 with lookahead, else 0."""
        return self.frames // 2 if self.lookahead else 0

    @property
    def size(self) -> int:
        """Number of padded slots."""
        return self.context + self.slots

    @property
    def descents(self) -> tuple[int, ...]:
        """Steps of each descent of a clip that given frames begin (`complete_clip`)."""
        return descents_of(self.levels)

    @cached_property
    def slot_levels(self) -> tuple[int, ...]:
        """Level of each padded slot; the context is at the lowest level."""
        return (0,) * self.context + tuple(s // self.frames_per_level for s in range(self.slots))

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """All windows of an iteration, cleanest first. Their `writes` cover every slot exactly once."""
        f, half = self.frames, self.frames // 2
        if not self.lookahead:
            return tuple(Window(k * f, (k + 1) * f, k * f, (k + 1) * f) for k in range(self.partitions))
        windows = []
        for r in range(2 * self.partitions):
            start = (r // 2) * f + (r % 2) * half
            # An odd f has no exact half: even windows keep one slot more than odd ones, so that they still tile.
            windows.append(Window(start, start + f, start + half + (r % 2) * (f % 2), start + f))
        return tuple(windows)

    def windows_from(self, front: int) -> tuple[Window, ...]:
        """Windows that write padded slot `front` or a later one (the others hold only known frames)."""
        return tuple(w for w in self.windows if w.write_stop > front)

    @property
    def frame_forwards_per_frame(self) -> float:
        """Frames sent through the model for one frame of video, without guidance: n f / b, or twice that."""
        return len(self.windows) * self.frames / self.frames_per_level

    def filled_windows(self, iterations: int) -> int:
        """Windows computed in the first iterations of a start from known frames."""
        b = self.frames_per_level
        fronts = (max(self.context, self.size - b - i * b) for i in range(iterations))
        return sum(len(self.windows_from(front)) for front in fronts)

    @property
    def fill_windows(self) -> int:
        """Windows computed until the first new frame leaves, starting from known frames: about half a queue of them."""
        return self.filled_windows(self.levels)


def descents_of(levels: int) -> tuple[int, ...]:
    """From how many of L levels a clip comes down that given frames begin: from all, then twice from two thirds."""
    return levels, 2 * levels // 3, 2 * levels // 3
