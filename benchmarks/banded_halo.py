"""How far a frame hears in a banded pass: the queue cut in two parts that are computed apart, each with a halo.

    python benchmarks/banded_halo.py       # a minute; writes docs/results/banded_halo.json

For every length of the halo: the distance from the result of the whole queue, in norm, over all slots and over the
slot beside the cut, and how many frames go through the model. (In `FIFO` the queue is cut inside the layers instead,
which costs no further frames and shows by rounding only.)
"""

import argparse

import torch
from common import write

from fifo_diffusion import FIFO
from fifo_diffusion.method import BandedLayout, Bands, QueueLayout

PROMPT = "a red ball moving right on a navy background"


def bands_of_part(layout: QueueLayout, part: range) -> Bands:
    """The layout's bands, stopped at the ends of the part."""
    starts = (min(max(layout.bands[p].start, part.start), part.stop - layout.frames) - part.start for p in part)
    return tuple(range(start, start + layout.frames) for start in starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--halos", type=int, nargs="*", default=(4, 8, 12, 16, 20, 24, 28, 32))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fifo = FIFO.from_pretrained("toybox")
    model = fifo.model
    layout = BandedLayout(model.frames, args.partitions)
    levels = model.levels(layout.levels)
    level = torch.tensor([layout.slot_levels])
    clip = fifo(PROMPT, seed=0, num_frames=model.frames, num_partitions=1, output_type="latent").frames
    # The clip there and back, again and again, so that the queue holds what it would.
    order = torch.arange(layout.size) % (2 * model.frames - 2)
    clean = clip[:, :, torch.where(order < model.frames, order, 2 * model.frames - 2 - order)]
    latents = levels.renoise(clean, torch.randn_like(clean), level)
    condition = model.condition([PROMPT], height=64, width=64, guidance_scale=1.0)
    timestep, cut = levels.timestep[level], layout.size // 2

    def predict(part: range) -> torch.Tensor:
        bands, own = bands_of_part(layout, part), slice(part.start, part.stop)
        return model.predict_banded(latents[:, :, own], timestep[:, own], condition, bands=bands)

    whole, rows = predict(range(layout.size)), []
    for halo in args.halos:
        before, after = range(0, min(layout.size, cut + halo)), range(max(0, cut - halo), layout.size)
        found = torch.cat([predict(before)[:, :, :cut], predict(after)[:, :, cut - after.start :]], 2)
        error = found - whole
        rows.append(
            {
                "halo": halo,
                "frame_forwards": len(before) + len(after),
                "distance": float(error.norm() / whole.norm()),
                "distance_beside_the_cut": float(error[:, :, cut].norm() / whole[:, :, cut].norm()),
            }
        )
        print(rows[-1], flush=True)
    write("banded_halo", {"slots": layout.size, "partitions": args.partitions, "halos": rows})


if __name__ == "__main__":
    main()
