"""How much a video of any kind moves: the mean length of its optical flow.

The flow is that of Lucas and Kanade (1981), dense, over a pyramid of resolutions, in PyTorch: no library is needed.
Flat areas have no flow: there it is 0, as no movement can be seen.

Legend: P pairs of neighbouring frames, H and W height and width.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, ROUNDS, SMALLEST = 7, 4, 16
PAIRS_AT_ONCE = 32


def measure(frames_FHWC: np.ndarray, prompt: str) -> dict[str, Any]:
    """Mean optical flow, pixels per frame."""
    return {"motion": float(flow_magnitudes(frames_FHWC).mean())}


def flow(first_PHW: Tensor, second_PHW: Tensor) -> Tensor:
    """Where each pixel of the first pictures is found in the second ones: (P, 2, H, W) pixels to the right and down.

    Args:
        first_PHW, second_PHW: grey pictures, 0 to 255.
    """
    pyramid = [(first_PHW[:, None], second_PHW[:, None])]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * SMALLEST:
        pyramid.append(tuple(F.avg_pool2d(picture, 2) for picture in pyramid[-1]))
    found = torch.zeros(len(first_PHW), 2, *pyramid[-1][0].shape[-2:])
    for a, b in reversed(pyramid):
        if found.shape[-2:] != a.shape[-2:]:
            found = 2 * F.interpolate(found, a.shape[-2:], mode="bilinear", align_corners=False)
        across, down = _gradients(a)
        xx, xy, yy = (_mean(value) for value in (across * across, across * down, down * down))
        xx, yy = xx + 4, yy + 4  # what has less contrast than this is noise
        for _ in range(ROUNDS):
            change = _warped(b, found) - a
            x, y = _mean(across * change), _mean(down * change)
            step = torch.cat([xy * y - yy * x, xy * x - xx * y], 1) / (xx * yy - xy * xy)
            found = found + step.clamp(-1, 1)
    return found


def flow_magnitudes(frames_FHWC: np.ndarray) -> np.ndarray:
    """Mean length of the optical flow from each frame to the next (F - 1), in pixels."""
    grey = torch.from_numpy(frames_FHWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    pairs = zip(grey[:-1].split(PAIRS_AT_ONCE), grey[1:].split(PAIRS_AT_ONCE), strict=True)
    return torch.cat([flow(a, b).norm(dim=1).mean((1, 2)) for a, b in pairs]).numpy()


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, WINDOW, 1, WINDOW // 2, count_include_pad=False)


def _warped(picture: Tensor, by: Tensor) -> Tensor:
    """The picture read at places shifted by a flow."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (x + by[:, 0] + 0.5) * 2 / width - 1, (y + by[:, 1] + 0.5) * 2 / height - 1
    return F.grid_sample(picture, torch.stack([x, y], -1), padding_mode="border", align_corners=False)
