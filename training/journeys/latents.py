"""The fixed linear encoder that defines the latents: principal components of square patches of pixels.

    python -m journeys.latents --out work/latents.npz --size 128 --patch 16 --channels 24

It prints the decibels of the linear reconstruction, a floor for what the trained decoder (`autoencoder.py`) reaches.
No encoder has to run while the denoiser is trained, and the latents are near-Gaussian.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from journeys.words import draw_labels
from journeys.world import PERIOD, render

WHITENING = 0.7
"""Each component is divided by its standard deviation to this power: 1 would make noise of all alike."""


@dataclass(frozen=True)
class Latents:
    """Pixels (.., size, size, 3) <-> latents (.., grid, grid, channels).

    Args:
        size: pixels of a frame.
        patch: pixels of a cell.
        mean: of a patch in [-1, 1], (3 patch^2,).
        basis: (3 patch^2, channels).
    """

    size: int
    patch: int
    mean: np.ndarray
    basis: np.ndarray

    @property
    def grid(self) -> int:
        return self.size // self.patch

    @property
    def channels(self) -> int:
        return self.basis.shape[1]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """uint8 frames (.., size, size, 3) -> float32 latents (.., channels, grid, grid)."""
        flat = _patches(frames.astype(np.float32) / 127.5 - 1, self.patch)
        return np.ascontiguousarray(np.moveaxis((flat - self.mean) @ self.basis, -1, -3))

    def decode_linear(self, latents: np.ndarray) -> np.ndarray:
        """The best linear reconstruction, float32 in [-1, 1] as patches (.., grid, grid, 3 patch^2)."""
        return np.moveaxis(latents, -3, -1) @ np.linalg.pinv(self.basis) + self.mean

    def linear_decibels(self, frames: np.ndarray) -> float:
        """Peak signal-to-noise ratio of the linear reconstruction."""
        wanted = _patches(frames.astype(np.float32) / 127.5 - 1, self.patch)
        return float(10 * np.log10(4 / np.mean((self.decode_linear(self.encode(frames)) - wanted) ** 2)))

    def save(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, size=self.size, patch=self.patch, mean=self.mean, basis=self.basis)


def load(path: str | Path) -> Latents:
    """What `Latents.save` wrote."""
    with np.load(path) as file:
        return Latents(int(file["size"]), int(file["patch"]), file["mean"], file["basis"])


def fit(size: int = 128, patch: int = 16, channels: int = 24, images: int = 1500, seed: int = 3) -> Latents:
    """Principal components of patches of the world."""
    frames = draw_frames(np.random.default_rng(seed), images, size, None)
    flat = _patches(frames.astype(np.float32) / 127.5 - 1, patch).reshape(-1, 3 * patch**2)
    mean = flat.mean(0)
    values, vectors = np.linalg.eigh(np.cov((flat - mean).T))
    deviation, vectors = np.sqrt(values[::-1][:channels]), vectors[:, ::-1][:, :channels]
    scale = deviation**WHITENING
    scale *= np.sqrt(np.mean((deviation / scale) ** 2))  # mean variance 1
    return Latents(size, patch, mean.astype(np.float32), (vectors / scale).astype(np.float32))


def draw_frames(rng: np.random.Generator, count: int, size: int, held: bool | None) -> np.ndarray:
    """Single frames of random journeys, uint8 (count, size, size, 3)."""
    return np.concatenate([render(draw_labels(rng, held), int(rng.integers(PERIOD)), 1, size) for _ in range(count)])


def _patches(frames: np.ndarray, patch: int) -> np.ndarray:
    """(.., H, W, 3) -> (.., H / patch, W / patch, 3 patch^2)."""
    *lead, height, width, _ = frames.shape
    cells = frames.reshape(*lead, height // patch, patch, width // patch, patch, 3).swapaxes(-4, -3)
    return cells.reshape(*lead, height // patch, width // patch, 3 * patch**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/latents.npz")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--patch", type=int, default=16, choices=(8, 16))
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--images", type=int, default=1500)
    args = parser.parse_args()
    latents = fit(args.size, args.patch, args.channels, args.images)
    latents.save(args.out)
    held = draw_frames(np.random.default_rng(77), 64, args.size, True)
    print(f"{latents.grid}x{latents.grid}x{latents.channels}, linear {latents.linear_decibels(held):.2f} dB (held out)")


if __name__ == "__main__":
    main()
