"""FIFO-Diffusion (Kim et al., arXiv 2405.11473): Algorithms 1, 3 and 4.

The solver's step Phi is `phi`, the denoiser `predict`; x are the latents of the queue before an iteration, y after it.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fifo_diffusion.method.layout import Layout, Window
from fifo_diffusion.method.levels import NoiseLevels, phi
from fifo_diffusion.method.noise import Noise
from fifo_diffusion.method.queue import Queue

Predict = Callable[[Tensor, Tensor, Sequence[Sequence[int]]], Tensor]
"""`predict(latents_BCFHW, timestep_BF, frames)`: the model after guidance. Timesteps are what `NoiseLevels.told` says.
`frames` has one list of f frame numbers per window (with banded lookahead there is one, of more than f); rows are
window by window, and within a window video by video (B = windows x videos)."""

Texts = Callable[[Sequence[int]], Sequence[int]]
"""`texts(frames)`: of each frame, by a number other than 0, the text that it has in this iteration."""

Run = Callable[[Sequence[Window], Callable[[Sequence[Window]], None], Tensor], None]
"""`run(windows, denoise, y_BCFHW)`: calls `denoise` with some of the windows at a time, or fills y in otherwise."""


def one_by_one(windows: Sequence[Window], denoise: Callable[[Sequence[Window]], None], _y: Tensor) -> None:
    """The plain way to execute the windows of an iteration."""
    for window in windows:
        denoise([window])


def one_text(frames: Sequence[int]) -> Sequence[int]:
    """Where all frames have the same text, always."""
    return (1,) * len(frames)


def diagonal_denoising(
    queue: Queue,
    layout: Layout,
    levels: NoiseLevels,
    predict: Predict,
    noise: Noise,
    run: Run = one_by_one,
    texts: Texts = one_text,
) -> Iterator[tuple[int, Tensor]]:
    """Algorithm 1 (n = 1), with latent partitioning (Algorithm 3) and lookahead (Algorithm 4), or another layout.

    Changes `queue`, which already stands at the next iteration when an item is handed out, to be saved and continued.
    Yields, without end, the number of the first frame that leaves and the latents (B, C, b, H, W) of those that do;
    known frames, and those that were enqueued to warm up, come out too. `run` executes the windows of an iteration;
    `texts` is asked where `levels` keep what was predicted (`CachedLayout`).
    """
    while True:
        x, frames, now = queue.read(layout, levels, noise), queue.numbers(layout), queue.step(layout)
        if levels.keeps_clean:
            told = texts(frames)
            now = queue.computed(now, layout, told)
        y, level, target = x.clone(), torch.tensor(now.levels), torch.tensor(now.targets)

        def step(w: Window, prediction: Tensor | None, x=x, y=y, frames=frames, level=level, target=target) -> None:
            moves, numbers = (level[w.write], target[w.write]), [frames[p] for p in w.writes]
            y[:, :, w.write] = phi(levels, x[:, :, w.write], prediction, *moves, numbers, noise)

        def denoise(windows: Sequence[Window], x=x, frames=frames, level=level, target=target, step=step) -> None:
            """All from the snapshot x: no window sees what another one writes."""
            for w in (w for w in windows if w.reuse):
                step(w, None)
            windows = [w for w in windows if not w.reuse]
            if not windows:
                return
            latents = torch.cat([levels.latent(x)[:, :, w.read] for w in windows])
            reads = [torch.stack([of[w.read] for w in windows]).repeat_interleave(len(x), 0) for of in (level, target)]
            outputs = predict(latents, levels.told(*reads), [[frames[p] for p in w.reads] for w in windows])
            for w, output in zip(windows, outputs.chunk(len(windows)), strict=True):
                step(w, output[:, :, w.kept])

        run(now.windows, denoise, y)
        left = queue.advance(x, y, layout, levels, noise)  # dequeue the head, shift, enqueue noise
        if levels.keeps_clean:
            queue.note(now, layout, told)
        yield left
