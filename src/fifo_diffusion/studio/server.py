"""The server: routes put together, workers looked after, started and ended."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fifo_diffusion.errors import UserError, usage
from fifo_diffusion.jobs.runs.run import Runs
from fifo_diffusion.studio import api, metrics, openai
from fifo_diffusion.studio.answers import HttpError, error_answer, on_http_error, on_starlette_error, worded
from fifo_diffusion.studio.guard import Door, Guard, is_loopback
from fifo_diffusion.studio.openai import studio_of
from fifo_diffusion.studio.schema import openapi
from fifo_diffusion.studio.shared import Studio
from fifo_diffusion.studio.workers import Workers, visible_gpus, worker_command

PORT = 8800
STATIC = Path(__file__).parent / "static"
GOODBYE_SECONDS = 2
"""How long open requests may take when the server ends; streams of events are ended first."""


async def _page(request: Request) -> Response:
    """GET /: the page"""
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


async def _metrics(request: Request) -> Response:
    """GET /metrics"""
    studio = studio_of(request)
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return PlainTextResponse(await asyncio.to_thread(metrics.text, studio), headers={"content-type": kind})


async def _openapi(request: Request) -> Response:
    """GET /openapi.json"""
    return JSONResponse(openapi(described(request.app.routes)))


class _Static(StaticFiles):
    """The files of the page, which a browser asks for again only where they have changed."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        answer.headers["cache-control"] = "no-cache"
        return answer


def described(routes: Sequence[BaseRoute]) -> list[tuple[str, str, str]]:
    """Method, path and what it does, of each route but the page's."""
    found = []
    for route in routes:
        if isinstance(route, Route) and route.path != "/":
            says = (route.endpoint.__doc__ or "").strip().splitlines()[0]
            found += [(method, route.path, says) for method in sorted(route.methods or ()) if method != "HEAD"]
    return found


def application(studio: Studio) -> ASGIApp:
    """The server as an ASGI application: everything behind the guard."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        for left in studio.uploads.glob("upload-*"):  # of a server that was killed
            left.unlink(missing_ok=True)
        tasks = [asyncio.create_task(_keep_house(studio))]
        if studio.workers is not None:
            tasks.append(asyncio.create_task(studio.workers.keep()))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await studio.planner.close()
        finally:
            if studio.workers is not None:
                await studio.workers.close()

    routes: list[BaseRoute] = [
        *openai.ROUTES,
        *api.ROUTES,
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
    ]
    if studio.page:
        routes += [Route("/", _page), Mount("/static", _Static(directory=STATIC))]
    handlers = {HttpError: on_http_error, HTTPException: on_starlette_error, UserError: _on_user_error, 500: _on_fault}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=life)  # type: ignore[arg-type]
    app.state.studio = studio
    app.router.redirect_slashes = False
    return _Counting(Guard(app, studio.door), studio)


async def _on_user_error(request: Request, error: Exception) -> Response:
    return error_answer(409, worded(error))


async def _on_fault(request: Request, error: Exception) -> Response:
    return error_answer(500, "the server failed: its own output says how")


class _Counting:
    """ASGI middleware that counts answers by their status."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self.app, self.studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                counts = self.studio.answered
                counts[message["status"]] = counts.get(message["status"], 0) + 1
            await send(message)

        await self.app(scope, receive, counting)


async def _keep_house(studio: Studio) -> None:
    while True:
        await asyncio.sleep(10)
        await studio.planner.close_if_idle()


# ------------------------------------------------------------------ started and ended


def make_studio(
    root: str | Path,
    *,
    models: Sequence[str],
    loras: Sequence[str] = (),
    door: Door | None = None,
    page: bool = True,
    work: bool = True,
) -> Studio:
    """A server over a folder of runs, not started yet.

    Args:
        root: the folder; made where it is not there.
        models, loras: names that clients may ask for; the first model is the usual one.
        door: whom it lets in; None: this machine.
        page: whether it has the page.
        work: whether it starts workers, one for each GPU.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / ".recent.json").touch()
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror or error}") from error
    studio = Studio(Runs(root), tuple(models), tuple(loras), door or Door(), page=page)
    if work:
        studio.workers = Workers(studio.board, worker_command(root), visible_gpus() or [""])
    return studio


def listening(address: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.strip("[]"), port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        reason = error.strerror or error
        raise usage(f"--port {port} of {address}: {reason}; choose another (0: any that is free)") from error
    return sock


def address_of(sock: socket.socket, door: Door) -> str:
    """What to open in a browser; with a token, a link that lets it in once."""
    host, port = sock.getsockname()[:2]
    if not is_loopback(host):
        host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    host = f"[{host}]" if ":" in host else host
    base = f"http://{host}:{port}/"
    return base if door.token is None else f"{base}?login={door.link()}"


class Server(uvicorn.Server):
    """uvicorn, for a socket that listens already.

    Args:
        studio: what is served.
    """

    def __init__(self, studio: Studio) -> None:
        config = uvicorn.Config(
            application(studio),
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="on",
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            ws="none",
        )
        super().__init__(config)
        self.studio = studio

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would never end by itself, then the rest."""
        self.studio.listeners.closed = True
        await super().shutdown(sockets=sockets)


def serve(studio: Studio, sock: socket.socket) -> None:
    """Answer until this process is asked to end (Ctrl-C, SIGTERM); workers are ended in order then."""
    with suppress(KeyboardInterrupt):
        Server(studio).run(sockets=[sock])
