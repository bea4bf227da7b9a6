"""Small runs of `fifo-diffusion generate` with the embedded model, in this process and in one of their own."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

from fifo_diffusion.cli.main import main

BALL = "a red ball moving right on a navy background"
SMALL = ["--window", "4", "--num-partitions", "1", "--no-lookahead", "--height", "32", "--width", "32"]
SMALL += ["--guidance-scale", "1"]


def generate(*arguments: str) -> int:
    return main(["generate", *SMALL, *arguments])


def start_process(*arguments: str) -> subprocess.Popen:
    # Background shells hand down an ignored SIGINT; a terminal does not.
    return subprocess.Popen(
        [sys.executable, "-m", "fifo_diffusion", "generate", *SMALL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
