"""Streamed decoding of Open-Sora Plan's autoencoder against decoding the whole clip, on tiny random weights.

    python benchmarks/opensora_decoding.py

Latents move slowly, as clean ones do. For `PieceDecoder`, and for windows of 17 latents that start anew every 16 as in
the published FIFO code: the difference between neighbouring frames at the joins over that elsewhere (each place within
a latent by itself, the highest of the four), and the relative distance in norm to the whole decode. Random weights take
their norms over time more seriously than trained ones should. Writes docs/results/opensora_decoding.json.
"""

import common
import torch
from torch import Tensor

from fifo_diffusion.decoding.pieces import BLEND, MARGIN, SIZE, STRIDE, PieceDecoder
from fifo_diffusion.decoding.timing import LatentTiming
from fifo_diffusion.models.opensora.tiles import in_chunks
from fifo_diffusion.testing import distance
from fifo_diffusion.testing.tiny_opensora import autoencoder, latents, roughness

LATENTS = 44


@torch.no_grad()
def compared(seed: int, size: int) -> dict[str, float]:
    """Both ways for one autoencoder and one clip of `size` x `size` latents."""
    vae, z = autoencoder(seed), latents(LATENTS, size=size, seed=seed)
    whole = vae.decode(z)[0].transpose(0, 1)

    def decode(z: Tensor) -> Tensor:
        return vae.decode(z).transpose(1, 2)

    decoder = PieceDecoder(decode, LatentTiming(1, 4))
    streamed = torch.cat([decoder.push(z), decoder.flush()], 1)[0]
    restarted = in_chunks(vae.decode, z, SIZE)[0].transpose(0, 1)
    faded = [4 * (SIZE - MARGIN - BLEND + k * STRIDE) - 3 for k in range(LATENTS)]
    joins = [range(join, join + 4 * BLEND + 1) for join in faded]
    restarts = [range(start, start + 1) for start in range(4 * (SIZE - 1) + 1, len(whole), 4 * (SIZE - 1))]
    return {
        "size": size,
        "seed": seed,
        "joins": max(roughness(streamed, joins)),
        "difference": distance(streamed, whole),
        "published_joins": max(roughness(restarted, restarts)),
        "published_difference": distance(restarted, whole),
    }


def main() -> None:
    torch.set_num_threads(1)
    runs = [compared(seed, size) for size, seeds in ((2, 3), (4, 1)) for seed in range(seeds)]
    for run in runs:
        print({key: round(value, 3) for key, value in run.items()})
    common.write("opensora_decoding", {"latents": LATENTS, "piece": SIZE, "stride": STRIDE, "runs": runs})


if __name__ == "__main__":
    main()
