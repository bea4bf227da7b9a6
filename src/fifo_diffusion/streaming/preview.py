"""Pictures of the queue before its frames are clean: what the model makes of each latent, in colours that are learned
from frames which came out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fifo_diffusion.decoding.frames import to_uint8
from fifo_diffusion.method import Layout, NoiseLevels, Queue

MEMORY = 0.9
"""How much of what earlier frames told of the colours is kept with each further one: about ten count."""
RIDGE = 1e-4
"""Of the mean square of the latents, added to keep the least squares away from directions that no frame has shown."""


class Preview:
    """Notes of what the model predicts and of what comes out.

    A latent is linear in the colours of its place, nearly, with every autoencoder that squeezes space; so one matrix of
    (C + 1) x 3 numbers, found by least squares, makes pictures of the size of latents. Nothing is decoded for them.

    Args:
        levels: of the queue.
        layout: of the queue.
    """

    def __init__(self, levels: NoiseLevels, layout: Layout) -> None:
        self._levels, self._layout = levels, layout
        self._guesses: dict[int, tuple[int, Tensor]] = {}  # of each frame number: the level, and (B, C, h, w)
        self._squares: Tensor | None = None  # (C + 1, C + 1) and (C + 1, 3): the normal equations
        self._products: Tensor | None = None

    def predicted(
        self, latents_BCFHW: Tensor, output_BCFHW: Tensor, timestep_BF: Tensor, windows: Sequence[Sequence[int]]
    ) -> None:
        """Windows went through the model: arguments and result of `fifo_diffusion.method.Predict`."""
        timestep_BF = timestep_BF if timestep_BF.dim() == 2 else timestep_BF[..., 0]
        known, order = self._levels.timestep.sort(stable=True)  # some models are told the highest level as 0
        level = order[torch.searchsorted(known, timestep_BF.cpu().to(known.dtype)).clamp_max(len(known) - 1)]
        clean, _ = self._levels.split(latents_BCFHW, output_BCFHW, level)
        for window, part, rows in zip(windows, clean.chunk(len(windows)), level.chunk(len(windows)), strict=True):
            for k, (frame, now) in list(enumerate(zip(window, rows[0].tolist(), strict=True)))[self._layout.anchors :]:
                if self._guesses.get(frame, (None,))[0] != now:  # else it is context here, and was no context before
                    self._guesses[frame] = now, part[:, :, k].clone()  # a view would hold all windows in memory
        for gone in sorted(self._guesses)[: -self._layout.size]:  # has left the queue, whether anybody looks or not
            del self._guesses[gone]

    def came_out(self, latent_BCFHW: Tensor, frames: Sequence[Tensor]) -> None:
        """A clean latent was decoded, and these are the frames, (B, 3, H, W) in [0, 1] each, that came of it."""
        if not frames:
            return
        latents = latent_BCFHW[:, :, -1].float()
        colours = adaptive_avg_pool2d(frames[-1].to(latents), latents.shape[-2:])
        rows = _with_one(latents)
        if not (rows.isfinite().all() and colours.isfinite().all()):
            return
        squares, products = rows.T @ rows / len(rows), rows.T @ colours.movedim(1, -1).reshape(-1, 3) / len(rows)
        if self._squares is None or self._products is None:
            self._squares, self._products = squares, products
        else:
            self._squares = MEMORY * self._squares + squares
            self._products = MEMORY * self._products + products

    def pictures(self, queue: Queue) -> np.ndarray | None:
        """uint8 (B, latents, h, w, 3) of what is still to leave the queue, the head first; None: there are no colours
        yet, or nothing is in the queue but known frames."""
        frames = queue.frames(self._layout)
        self._guesses = {frame: guess for frame, guess in self._guesses.items() if frame in frames}
        slots = shown_slots(queue, self._layout)
        if self._squares is None or self._products is None or not slots:
            return None
        latents = self._levels.latent(queue.latents_BCFHW)
        shown = torch.stack([self._guesses.get(frames[p], (0, latents[:, :, p]))[1] for p in slots], 1).float()
        squares = self._squares.double().cpu()
        ridge = RIDGE * squares.diagonal().mean() * torch.eye(len(squares), dtype=squares.dtype)
        colours = torch.linalg.solve(squares + ridge, self._products.double().cpu()).to(shown)
        pictures = _with_one(shown.flatten(0, 1)) @ colours
        batch, count, _, height, width = shown.shape
        return to_uint8(pictures.reshape(batch, count, height, width, 3).movedim(-1, 2).nan_to_num().clamp(0, 1))


def shown_slots(queue: Queue, layout: Layout) -> list[int]:
    """The padded slots of what is still to leave the queue; known frames are not."""
    frames = queue.frames(layout)
    return [p for p in range(layout.context, layout.size) if frames[p] >= max(0, queue.first_new)]


def _with_one(latents_BCHW: Tensor) -> Tensor:
    """(B h w, C + 1): the latents of each place, and 1."""
    rows = latents_BCHW.movedim(1, -1).flatten(0, -2)
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
