"""A contact sheet of the world: for every place a row of journeys, then some clips, every second frame.

python -m journeys.sheet --out work/journeys.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from journeys.words import COLORS, PLACES, TIMES, WEATHERS, caption, factors
from journeys.world import PERIOD, SIZE, make_clip, render


def varied(place: str, columns: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """Labels that go through characters, colours, times and weathers of one place."""
    found, ways = [], factors(place)
    for k in range(columns):
        wanted = {
            "character": ways["character"][k % len(ways["character"])],
            "color": tuple(COLORS)[(k + int(rng.integers(6))) % 6],
            "direction": ("right", "left")[k // 4 % 2],
            "place": place,
            "time": tuple(TIMES)[k % 4],
            "weather": tuple(WEATHERS)[(k % 4 + k // 4 * 2) % 4],
        }
        found.append({name: value for name, value in wanted.items() if name == "place" or name in ways})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/journeys.png")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4, help="rows with a clip, every second frame")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, rows = np.random.default_rng(args.seed), []
    for place in PLACES:
        journeys = varied(place, args.columns, rng)
        rows.append(np.concatenate([render(labels, int(rng.integers(PERIOD)), 1, args.size) for labels in journeys]))
        print(caption(journeys[0], rng))
    for _ in range(args.clips):
        frames, text, _ = make_clip(rng, 2 * args.columns, args.size, held=None)
        rows.append(frames[::2])
        print(text)
    picture = Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows]))
    if args.scale != 1:
        picture = picture.resize((picture.width * args.scale, picture.height * args.scale), Image.Resampling.NEAREST)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)  # a palette keeps the file small


if __name__ == "__main__":
    main()
