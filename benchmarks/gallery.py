"""The moving pictures of README and docs/gallery.md, made by toybox-diagonal.

python benchmarks/gallery.py                # all: docs/images/live.webp and docs/images/gallery-*.webp
python benchmarks/gallery.py live           # README's: a video beside the queue that it comes out of
python benchmarks/gallery.py change         # one picture of docs/gallery.md: the commands above it are run

Each picture of docs/gallery.md stands below the commands that make it. A picture shows the videos of those commands
that no later one starts from, side by side.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import common
import numpy as np
from PIL import Image

IMAGES, PAGE = common.IMAGES, common.DOCS / "gallery.md"
PROMPT = "a red robot walking to the right in the hills on a sunny day"
EVERY = 3
"""Pixels of a picture for one of toybox's, in the gallery."""

_ENTRY = re.compile(r"```bash\n((?:(?!```).)*?)```\s+!\[[^\]]*\]\(images/gallery-([\w-]+)\.webp\)", re.S)


def entries(page: str) -> dict[str, str]:
    """Name of each picture of the page: the commands that make it."""
    return {name: commands for commands, name in _ENTRY.findall(page)}


def enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """(H, W, 3), every pixel as a square."""
    return picture.repeat(times, 0).repeat(times, 1)


def write(name: str, frames: Iterable[np.ndarray], quality: int) -> None:
    """Frames (H, W, 3) as docs/images/NAME.webp, ten in a second."""
    first, *others = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.webp"
    first.save(path, save_all=True, append_images=others, duration=100, loop=0, quality=quality, method=6)
    print(f"wrote {path}: {1 + len(others)} frames, {path.stat().st_size // 1000} KB")


def live(count: int) -> None:
    """Left: the frames that come out. Right: the queue, a row for each noise level and the next frames on top: each as
    the model guesses it, and the last row, which has only entered, as the noise that it is."""
    import torch

    from fifo_diffusion import FIFO
    from fifo_diffusion.decoding.frames import to_uint8

    fifo = FIFO.from_pretrained("toybox-diagonal")
    skipped = 32  # until the opening clip is out and the queue is full
    stream = fifo.stream(PROMPT, preset="live", num_frames=skipped + count, seed=0)
    stream.preview()  # takes notes from here on
    frames, grid, shown = [], None, -1
    for number, frame in enumerate(stream):
        if number < skipped:
            continue
        if stream.iteration != shown:
            shown, per_level = stream.iteration, stream.slots // stream.levels
            latents = stream._levels.latent(stream._queue.latents_BCFHW)
            guesses, numbers = stream._preview._guesses, stream._queue.frames(stream._layout)
            seen = [guesses.get(n, (0, latents[:, :, k]))[1] for k, n in enumerate(numbers)][-stream.slots :]
            pictures = list(to_uint8(fifo.model.decoder().push(torch.stack(seen, 2)))[0])
            rows = [np.concatenate(pictures[k : k + per_level], 1) for k in range(0, len(pictures), per_level)]
            grid = np.concatenate(rows)
        gap = np.full((grid.shape[0], 16, 3), 255, np.uint8)
        frames.append(np.concatenate([enlarged(frame, grid.shape[0] // frame.shape[0]), gap, grid], 1))
    write("live", frames, quality=60)


def videos(commands: str, folder: Path) -> list[Path]:
    """Run the commands in a folder; the videos that none of them starts from."""
    own = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", commands], cwd=folder, env=environment, check=True)
    made = re.findall(r"-o (\S+\.mp4)", commands)
    return [folder / name for name in made if f"--start {name}" not in commands]


def side_by_side(files: Sequence[Path]) -> list[np.ndarray]:
    """The frames of videos of equal length, each in the gallery's size."""
    from fifo_diffusion.video import read_frames

    columns = []
    for file in files:
        frames = [frame[:: frame.shape[0] // 64, :: frame.shape[1] // 64] for frame in read_frames(file)]
        columns.append([enlarged(frame, EVERY if len(files) == 1 else EVERY - 1) for frame in frames])
    return [np.concatenate(row, 1) for row in zip(*columns, strict=True)]


def main() -> None:
    commands = entries(PAGE.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["live", *commands], default=[])
    parser.add_argument("--frames", type=int, default=80, help="of README's picture")
    given = parser.parse_args()
    for what in given.what or ["live", *commands]:
        if what == "live":
            live(given.frames)
            continue
        with tempfile.TemporaryDirectory() as folder:
            write(f"gallery-{what}", side_by_side(videos(commands[what], Path(folder))), quality=70)


if __name__ == "__main__":
    sys.exit(main())
