"""What a video would cost, and whose an uploaded one is, asked of a process of its own: there PyTorch is imported, and
decoded what comes from clients.

Run as a module it is that process: a request in JSON per line in, an answer per line out.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fifo_diffusion.studio.answers import HttpError, setting_named, worded
from fifo_diffusion.text import one_line

MOST_SECONDS = 90
"""Until a process that does not answer is ended."""
IDLE_SECONDS = 600
"""Until one that nobody asks is ended."""
LONGEST_LINE = 2**24
NO_MATTER = ("schedule", "keep", "keep_seconds", "state_every")
"""Settings of a run that `make_plan` is told otherwise, or that cost nothing."""


class Planner:
    """Asks the process, which is started by the first question and ended when it has had none for ten minutes.

    Args:
        command: what starts it.
    """

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", __name__)) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._asked = 0.0

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a run of these settings would be: the answer of `POST /api/cost` (docs/http.md).

        Args:
            request: as `Runs.create` takes it, checked; `start` may be the path of a file.

        Raises:
            HttpError: 503, it does not answer.
        """
        return await self._ask(request)

    async def origin(self, video: Path) -> tuple[str, int]:
        """Which run an uploaded file is of: its id, and how many frames of it there are up to the file's end; "" and 0
        where it does not say.

        Raises:
            HttpError: 503, it does not answer.
        """
        found = await self._ask({"video": str(video)})
        return found["run"], found["frames"]

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            self._asked = time.monotonic()
            try:
                return await asyncio.wait_for(self._exchange(request), MOST_SECONDS)
            except (TimeoutError, OSError, ValueError) as error:
                await self.close()
                raise HttpError(503, "the process that looks at requests does not answer: try again") from error

    async def _exchange(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
        await process.stdin.drain()
        answer = await process.stdout.readline()
        found = json.loads(answer)
        assert isinstance(found, dict)
        return found

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=LONGEST_LINE,
            )
        return self._process

    async def close_if_idle(self) -> None:
        """End the process where nobody has asked it anything for long."""
        if self._process is not None and not self._turn.locked() and time.monotonic() - self._asked > IDLE_SECONDS:
            await self.close()

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a run would be, or why it would not be made; or what a file is of. The former imports PyTorch."""
    from fifo_diffusion.jobs.explained import explain

    if "video" in request:
        return _origin(request["video"])

    try:
        return _counted(request)
    except Exception as error:
        told = explain(error)
        return {"ok": False, "error": {"message": worded(told), "param": setting_named(told)}}


def _origin(path: str) -> dict[str, Any]:
    """The run that a file is of, and the frames of it up to its end; "" and 0 where it does not say."""
    from fifo_diffusion.video import VideoFileError, count_frames, read_metadata

    try:
        facts = read_metadata(path)
        if "run" not in facts:
            return {"run": "", "frames": 0}
        return {"run": facts["run"], "frames": int(facts.get("first_frame", 0)) + count_frames(path)}
    except (VideoFileError, ValueError):
        return {"run": "", "frames": 0}


def _counted(request: Mapping[str, Any]) -> dict[str, Any]:
    from fifo_diffusion.errors import Message
    from fifo_diffusion.jobs.description import counted
    from fifo_diffusion.studio.answers import in_http

    def words(text: str | Message) -> str:
        return one_line(text.worded(in_http) if isinstance(text, Message) else text)

    return {"ok": True, "error": None} | counted(_plan(request), words)


def _plan(request: Mapping[str, Any]) -> Any:
    from fifo_diffusion.jobs.libraries import quiet_libraries
    from fifo_diffusion.jobs.plan import make_plan
    from fifo_diffusion.jobs.request import Request, Video
    from fifo_diffusion.jobs.runs.requests import schedule_in
    from fifo_diffusion.settings import Settings

    quiet_libraries()
    prompt = schedule_in(request)
    asked = {name: value for name, value in request.items() if name not in NO_MATTER}
    return make_plan(Request(Settings.of(asked), [Video(prompt, "video.mp4", asked["seed"])]))


def main() -> None:
    """Answer until standard input ends."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        out.write(json.dumps(answer(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
