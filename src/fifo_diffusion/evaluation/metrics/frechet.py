"""Fréchet distance between sets of short clips, in a feature space that is always named.

Legend: B clips, F = 16 frames, H and W height and width, N samples, D features.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from fifo_diffusion.evaluation.feature_net import CLIP, FEATURES, as_pixels, shipped

AT_ONCE = 32
LONG_PART = 500


class FeatureSpace(Protocol):
    """Clips to features.

    Attributes:
        name: of the space; distances in two spaces have nothing to do with each other.
        size: D.
    """

    name: str
    size: int

    def __call__(self, clips_BFHWC: np.ndarray) -> np.ndarray:
        """uint8 clips of 16 frames to features (B, D), float64."""
        ...


class SmallFeatures:
    """The small network that comes with this package; see `feature_net`."""

    name, size = f"toybox-{FEATURES}", FEATURES

    def __init__(self) -> None:
        self._net = shipped()

    @torch.no_grad()
    def __call__(self, clips_BFHWC: np.ndarray) -> np.ndarray:
        return self._net(as_pixels(clips_BFHWC)).double().numpy()


class I3D:
    """I3D trained on Kinetics-400, from the TorchScript file that FVD is usually computed with (i3d_torchscript.pt).

    Args:
        path: that file. It takes clips (B, 3, F, H, W) of values 0 to 255 and the arguments rescale, resize and
            return_features.

    Raises:
        ValueError: no such file, or none that gives features.
    """

    name, size = "i3d-kinetics400", 400

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"--features {path}: there is no such file; give i3d_torchscript.pt, or leave it out")
        try:
            self._net = torch.jit.load(str(path), map_location="cpu").eval()
            self.size = self(np.zeros((1, CLIP, 32, 32, 3), np.uint8)).shape[1]
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"--features {path} is not the TorchScript file of I3D that FVD uses: {reason}") from error

    @torch.no_grad()
    def __call__(self, clips_BFHWC: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(clips_BFHWC)).permute(0, 4, 1, 2, 3).float()
        return self._net(pixels, rescale=True, resize=True, return_features=True).double().numpy()


def sliding_clips(frames_FHWC: np.ndarray, stride: int = 1) -> Iterator[np.ndarray]:
    """Windows of 16 frames, a batch (B, 16, H, W, 3) at a time."""
    starts = range(0, len(frames_FHWC) - CLIP + 1, stride)
    for first in range(0, len(starts), AT_ONCE):
        yield np.stack([frames_FHWC[s : s + CLIP] for s in starts[first : first + AT_ONCE]])


def features_of(space: FeatureSpace, frames_FHWC: np.ndarray, stride: int = 1) -> np.ndarray:
    """Features (N, D) of a video's sliding windows of 16 frames.

    Raises:
        ValueError: it is shorter.
    """
    if len(frames_FHWC) < CLIP:
        raise ValueError(f"a video of {len(frames_FHWC)} frames has no window of {CLIP}")
    return np.concatenate([space(clips) for clips in sliding_clips(frames_FHWC, stride)])


def frechet_distance(a_ND: np.ndarray, b_ND: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets of features (Heusel et al., arXiv 1706.08500).

    Raises:
        ValueError: too few samples for a covariance of D features.
    """
    for features in (a_ND, b_ND):
        check_enough(len(features), features.shape[1])
    mean, spread = zip(*((x.mean(0), np.cov(x.T)) for x in (a_ND, b_ND)), strict=True)
    root = _root(spread[0])
    values = np.linalg.eigvalsh(root @ spread[1] @ root)
    cross = np.sqrt(values.clip(0)).sum()
    return float(((mean[0] - mean[1]) ** 2).sum() + np.trace(spread[0]) + np.trace(spread[1]) - 2 * cross)


def check_enough(samples: int, size: int) -> None:
    """Raises ValueError where a Fréchet distance would be of covariances that are not full."""
    if samples <= size:
        raise ValueError(
            f"a Fréchet distance of {size} features needs more than {size} windows, not {samples}: add prompts, frames "
            "or base clips"
        )


def half_split_floor(groups: Sequence[np.ndarray], seed: int = 0, splits: int = 5) -> float:
    """The distance between two random halves of one set, the mean over some splits: what a distance of 0 looks like
    at this number of samples.

    Args:
        groups: features (N, D) that belong together, as those of one prompt: each half has as many of every group.
    """
    rng, distances = np.random.default_rng(seed), []
    for _ in range(splits):
        halves: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for group in groups:
            order, half = rng.permutation(len(group)), len(group) // 2
            halves[0].append(group[order[:half]])
            halves[1].append(group[order[half : 2 * half]])
        distances.append(frechet_distance(*map(np.concatenate, halves)))
    return float(np.mean(distances))


def without_each(references: Sequence[np.ndarray], videos: Sequence[np.ndarray]) -> list[float]:
    """Distances with one group (a prompt) left out of both sides, each in turn: `jackknife` makes an error of them.

    Args:
        references, videos: features (N, D) of each group.

    Raises:
        ValueError: a single group, or too few samples are left for a covariance of D features.
    """
    if len(references) < 2:
        raise ValueError("a single group cannot be left out")
    found = []
    for out in range(len(references)):
        sides = ([x for k, x in enumerate(groups) if k != out] for groups in (references, videos))
        found.append(frechet_distance(*map(np.concatenate, sides)))
    return found


def jackknife(left_out: Sequence[float]) -> float:
    """Standard error of a value, or of a difference, given what it is with each of n >= 2 groups left out (Tukey)."""
    values = np.asarray(left_out, dtype=float)
    return float(np.sqrt((len(values) - 1) * values.var()))


def over_time(reference_ND: np.ndarray, videos: Sequence[np.ndarray], parts: int = 6) -> list[tuple[int, float]]:
    """Distances of consecutive parts of the videos: (first window, distance). There are fewer parts where each would
    have too few windows, and more in videos of thousands of frames.

    Args:
        videos: features (N, D) of the sliding windows of each, of equal number.
    """
    count, size = len(videos[0]), reference_ND.shape[1]
    parts = max(1, min(max(parts, count // LONG_PART), count * len(videos) // (2 * size)))
    edges = np.linspace(0, count, parts + 1).astype(int)
    return [
        (int(a), frechet_distance(reference_ND, np.concatenate([video[a:b] for video in videos])))
        for a, b in pairwise(edges)
    ]


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
