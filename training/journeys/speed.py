"""What candidates cost on this machine: a training step, a frame of the queue, a decoded frame. Processor seconds.

    python -m journeys.speed --threads 1

The queue has four levels, blocks of four frames, lookahead and no guidance: 8 frame-forwards and a decoded frame for
every frame that leaves. Wall seconds mean something only on an idle machine; processor seconds of one thread anywhere.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from model import predict, speed_up

from journeys.latents import Latents
from journeys.networks import make_unet, make_vae
from journeys.text import LENGTH, WIDTH

CANDIDATES = {
    "128 px, 8x8x24, (64, 128)": (128, 16, 24, (64, 128)),
    "128 px, 8x8x24, (96, 160)": (128, 16, 24, (96, 160)),
    "96 px, 12x12x12, (64, 128)": (96, 8, 12, (64, 128)),
    "96 px, 12x12x12, (48, 96, 160)": (96, 8, 12, (48, 96, 160)),
}
FORWARDS = 8


def cost(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Processor and wall seconds of one call: the least of some."""
    work()
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return tuple(np.min(found, 0).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text = torch.randn(1, LENGTH, WIDTH)
    for name, (size, patch, channels, widths) in CANDIDATES.items():
        grid = size // patch
        basis = np.zeros((3 * patch**2, channels), np.float32)
        vae = make_vae(Latents(size, patch, basis[:, 0], basis)).eval()
        unet = speed_up(make_unet(grid, channels, widths).eval())
        x, z = torch.randn(1, channels, 16, grid, grid), torch.randn(1, channels, grid, grid)
        level = torch.full((1, 16), 500)

        def forward(unet=unet, x=x, level=level):
            with torch.no_grad():
                return predict(unet, x, level, text)

        def decode(vae=vae, z=z):
            with torch.no_grad():
                return vae.decode(z).sample

        def train(unet=unet, x=x, level=level):
            predict(unet, x, level, text).pow(2).mean().backward()

        window, frame, step = cost(forward, args.repeats), cost(decode, args.repeats), cost(train, args.repeats)
        millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (unet, vae)]
        queue = [FORWARDS * w / 16 + d for w, d in zip(window, frame, strict=True)]
        print(f"{name}: U-Net {millions[0]:.1f} M, autoencoder {millions[1]:.1f} M")
        print(f"  8 frame-forwards {500 * window[0]:.0f} ms, decoding {1000 * frame[0]:.0f} ms of the processor")
        print(
            f"  queue: processor {1000 * queue[0]:.0f}, wall {1000 * queue[1]:.0f} ms a frame, "
            f"{1 / queue[1]:.1f} frames/s"
        )
        print(f"  training: {step[0]:.2f} s of the processor a clip", flush=True)


if __name__ == "__main__":
    main()
