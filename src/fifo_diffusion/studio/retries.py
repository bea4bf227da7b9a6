"""No second run where a client asks again because it did not hear the answer."""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from fifo_diffusion.files import written_whole
from fifo_diffusion.jobs.runs.run import Run, Runs
from fifo_diffusion.studio.fields import Upload

SECONDS = 60
"""How long a request is remembered."""


class Retries:
    """Which run was made for which request, in the last minute; also through a restart of the server.

    Args:
        runs: the folder of runs; the list is kept in it.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self._turns: dict[str, asyncio.Lock] = {}

    async def once(self, request: Request, fields: Mapping[str, Any], make: Callable[[], Awaitable[Run]]) -> Run:
        """The run that an earlier try of this request has made, or a new one.

        Args:
            request: its headers say whether it may be a further try: `Idempotency-Key`, or a retry count as the
                `openai` client sends it.
            fields: of its body.
            make: makes the run. A further try waits until the one before it has its own.
        """
        again = request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
        key = request.headers.get("idempotency-key")
        digest = _digest(request.url.path, fields, key)
        turn = self._turns.setdefault(digest, asyncio.Lock())
        try:
            async with turn:
                known = self._known().get(digest) if again or key is not None else None
                run = None if known is None else self.runs.get(known[0])
                if run is None:
                    run = await make()
                    self._remember(self._known() | {digest: (run.id, time.time())})
                return run
        finally:
            if not turn.locked():
                self._turns.pop(digest, None)

    @property
    def _file(self) -> Path:
        return self.runs.root / ".recent.json"

    def _known(self) -> dict[str, tuple[str, float]]:
        try:
            found = json.loads(self._file.read_text())
            oldest = time.time() - SECONDS
            return {digest: (str(id), float(at)) for digest, (id, at) in found.items() if at > oldest}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _remember(self, known: Mapping[str, tuple[str, float]]) -> None:
        try:
            with written_whole(self._file, lasting=False, alone=False) as partial:
                partial.write_text(json.dumps(known))
        except OSError:  # a full disk: the run is there, and the next try may make another
            pass


def _digest(path: str, fields: Mapping[str, Any], key: str | None) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Upload):
            return ["file", value.name, hashlib.sha256(value.data).hexdigest()]
        return str(value)

    said = json.dumps([path, key, dict(fields)], default=plain, sort_keys=True)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
