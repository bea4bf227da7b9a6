"""How many frames a latent stands for."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class LatentTiming:
    """Frames per latent. Autoencoders of images have one of each; causal video autoencoders, which squeeze time, make
    one frame of the first latent of a video and several of every other.

    Attributes:
        first: frames of the first latent of a video.
        further: frames of every other latent.
    """

    first: int = 1
    further: int = 1

    def frames(self, latents: int) -> int:
        """Frames that the first `latents` latents of a video decode to."""
        return self.first + (latents - 1) * self.further if latents > 0 else 0

    def latents(self, frames: int) -> int:
        """The fewest latents that decode to this many frames."""
        return 1 + max(0, -(-(frames - self.first) // self.further)) if frames > 0 else 0

    def whole_latents(self, frames: int) -> int:
        """The most latents that this many frames can be encoded to; at least one."""
        return 1 + max(0, (frames - self.first) // self.further)

    def continued(self) -> "LatentTiming":
        """That of latents which go on from others."""
        return replace(self, first=self.further)


ONE_TO_ONE = LatentTiming()
"""Autoencoders of images."""
