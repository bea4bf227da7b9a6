"""Streaming decoder of `AutoencoderKLWan`: every convolution looks at a few earlier frames, which are kept.

The stock `decode` goes latent by latent too, with caches that it throws away at the end. Here they belong to the
decoder object, so that several videos may be decoded in turns, and also with the pipeline's own.
"""

from collections import deque
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor


class WanDecoder:
    """One latent in, one frame (the first of a video) or four out: exactly what decoding the whole clip gives.

    Remembered are also the last latents, as many as a frame depends on: from them the caches, which are large, are made
    anew after `skip` or `load_state`.

    Args:
        vae: an `AutoencoderKLWan`, 2.1 or 2.2. Its tiling and slicing are not used.
    """

    latency = 0
    exact = True

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self._past: deque[Tensor] = deque(maxlen=latents_in_sight(vae.decoder))
        self._caches: list[Any] | None = None  # None: to be made from the past

    @torch.no_grad()
    def push(self, latents_BCFHW: Tensor) -> Tensor:
        if self._caches is None:
            self._caches = [None] * sum(_is_causal(module) for module in self.vae.decoder.modules())
            for index, latent in enumerate(self._past):
                self._decode(latent, first=index == 0)
        frames = []
        for latent in latents_BCFHW.split(1, 2):
            frames.append(self._decode(latent, first=not self._past))
            self._past.append(latent)
        video = torch.cat(frames, 2).float().transpose(1, 2)
        return (video / 2 + 0.5).clamp(0, 1)

    def skip(self, latents_BCFHW: Tensor) -> int:
        begins, count = not self._past, latents_BCFHW.shape[2]
        self._past.extend(latents_BCFHW.split(1, 2))
        self._caches = None
        further = self.vae.config.scale_factor_temporal
        return count * further - (further - 1 if begins and count else 0)

    def flush(self) -> Tensor:
        return torch.empty(0)

    def state(self) -> dict[str, Tensor]:
        return {"past": torch.cat([*self._past], 2)} if self._past else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._past.clear()
        self._caches = None
        if "past" in state:
            self._past.extend(state["past"].split(1, 2))

    def _decode(self, latent_BC1HW: Tensor, *, first: bool) -> Tensor:
        """(B, 3, frames, H, W) in [-1, 1], as `AutoencoderKLWan._decode` does it for each latent."""
        vae = self.vae
        _bring(vae)
        z = vae.post_quant_conv(denormalized(vae, latent_BC1HW))
        # A dictionary: only given where it says something, as older versions of diffusers do not know it.
        told = {"first_chunk": True} if first and vae.config.get("is_residual") else {}
        frames = vae.decoder(z, feat_cache=self._caches, feat_idx=[0], **told)
        if vae.config.get("patch_size"):
            from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

            frames = unpatchify(frames, patch_size=vae.config.patch_size)
        return frames.clamp(-1, 1)


def latents_in_sight(decoder: torch.nn.Module) -> int:
    """How many latents, the present one among them, a frame depends on: the reach of all causal convolutions, in order,
    with time becoming finer on the way."""
    reach, frames_per_latent = 0.0, 1
    for name, module in decoder.named_modules():
        if _is_causal(module):
            reach += (module.kernel_size[0] - 1) / frames_per_latent
            if name.endswith("time_conv"):
                frames_per_latent *= 2
    return ceil(reach) + 2  # the first latent of the past is decoded as the first of a video


def denormalized(vae: Any, latents_BCFHW: Tensor) -> Tensor:
    """Latents as the autoencoder has them, from those of the transformer; in the autoencoder's precision."""
    latents = latents_BCFHW.to(vae.dtype)
    mean, inverse_std = _statistics(vae, latents)
    return latents / inverse_std + mean


@torch.no_grad()
def encode_causal(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode().float()
    mean, inverse_std = _statistics(vae, latents)
    return (latents - mean) * inverse_std


def _statistics(vae: Any, like_BCFHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each channel, as the pipelines compute them."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(like_BCFHW)
    return mean, 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(like_BCFHW)


def _is_causal(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "WanCausalConv3d"


def _bring(module: torch.nn.Module) -> None:
    """With `enable_model_cpu_offload` a hook brings the module to the GPU, but only for its public methods."""
    hook = getattr(module, "_hf_hook", None)
    if hasattr(hook, "pre_forward"):
        hook.pre_forward(module)
