"""A video through the package's own runner, with a progress line of your own: `python examples/run.py ball.mp4`.

What you get by it over `write_video`: a state to go on from, events, and a stop that keeps what is there.
"""

import sys
from pathlib import Path

from fifo_diffusion import FIFO, RunState
from fifo_diffusion.jobs.events import FrameDone
from fifo_diffusion.jobs.job import Job
from fifo_diffusion.jobs.run import run


def main(output: str, num_frames: int = 60) -> None:
    saved = Path(output).with_suffix(".state")
    with FIFO.from_pretrained("toybox") as fifo:
        job = Job(
            fifo,
            output,
            "a red ball moving right on a navy background",
            num_frames=num_frames,
            arguments={"seed": 0, "num_partitions": 1, "lookahead": False},
            state_file=saved,
            state=RunState.load(saved) if saved.exists() else None,  # typed again, it goes on
        )

        def show(event):
            if isinstance(event, FrameDone):
                print(f"\r{event.frames} of {job.num_frames}", end="", file=sys.stderr)

        result = run(job, on_event=show)
    print(f"\n{result.frames} frames in {result.output}, {result.made} of them made now")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
