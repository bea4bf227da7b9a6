"""The noise that enters at the tail, with low frequencies of the frame before it: coherent tail sampling, after
Ouroboros-Diffusion (arXiv 2501.09019, section 3.2). Not in FIFO-Diffusion's paper."""

import torch
from torch import Tensor

WIDTH = 0.25
"""Of the Gaussian low-pass filter, as a share of the highest frequency along each axis: FreeInit's d_s."""


def coherent_noise(fresh_BCFHW: Tensor, newest_BCHW: Tensor, strength: float) -> Tensor:
    """Noise with low frequencies of a latent in it, of the same variance.

    A frequency that the filter passes with weight l comes from the latent with weight l, and from the fresh noise with
    weight sqrt(1 - l^2). What comes from the latent is scaled to the energy that white noise has there, whatever the
    latent's own: so the noise has unit variance, in all channels and pixels together, for every frame.

    Args:
        fresh_BCFHW: standard normal noise of the frames that enter.
        newest_BCHW: the latent of the frame before them.
        strength: weight of the latent at frequency 0, above 0 and at most 1.
    """
    height, width = fresh_BCFHW.shape[-2:]
    passed = strength * _low_pass(height, width, fresh_BCFHW.device)
    kept = (1 - passed**2).sqrt()
    low = _filtered(newest_BCHW.float(), passed)
    wanted = (strength * _low_pass(height, width, fresh_BCFHW.device, half=False)).pow(2).mean()
    energy = low.pow(2).mean((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return (low * (wanted / energy).sqrt())[:, :, None] + _filtered(fresh_BCFHW, kept)


def _low_pass(height: int, width: int, device: torch.device, half: bool = True) -> Tensor:
    """The filter, 1 at frequency 0: (H, W // 2 + 1) for `rfft2`, or (H, W) for all frequencies."""
    y = 2 * torch.fft.fftfreq(height, device=device)
    x = 2 * (torch.fft.rfftfreq(width, device=device) if half else torch.fft.fftfreq(width, device=device))
    return torch.exp(-(y[:, None] ** 2 + x**2) / (2 * WIDTH**2))


def _filtered(latents: Tensor, weights: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(latents) * weights, s=latents.shape[-2:])
