"""A contact sheet of the world that the model is trained on (`fifo_diffusion.toybox.world`).

python training/world.py --sheet work/world.png
"""

import argparse

import numpy as np
from sheets import save_sheet

from fifo_diffusion.toybox.world import FAMILIES, FRAMES, make_clip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", default="work/world.png")
    parser.add_argument("--rows", type=int, default=18)
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    kinds = [name for name in FAMILIES for _ in range(args.rows // 3)]
    clips = [make_clip(generator, FRAMES, kind) for kind in kinds]
    print("\n".join(text for _, text, _ in clips))
    save_sheet([clip for clip, _, _ in clips], args.sheet)
