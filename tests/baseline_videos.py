"""What the tests of baselines share: small videos by each method, and their latents."""

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion import FIFO
from fifo_diffusion.baselines.stream import baseline_stream

STEPS, SMALL = 4, {"num_inference_steps": 4, "guidance_scale": 3.0, "window": 4, "seed": 3}


def video(fifo: FIFO, method: str, count: int, prompt="a red ball", **changes) -> np.ndarray:
    return np.stack(list(baseline_stream(fifo.model, method, prompt, num_frames=count, **SMALL | changes)))


def latents(fifo: FIFO, method: str, count: int, prompt="a red ball", **changes) -> Tensor:
    """Clean latents instead of frames."""
    stream = baseline_stream(fifo.model, method, prompt, num_frames=count, **SMALL | changes)
    parts = []
    with torch.no_grad():
        while stream._made < count:
            parts.append(stream._next_part())
    return torch.cat(parts, 2)[:, :, :count]
