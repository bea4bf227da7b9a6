"""A streaming decoder for autoencoders that look both ways in time: overlapping pieces, blended."""

from collections.abc import Callable

import torch
from torch import Tensor

from fifo_diffusion.decoding.timing import LatentTiming

SIZE = 17
"""Latents of a piece: 65 frames where a latent is four, which is what such autoencoders are used to."""
STRIDE = 4
"""New latents of each further piece. The others are its past, so that its statistics over time are nearly those of the
piece before."""
BLEND = 2
"""Latents over which a piece is faded into the next."""
MARGIN = 1
"""Latents at the end of a piece that are not used, for what comes after them is missing there."""
STEADY_LATENCY = STRIDE + MARGIN + BLEND - 1
"""Latents that a latent waits for at most, once the first piece is there."""


class PieceDecoder:
    """Decodes pieces of a stream, each as a clip of its own, and fades one into the next, frame by frame.

    Piece k holds latents k S ... k S + N - 1 (S stride, N size), and is used from `MARGIN` + `BLEND` latents before the
    end of piece k - 1 to as many before its own end. So all but its newest latents are there only as past.

    Args:
        decode: latents (B, C, F, H, W), as they come out of the queue, to frames (B, F', 3, H, W) in [0, 1].
        timing: of the autoencoder.
        size, stride: N, S.

    Attributes:
        latency: at the beginning of a video; further on it is S + `MARGIN` + `BLEND` - 1 at most.
    """

    exact = False
    tiling = True  # by `decode`

    def __init__(
        self, decode: Callable[[Tensor], Tensor], timing: LatentTiming, *, size: int = SIZE, stride: int = STRIDE
    ) -> None:
        if not 0 < stride <= size - BLEND - MARGIN - 1:
            raise ValueError(
                f"pieces of {size} latents need a stride of 1 to {size - BLEND - MARGIN - 1}, not {stride}"
            )
        self._decode, self._timing, self._size, self._stride = decode, timing, size, stride
        self.latency = size - 1
        self._latents: Tensor | None = None  # from latent `_first` on
        self._first = 0
        self._done = 0  # latents whose frames were given
        self._pieces: dict[int, Tensor] = {}

    def push(self, latents_BCFHW: Tensor) -> Tensor:
        """Clean latents to the frames that are ready: (B, F', 3, H, W)."""
        return self._frames_to(self._accept(latents_BCFHW))

    def skip(self, latents_BCFHW: Tensor) -> int:
        """As `push`, but the frames are only counted."""
        start, self._done = self._done, self._accept(latents_BCFHW)
        self._forget()
        return self._timing.frames(self._done) - self._timing.frames(start)

    def flush(self) -> Tensor:
        """The frames still held back, from a last piece that may be shorter. The decoder stays as it was."""
        if self._latents is None:
            return torch.empty(0)
        before = self._done, self._pieces, self._first, self._latents
        frames = self._frames_to(self._first + self._latents.shape[2], ends=True)
        self._done, self._pieces, self._first, self._latents = before
        return frames

    def state(self) -> dict[str, Tensor]:
        """The latents of the last pieces: they are decoded again when needed."""
        if self._latents is None:
            return {}
        return {"latents": self._latents, "counters": torch.tensor([self._first, self._done])}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved `state()`."""
        self._latents, self._pieces = state.get("latents"), {}
        self._first, self._done = state["counters"].tolist() if state else (0, 0)

    # ------------------------------------------------------------------ inside

    def _accept(self, latents_BCFHW: Tensor) -> int:
        """Take latents in; up to which latent frames are ready."""
        known = [] if self._latents is None else [self._latents]
        self._latents = torch.cat([*known, latents_BCFHW], 2)
        whole = (self._first + self._latents.shape[2] - self._size) // self._stride + 1
        return max(self._done, self._seam(whole)) if whole > 0 else self._done

    def _seam(self, piece: int) -> int:
        """The latent at which a piece begins to be used; the video begins in piece 0."""
        return 0 if piece == 0 else self._size + (piece - 1) * self._stride - MARGIN - BLEND

    def _piece_of(self, latent: int) -> int:
        return max(0, (latent - self._seam(1)) // self._stride + 1)

    def _frames_to(self, stop: int, *, ends: bool = False) -> Tensor:
        """Frames of all latents before `stop` that were not given yet."""
        assert self._latents is not None
        frames = []
        for latent in range(self._done, stop):
            piece = self._piece_of(latent)
            if ends:  # the last whole piece serves to the end, or one that is cut off
                count = self._first + self._latents.shape[2]
                piece = min(piece, max(0, -(-(count - self._size) // self._stride)))
            new = self._of_latent(piece, latent)
            offset = latent - self._seam(piece)
            if piece and offset < BLEND:
                old, each = self._of_latent(piece - 1, latent), self._timing.further
                weight = (torch.arange(each, device=new.device) + 1 + offset * each) / (BLEND * each + 1)
                new = torch.lerp(old, new, weight[None, :, None, None, None].to(new.dtype))
            frames.append(new)
        self._done = stop
        self._forget()
        return torch.cat(frames, 1).float() if frames else self._latents.new_empty((len(self._latents), 0, 3, 1, 1))

    def _of_latent(self, piece: int, latent: int) -> Tensor:
        """The frames of one latent, as a piece shows them."""
        start = piece * self._stride
        if piece not in self._pieces:
            assert self._latents is not None
            offset = start - self._first
            decoded = self._decode(self._latents[:, :, offset : offset + self._size])
            self._pieces = {**self._pieces, piece: decoded}
        place = latent - start
        return self._pieces[piece][:, self._timing.frames(place) : self._timing.frames(place + 1)]

    def _forget(self) -> None:
        """Let go of all that no later frame needs."""
        assert self._latents is not None
        piece = self._piece_of(self._done)
        oldest = piece - 1 if piece and self._done < self._seam(piece) + BLEND else piece
        self._pieces = {k: v for k, v in self._pieces.items() if k >= oldest}
        first = min(oldest * self._stride, self._first + self._latents.shape[2])
        self._latents, self._first = self._latents[:, :, first - self._first :].clone(), first
