"""The noise that enters at the tail, with low frequencies of the frame before it: coherent tail sampling, after
Ouroboros-Diffusion (arXiv 2501.09019, section 3.2). Not in FIFO-Diffusion's paper."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WIDTH = 0.25
"""Of the Gaussian low-pass filter, as a share of the highest frequency along each axis: FreeInit's d_s."""


@dataclass(frozen=True)
class Tail:
    """What enters at the tail of a queue. The default is the paper's white noise.

    Attributes:
        coherent: strength of the low frequencies that entering noise has of the frame before it, 0 to 1.
        reference: share of the reference in these, by energy, 0 to 1.
        adain: how far their statistics are moved to those of the reference, 0 to 1.
        draws: of the noise, among which one is chosen (`draws.py`); 1: none is.
        every: frames from one choice to the next.
        threshold: of the agreement of the first draw, below which further ones are tried; 0: always.
    """

    coherent: float = 0.0
    reference: float = 0.0
    adain: float = 0.0
    draws: int = 1
    every: int = 1
    threshold: float = 0.0

    @classmethod
    def of(cls, settings: Any) -> "Tail":
        """That of the settings of a stream, completed (`fifo_diffusion.settings.TailSettings`)."""
        s = settings
        every = s.window if s.tail_every is None else s.tail_every
        return cls(s.coherent_tail, s.tail_reference, s.tail_adain, s.tail_draws, every, s.tail_threshold)

    @property
    def refers(self) -> bool:
        """Whether there must be a reference."""
        return bool(self.reference or self.adain)


PLAIN = Tail()
"""The paper's."""


def towards_reference(
    newest_BCHW: Tensor, clean_BCHW: Tensor, noise_BCHW: Tensor, alpha: float, sigma: float, tail: Tail
) -> Tensor:
    """What low frequencies are taken from: the newest frame, and a reference at the same noise level.

    A share r of the energy is the reference's, alpha x0 + sigma e with noise e of its own that never changes. Then mean
    and deviation of each channel over the picture are moved, by the factor `adain`, to those that the reference has at
    that level in expectation over e: alpha m and sqrt(alpha^2 s^2 + sigma^2), with m and s those of x0. So the noise in
    the reference does not count there.

    Args:
        newest_BCHW: the latent of the newest frame.
        clean_BCHW, noise_BCHW: x0 and e of the reference.
        alpha, sigma: of the newest frame's level; 1 and 0 where it is clean.
    """
    found, over = newest_BCHW.float(), (-2, -1)
    if tail.reference:
        reference = alpha * clean_BCHW + sigma * noise_BCHW
        found = (1 - tail.reference) ** 0.5 * found + tail.reference**0.5 * reference
    if tail.adain:
        mean, deviation = found.mean(over, keepdim=True), found.std(over, correction=0, keepdim=True).clamp_min(1e-6)
        wanted = alpha * clean_BCHW.mean(over, keepdim=True)
        spread = (alpha**2 * clean_BCHW.var(over, correction=0, keepdim=True) + sigma**2).sqrt()
        found = found + tail.adain * ((found - mean) / deviation * spread + wanted - found)
    return found


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
