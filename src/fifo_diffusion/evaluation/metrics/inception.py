"""Inception score of videos, given a classifier: of UCF-101's classes, as in the paper.

Legend: B clips, F = 16 frames, H and W height and width, N samples, K classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from fifo_diffusion.evaluation.feature_net import CLIP

SHORT_SIDE, SIDE, AT_ONCE = 128, 112, 16


class Classifier:
    """A video classifier as TorchScript, for UCF-101 usually C3D.

    Args:
        path: takes float32 clips (B, 3, 16, 112, 112), RGB of 0 to 255, and gives logits (B, K). What the network
            subtracts from its input is part of the file.

    Raises:
        ValueError: no such file, or it gives something else.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"--classifier {path}: there is no such file; give a TorchScript file, or leave it out")
        try:
            self._net = torch.jit.load(str(path), map_location="cpu").eval()
            found = self(np.zeros((2, CLIP, 32, 32, 3), np.uint8)).shape
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"--classifier {path} is no TorchScript file of a video classifier: {reason}") from error
        if len(found) != 2 or found[0] != 2 or found[1] < 2:
            raise ValueError(f"--classifier {path} gives {tuple(found)} for two clips, not logits (2, classes)")

    @torch.no_grad()
    def __call__(self, clips_BFHWC: np.ndarray) -> np.ndarray:
        """Probabilities (B, K), float64, of uint8 clips: brought to 128 pixels on the short side, the 112 in the
        middle."""
        batch, frames, height, width, _ = clips_BFHWC.shape
        pixels = torch.from_numpy(np.ascontiguousarray(clips_BFHWC)).flatten(0, 1).movedim(-1, 1).float()
        scale = SHORT_SIDE / min(height, width)
        size = [round(height * scale), round(width * scale)]
        pixels = interpolate(pixels, size, mode="bilinear", antialias=True)
        top, left = ((side - SIDE) // 2 for side in size)
        middle = pixels[..., top : top + SIDE, left : left + SIDE].unflatten(0, (batch, frames)).transpose(1, 2)
        return self._net(middle.contiguous()).double().softmax(-1).numpy()


def probabilities(classifier: Classifier, frames_FHWC: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of a video's stretches of 16 frames; what is left over after the last is not looked at.

    Raises:
        ValueError: it is shorter than one.
    """
    count = len(frames_FHWC) // CLIP
    if not count:
        raise ValueError(f"a video of {len(frames_FHWC)} frames has no stretch of {CLIP}")
    clips = frames_FHWC[: count * CLIP].reshape(count, CLIP, *frames_FHWC.shape[1:])
    return np.concatenate([classifier(clips[k : k + AT_ONCE]) for k in range(0, count, AT_ONCE)])


def inception_score(probabilities_NK: np.ndarray) -> float:
    """exp of the mean Kullback-Leibler divergence between each sample's classes and those of all samples (Salimans et
    al., arXiv 1606.03498): 1 where all samples look alike or like nothing, K at most."""
    mean = probabilities_NK.mean(0, keepdims=True)
    ratio = np.log(np.maximum(probabilities_NK, 1e-12)) - np.log(np.maximum(mean, 1e-12))
    return float(np.exp((probabilities_NK * ratio).sum(1).mean()))
