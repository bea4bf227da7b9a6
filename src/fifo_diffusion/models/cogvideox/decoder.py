"""Streaming decoder and encoder of `AutoencoderKLCogVideoX`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.timing import LatentTiming


class CogVideoXDecoder(CausalDecoder):
    """Decodes latents two by two, the first three together, as the autoencoder itself does: what comes out is its
    decoding of the whole video. (With an even number of latents the stock `decode` groups them in another way: it then
    begins with two.)

    Args:
        vae: an `AutoencoderKLCogVideoX`. Its tiling and slicing are not used.
    """

    def __init__(self, vae: Any, timing: LatentTiming) -> None:
        # A norm over a group lets every convolution look one group further back.
        convolutions = [module for module in vae.decoder.modules() if getattr(module, "time_kernel_size", 1) > 1]
        super().__init__(vae, timing, len(convolutions), group=vae.num_latent_frames_batch_size, first_group=3)

    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        bring_to_device(self.vae)
        z = (1 / self.vae.config.scaling_factor * latents_BCFHW).to(self.vae.dtype)
        z = z if self.vae.post_quant_conv is None else self.vae.post_quant_conv(z)
        return self.vae.decoder(z, conv_cache=caches)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
