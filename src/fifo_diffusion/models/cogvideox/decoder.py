"""Streaming decoder and encoder of `AutoencoderKLCogVideoX`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fifo_diffusion.decoding.causal import CausalDecoder, bring_to_device
from fifo_diffusion.decoding.spatial_tiles import SpatialTiles
from fifo_diffusion.decoding.timing import LatentTiming


class CogVideoXDecoder(CausalDecoder):
    """Decodes latents two by two, the first three together, as the autoencoder itself does: what comes out is its
    decoding of the whole video. (With an even number of latents the stock `decode` groups them in another way: it then
    begins with two.)

    Args:
        vae: an `AutoencoderKLCogVideoX`, with its tiling and slicing as they are now.
    """

    def __init__(self, vae: Any, timing: LatentTiming) -> None:
        # A norm over a group lets every convolution look one group further back.
        convolutions = [module for module in vae.decoder.modules() if getattr(module, "time_kernel_size", 1) > 1]
        groups = {"group": vae.num_latent_frames_batch_size, "first_group": 3}
        super().__init__(vae, timing, len(convolutions), **groups, tiles=_tiles(vae) if vae.use_tiling else None)

    def decode(self, latents_BCFHW: Tensor, caches: Any) -> tuple[Tensor, Any]:
        bring_to_device(self.vae)
        z = (1 / self.vae.config.scaling_factor * latents_BCFHW).to(self.vae.dtype)
        z = z if self.vae.post_quant_conv is None else self.vae.post_quant_conv(z)
        return self.vae.decoder(z, conv_cache=caches)


def _tiles(vae: Any) -> SpatialTiles:
    size, sample = (
        (getattr(vae, f"tile_{of}_min_height"), getattr(vae, f"tile_{of}_min_width")) for of in ("latent", "sample")
    )
    overlap = vae.tile_overlap_factor_height, vae.tile_overlap_factor_width
    stride = int(size[0] * (1 - overlap[0])), int(size[1] * (1 - overlap[1]))
    blend = int(sample[0] * overlap[0]), int(sample[1] * overlap[1])
    return SpatialTiles(size, stride, blend, (sample[0] - blend[0], sample[1] - blend[1]))


class PairDecoder:
    """For CogVideoX 1.5, whose latents come in pairs, stacked as channels (B, 2 C, F, H, W): a `CogVideoXDecoder` gets
    them one by one, without the very first, which the pipeline drops too.

    Args:
        decoder: of single latents.
    """

    exact = tiling = True
    latency = 1

    def __init__(self, decoder: CogVideoXDecoder) -> None:
        self._decoder, self._begun = decoder, False

    def _singles(self, pairs_BCFHW: Tensor) -> Tensor:
        singles = pairs_BCFHW.transpose(1, 2).unflatten(2, (2, -1)).flatten(1, 2).transpose(1, 2)
        return singles if self._begun else singles[:, :, 1:]

    def push(self, latents_BCFHW: Tensor) -> Tensor:
        frames = self._decoder.push(self._singles(latents_BCFHW))
        self._begun = True
        return frames

    def skip(self, latents_BCFHW: Tensor) -> int:
        count = self._decoder.skip(self._singles(latents_BCFHW))
        self._begun = True
        return count

    def flush(self) -> Tensor:
        return self._decoder.flush()

    def state(self) -> dict[str, Tensor]:
        return self._decoder.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._decoder.load_state(state)
        self._begun = bool(state)


@torch.no_grad()
def encode(vae: Any, frames_FHWC: np.ndarray, device: torch.device) -> Tensor:
    """uint8 frames, one and then four for each further latent, to the mean latents, (1, C, F, H, W) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(3, 0, 1, 2)[None].to(device)
    latents = vae.encode((pixels.float() / 127.5 - 1).to(vae.dtype)).latent_dist.mode()
    return latents.float() * vae.config.scaling_factor
