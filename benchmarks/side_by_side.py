"""CPU time per frame of two versions of this program, in turns in one run: did a change make frames slower?

    git worktree add /tmp/before COMMIT
    python benchmarks/side_by_side.py /tmp/before .                          # toybox, the demo's setting
    python benchmarks/side_by_side.py /tmp/before . --stream '{"lookahead": false}' --rounds 60

Each version has a process of its own, with one thread, which is asked for some frames and then waits for the other:
what the machine does beside hits both alike. Time is CPU time of the process, frames are compared bit by bit. Prints
JSON, and writes it with `--out`: for each version the median and the quartiles over the rounds, and the same for the
ratio of the second version to the first, round by round.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROMPT = "a red robot walking to the right in the hills on a sunny day"
STREAM = {"num_partitions": 2}


def serve(model: str, arguments: dict[str, Any]) -> None:
    """A version's process: for each number on standard input so many frames, their time and their hash."""
    import torch

    from fifo_diffusion import FIFO

    torch.set_num_threads(1)
    pixels = hashlib.sha256()
    with FIFO.from_pretrained(model, device="cpu").stream(**{"prompt": PROMPT, "seed": 0} | arguments) as stream:
        for line in sys.stdin:
            count, began = int(line), time.process_time()
            frames = [next(stream) for _ in range(count)]
            seconds = time.process_time() - began
            for frame in frames:
                pixels.update(frame.tobytes())
            print(json.dumps({"seconds": seconds / count, "sha256": pixels.hexdigest()}), flush=True)


class Version:
    """The process that runs one source tree."""

    def __init__(self, tree: Path, model: str, arguments: dict[str, Any]) -> None:
        if not (tree / "src" / "fifo_diffusion").is_dir():
            raise SystemExit(f"{tree} has no src/fifo_diffusion: give the root of a source tree")
        environment = os.environ | {"PYTHONPATH": str(tree.resolve() / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--serve", "--model", model, "--stream", json.dumps(arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def frames(self, count: int) -> dict[str, Any]:
        """CPU seconds per frame of the next frames, and the hash of all so far."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None
        assert answers is not None
        print(count, file=to, flush=True)
        line = answers.readline()
        if not line:
            raise SystemExit("a version failed: its message is above")
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": round(middle, 5), "quartiles": [round(low, 5), round(high, 5)]}


def compare(
    trees: list[Path], model: str, arguments: dict[str, Any], rounds: int, frames: int, warm_up: int
) -> dict[str, Any]:
    """Both versions' time per frame, and their ratio."""
    versions = [Version(tree, model, arguments) for tree in trees]
    try:
        for version in versions:
            version.frames(warm_up)
        seconds: list[list[float]] = [[], []]
        same = True
        for number in range(rounds):
            answers: dict[int, dict[str, Any]] = {}
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                answers[which] = versions[which].frames(frames)
                seconds[which].append(answers[which]["seconds"])
            same &= answers[0]["sha256"] == answers[1]["sha256"]
    finally:
        for version in versions:
            version.close()
    ratios = [new / old for old, new in zip(*seconds, strict=True)]
    return {
        "model": model,
        "stream": arguments,
        "rounds": rounds,
        "frames_per_round": frames,
        "cpu_seconds_per_frame": [{"tree": str(t), **spread(s)} for t, s in zip(trees, seconds, strict=True)],
        "ratio": spread(ratios),
        "same_frames": same,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path, nargs="*", help="roots of two source trees, the older one first")
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--stream", type=json.loads, default={}, metavar="JSON", help="arguments of FIFO.stream")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--frames", type=int, default=2, help="of each version in a round")
    parser.add_argument("--warm-up", type=int, default=36, help="frames before, which fill the queue")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    arguments = STREAM | given.stream
    if given.serve:
        serve(given.model, arguments)
        return
    if len(given.trees) != 2:
        parser.error("give two source trees")
    found = json.dumps(
        compare(given.trees, given.model, arguments, given.rounds, given.frames, given.warm_up), indent=1
    )
    print(found)
    if given.out is not None:
        given.out.write_text(found + "\n")


if __name__ == "__main__":
    main()
