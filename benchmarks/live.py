"""Is the demo live? Seconds per frame of `make demo` as it is and as it was before presets, side by side.

    python benchmarks/live.py              # a few minutes on two idle cores; writes docs/results/live.json
    python benchmarks/live.py --name other # to another file

Both run in one process and take turns, one iteration of the queue each, decoding included; medians count. "before" is
toybox with two partitions, lookahead and guidance, "live" toybox-diagonal with the preset. The first frame is timed
from the loaded model on, in a process that has computed nothing before. Then the demo's video is written from its first
frame to its last, and its frames per second are held against those at which it plays.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import common

from fifo_diffusion import FIFO
from fifo_diffusion.video import open_writer

PROMPT = "a red robot walking to the right in the hills on a sunny day"
LIVE = ("toybox-diagonal", {"preset": "live", "windows_per_batch": 2})  # both windows of an iteration at once
BEFORE = ("toybox", {"num_partitions": 2})
SCALE = 4


class Run:
    """A loaded model and its stream, and how long its frames took.

    Attributes:
        load_seconds: until the model was there.
        first_frame_seconds: from then until its first frame.
        seconds: per frame, of each turn.
    """

    def __init__(self, model: str, arguments: dict[str, Any]) -> None:
        self.model, self.arguments = model, arguments
        began = time.perf_counter()
        self.fifo = FIFO.from_pretrained(model)
        loaded = time.perf_counter()
        self.stream = self.fifo.stream(PROMPT, seed=0, **arguments)
        next(self.stream)
        self.load_seconds, self.first_frame_seconds = loaded - began, time.perf_counter() - loaded
        self.seconds: list[float] = []

    def fill(self) -> None:
        """To the end of the clip that opens the video: from there on every frame costs the same."""
        while self.stream.frame_index < self.stream.settings.window:
            next(self.stream)

    def turn(self) -> None:
        """As many frames as one iteration makes."""
        frames, began = self.stream.settings.frames_per_level, time.perf_counter()
        for _ in range(frames):
            next(self.stream)
        self.seconds.append((time.perf_counter() - began) / frames)

    def row(self) -> dict[str, Any]:
        settings = self.stream.settings
        passes = 2 if settings.guidance_scale > 1 else 1
        return {
            "model": self.model,
            **self.arguments,
            "load_seconds": round(self.load_seconds, 2),
            "first_frame_seconds": round(self.first_frame_seconds, 2),
            "seconds_per_frame": round(statistics.median(self.seconds), 4),
            "frame_forwards_per_frame": passes * settings.queue_layout.frame_forwards_per_frame,
        }


def written(fifo: FIFO, frames: int) -> dict[str, Any]:
    """The demo's video, from the call to its last frame in the file."""
    times = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder, fifo.stream(PROMPT, seed=0, num_frames=frames, **LIVE[1]) as stream:
        path, fps = Path(folder) / "demo.mp4", stream.fps
        with open_writer(path, fps=fps, scale=SCALE, background=True) as writer:
            for frame in stream:
                writer.write(frame)
                times.append(time.perf_counter())
        seconds = time.perf_counter() - times[0]
    waits = [later - earlier for earlier, later in pairwise(times)]
    return {
        "frames": frames,
        "plays_at": fps,
        "seconds": round(seconds, 2),
        "frames_per_second": round(frames / seconds, 2),
        "times_real_time": round(frames / seconds / fps, 3),
        "first_frame_seconds": round(waits[0], 2),
        "longest_wait_for_a_further_frame_seconds": round(max(waits[1:]), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="turns")
    parser.add_argument("--frames", type=int, default=160, help="of the video that is written")
    parser.add_argument("--name", default="live")
    options = parser.parse_args()
    live, before = Run(*LIVE), Run(*BEFORE)  # in this order: nothing has warmed up for the first frame that counts
    for run in (live, before):
        run.fill()
    for _ in range(options.repeats):
        for run in (before, live):
            run.turn()
    rows = {"before": before.row(), "live": live.row()}
    ratio = rows["before"]["seconds_per_frame"] / rows["live"]["seconds_per_frame"]
    for name, row in rows.items():
        print(f"{name}: {row}")
    print(f"live is {ratio:.1f} times faster per frame")
    found = {"rows": rows, "times_faster_per_frame": round(ratio, 2), "demo": written(live.fifo, options.frames)}
    print(found["demo"])
    common.write(options.name, {"prompt": PROMPT, "repeats": options.repeats, **found})


if __name__ == "__main__":
    main()
