"""The fixed linear encoder that defines the latents: PCA of 8x8 pixel patches, 64x64x3 -> 8 channels of 8x8.

    python training/latents.py --out work/latents.npz

No training, no encoding pass, near-Gaussian latents. The autoencoder is trained to agree with it (decoder.py).
"""

import argparse
from pathlib import Path

import numpy as np

PATCH, CHANNELS, WHITENING = 8, 8, 0.7

Basis = dict[str, np.ndarray]


def patches(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 3) -> (..., H / 8, W / 8, 192)."""
    *lead, height, width, _ = frames.shape
    cells = frames.reshape(*lead, height // PATCH, PATCH, width // PATCH, PATCH, 3).swapaxes(-4, -3)
    return cells.reshape(*lead, height // PATCH, width // PATCH, PATCH * PATCH * 3)


def fit(images: int = 2000, seed: int = 3) -> Basis:
    """Principal components of patches of the world, each divided by its standard deviation to the power 0.7."""
    from fifo_diffusion.toybox.world import make_clip

    rng = np.random.default_rng(seed)
    frames = np.stack([make_clip(rng, 1, held=None)[0][0] for _ in range(images)])
    flat = patches(frames.astype(np.float32) / 127.5 - 1).reshape(-1, PATCH * PATCH * 3)
    mean = flat.mean(0)
    values, vectors = np.linalg.eigh(np.cov((flat - mean).T))
    deviation, vectors = np.sqrt(values[::-1][:CHANNELS]), vectors[:, ::-1][:, :CHANNELS]
    scale = deviation**WHITENING
    scale *= np.sqrt(np.mean((deviation / scale) ** 2))  # mean variance 1
    return {"mean": mean.astype(np.float32), "basis": (vectors / scale).astype(np.float32)}


def load(path: str | Path) -> Basis:
    with np.load(path) as file:
        return {key: file[key] for key in file}


def encode(frames: np.ndarray, basis: Basis) -> np.ndarray:
    """uint8 frames (..., 64, 64, 3) -> float32 latents (..., 8, 8, 8), the channel last."""
    return (patches(frames.astype(np.float32) / 127.5 - 1) - basis["mean"]) @ basis["basis"]


def linear_quality(frames: np.ndarray, basis: Basis) -> float:
    """Decibels of the best linear reconstruction: a floor for what the trained decoder reaches."""
    latents = encode(frames, basis)
    back = latents @ np.linalg.pinv(basis["basis"]) + basis["mean"]
    error = back - patches(frames.astype(np.float32) / 127.5 - 1)
    return float(10 * np.log10(4 / np.mean(error**2)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/latents.npz")
    args = parser.parse_args()
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, **fit())
