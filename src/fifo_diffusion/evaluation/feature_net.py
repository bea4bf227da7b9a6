"""A small network whose features stand for a clip of 16 frames: the feature space "toybox-32".

It was trained on the toybox world by training/features.py, on one CPU core within minutes: to tell what a clip shows,
how fast and where it moves, and how strongly it is spoiled (noise, flicker, blur, shaking, a cut). Distances in it are
comparable with each other only, not with those in I3D's features, and mean little on other pictures than toybox's.

Legend: B clips, F = 16 frames, H and W height and width.
"""

from importlib.resources import files
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CLIP = 16
SIZE = 64
FEATURES = 32
WIDTHS = (16, 32, 48, 48)


class FeatureNet(nn.Module):
    """Four convolutions over space and time, of the pictures and of their changes, and the mean and deviation over what
    is left: (B, 3, 16, 64, 64) to (B, 32)."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv3d(6, WIDTHS[0], (3, 6, 6), (1, 4, 4), (1, 1, 1))
        pairs = pairwise(WIDTHS)
        self.layers = nn.ModuleList([first, *(nn.Conv3d(a, b, 3, 2, 1) for a, b in pairs)])
        self.features = nn.Linear(2 * (WIDTHS[0] + WIDTHS[-1]), FEATURES)

    def forward(self, pixels_BCFHW: Tensor) -> Tensor:
        """Features of pixels in [-1, 1]."""
        change = F.pad(pixels_BCFHW.diff(dim=2), (0, 0, 0, 0, 1, 0))
        maps = [torch.cat([pixels_BCFHW, 2 * change], 1)]
        for layer in self.layers:
            maps.append(F.silu(layer(maps[-1])))
        seen = [maps[1].flatten(2), maps[-1].flatten(2)]  # fine texture is lost further up
        return self.features(torch.cat([pooled for m in seen for pooled in (m.mean(2), m.std(2))], 1))


def as_pixels(clips_BFHWC: np.ndarray) -> Tensor:
    """uint8 clips of any size to (B, 3, F, 64, 64) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(clips_BFHWC)).permute(0, 4, 1, 2, 3).float()
    if pixels.shape[-2:] != (SIZE, SIZE):
        pixels = F.interpolate(pixels, (pixels.shape[2], SIZE, SIZE), mode="area")
    return pixels / 127.5 - 1


def shipped() -> FeatureNet:
    """The trained network that comes with the package."""
    net = FeatureNet()
    weights = load_file(str(files("fifo_diffusion.evaluation") / "features.safetensors"))
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    return net.eval()
