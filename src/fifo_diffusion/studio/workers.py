"""The processes that make the videos: one for each GPU, started again when they end."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from fifo_diffusion.jobs.runs.status import IN_PROGRESS
from fifo_diffusion.studio.board import Board

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a worker that failed is started again; twice as long each time, until one has lasted."""
LASTED_SECONDS = 300
UNLOAD_SECONDS = 600
"""After so long without a video a worker leaves, and the memory is free."""
END_SECONDS = 15
"""How long a worker may take to save its run and end."""


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs as `CUDA_VISIBLE_DEVICES` has them; none where there is no NVIDIA GPU."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


@dataclass
class Worker:
    """One place for a worker process.

    Attributes:
        device: its GPU; empty for the CPU (or whatever the worker finds).
        process: the process that is or was there.
        restarts: how often it failed and was started again.
        again_at: when it may be started, on the monotonic clock.
    """

    device: str = ""
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    again_at: float = 0.0
    pause: float = FIRST_PAUSE
    began: float = field(default=0.0, repr=False)

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.returncode is None

    def about(self) -> dict[str, Any]:
        """For the page."""
        now, pid, memory = time.monotonic(), None, None
        state = "running" if self.running else "waiting" if self.again_at > now else "idle"
        if self.running and self.process is not None:
            pid = self.process.pid
            with suppress(psutil.Error):
                memory = psutil.Process(pid).memory_info().rss
        return {"device": self.device, "pid": pid, "state": state, "restarts": self.restarts, "memory": memory}


class Workers:
    """Starts workers when there is something to make, and again when they fail.

    Args:
        board: the folder of runs.
        command: what a worker is started with.
        devices: a place for each; "" is one without a GPU of its own.
    """

    def __init__(self, board: Board, command: Sequence[str], devices: Sequence[str] = ("",)) -> None:
        self.board, self.command = board, list(command)
        self.places = [Worker(device) for device in devices]
        self._warm = True

    async def keep(self) -> None:
        """Look after them until this is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # videos that wait must not wait for ever because one look went wrong
                logger.exception("looking after the workers failed, and is tried again")
            await asyncio.sleep(0.5)

    async def look(self) -> None:
        """Note which have ended, and start those that are wanted: all of them at first, so that a model is warm when
        the first video is asked for; later one for each video that waits."""
        now = time.monotonic()
        for place in self.places:
            if place.process is not None and not place.running:
                self._note_end(place, now)
        glance = await asyncio.to_thread(self.board.glance)
        idle = sum(place.running for place in self.places) - glance.counts.get(IN_PROGRESS, 0)
        wanted = len(self.places) if self._warm else len(glance.queue) - max(0, idle)
        self._warm = False
        for place in self.places:
            if not place.running and place.again_at <= now and wanted > 0:
                await self._start(place, now)
                wanted -= 1

    def _note_end(self, place: Worker, now: float) -> None:
        assert place.process is not None
        failed, place.process = place.process.returncode != 0, None
        if now - place.began > LASTED_SECONDS or not failed:
            place.pause = FIRST_PAUSE
        if failed:
            place.restarts += 1
            place.again_at = now + place.pause
            place.pause = min(2 * place.pause, LONGEST_PAUSE)

    async def _start(self, place: Worker, now: float) -> None:
        environment = dict(os.environ) | ({"CUDA_VISIBLE_DEVICES": place.device} if place.device else {})
        place.began = now
        try:
            place.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.PIPE, env=environment
            )
        except OSError:
            place.restarts += 1
            place.again_at = now + place.pause
            place.pause = min(2 * place.pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Ask all to end, which saves what they make; those that take too long are killed, and their runs go on from
        their last states."""
        running = [place.process for place in self.places if place.running and place.process is not None]
        for process in running:
            with suppress(ProcessLookupError):
                if os.name == "nt" and process.stdin is not None:
                    process.stdin.close()  # there `terminate` would not let it save anything
                else:
                    process.terminate()
        waits = [asyncio.create_task(process.wait()) for process in running]
        if waits:
            _, late = await asyncio.wait(waits, timeout=END_SECONDS)
            for process in running if late else ():
                with suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*waits)


def worker_command(runs: Path) -> list[str]:
    """What starts a worker of a folder of runs, which ends when its standard input does, that is with
    this process, however that ends."""
    leaving = ["--with-parent", "--unload-after", str(UNLOAD_SECONDS)]
    return [sys.executable, "-m", "fifo_diffusion", "work", str(runs), *leaving]
