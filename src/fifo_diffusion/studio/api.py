"""Our own routes: runs while they are made, forks, schedules, cost, the server itself. See docs/http.md."""

import asyncio
import re
import shutil
import socket
from contextlib import suppress
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from fifo_diffusion.jobs.runs.commands import COMMANDS as ALL_COMMANDS
from fifo_diffusion.jobs.runs.commands import checked_command
from fifo_diffusion.jobs.runs.run import Run
from fifo_diffusion.jobs.runs.status import QUEUED
from fifo_diffusion.jobs.runs.timeline import fps_of, pending, prompts_of
from fifo_diffusion.settings import FifoSettings, specs
from fifo_diffusion.settings.kinds import Size
from fifo_diffusion.settings.presets import PRESETS
from fifo_diffusion.studio import openai, pictures
from fifo_diffusion.studio.answers import HttpError, conflict, missing
from fifo_diffusion.studio.fields import fields_of, keys_of, no_others, setting_of, text_of, whole_of
from fifo_diffusion.studio.openai import model_object, run_of, shown, studio_of
from fifo_diffusion.studio.schema import new_video
from fifo_diffusion.studio.shared import attempt, frames_of
from fifo_diffusion.version import __version__

NARROWEST, WIDEST = 16, 4096
"""Of a picture that is asked for, in pixels."""
COMMANDS = ("prompt", "stop", "pause", "resume", "pin", "unpin")
"""What `POST /api/runs/{id}/command` does."""


async def listing(request: Request) -> Response:
    """GET /api/runs"""
    return JSONResponse(await asyncio.to_thread(openai.page_of, request))


async def show(request: Request) -> Response:
    """GET /api/runs/{id}"""
    studio, run = studio_of(request), run_of(request)
    return JSONResponse(await attempt(lambda: studio.board.video(run) | _more(run)))


def _more(run: Run) -> dict[str, Any]:
    status, request = run.status, dict(run.request)
    started = request.get("start", "").startswith("start/")
    if started:
        del request["start"]
    prompts = [_prompt(frame, said, planned=False) for frame, said in prompts_of(run).items()]
    for change in pending(run.events()[0], status.frames):
        if not change["made"]:
            whole = {"prompt": change.get("text"), "change": change.get("change")}
            keys = change.get("keys") or {change["frame"]: whole}
            prompts += [_prompt(int(frame), said, planned=True) for frame, said in keys.items()]
    made = {"pid": status.pid, "host": status.host, "device": status.device} if status.pid else None
    memory = None
    if made is not None and status.host == socket.gethostname():
        with suppress(psutil.Error):
            memory = psutil.Process(status.pid).memory_info().rss
    return {
        "request": request,
        "start_file": started,
        "prompts": prompts,
        "parts": [first for first, _ in run.parts()],
        "pins": run.pins(),
        "worker": made,
        "memory": memory,
    }


def _prompt(frame: int, said: Any, *, planned: bool) -> dict[str, Any]:
    """An entry of a schedule: a text, or a text and how it comes into force."""
    whole = said if isinstance(said, dict) else {"prompt": said}
    return {"frame": frame, "text": whole["prompt"], "change": whole.get("change"), "planned": planned}


async def command(request: Request) -> Response:
    """POST /api/runs/{id}/command"""
    run, fields = run_of(request), await fields_of(request)
    do, status = fields.get("do"), run.status
    if do not in COMMANDS:
        raise HttpError(400, f"do: give {', '.join(COMMANDS)}", "do")
    no_others(fields, "do", *ALL_COMMANDS[do])
    if do == "prompt":
        text, change = text_of(fields, "text"), fields.get("change")
        if text is None:
            raise HttpError(400, "the prompt is empty: say what should be seen", "text")
        if change is not None:
            change = setting_of(specs(FifoSettings)["prompt_change"].kind, "change", change)
        if status.over:
            raise conflict(f"{run.id} is {status.state}: fork it, or extend it, under another prompt")
        frame = whole_of(fields, "frame", 0)
        await attempt(lambda: run.command("prompt", text=text, change=change, frame=frame))
    elif do in ("pin", "unpin"):
        frame = whole_of(fields, "frame", 0)
        if frame not in (run.snapshots() if do == "pin" else run.pins()):
            raise HttpError(400, f"frame {frame}: there is no snapshot", "frame")
        await attempt(lambda: run.command(do, frame=frame))
    elif do in ("stop", "pause") and status.over:
        raise conflict(f"{run.id} is {status.state} already")
    else:
        keep = text_of(fields, "keep")
        keep = keep if keep is None else setting_of(Size(), "keep", keep)
        await attempt(lambda: run.command(do, keep=keep))
    return shown(request, run)


async def schedule(request: Request) -> Response:
    """PUT /api/runs/{id}/schedule"""
    run, fields = run_of(request), await fields_of(request)
    no_others(fields, "schedule")
    keys = keys_of(fields.get("schedule"))
    if run.status.over:
        raise conflict(f"{run.id} is {run.status.state}: make it anew from a frame on with /rerender")
    await attempt(lambda: run.command("schedule", keys=keys))
    return shown(request, run)


async def rerender(request: Request) -> Response:
    """POST /api/runs/{id}/rerender"""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    no_others(fields, "schedule", "frame", "num_frames")
    keys, count = keys_of(fields.get("schedule")), whole_of(fields, "num_frames", 1)
    first = whole_of(fields, "frame", 0)
    first = min(keys) if first is None else first

    async def make() -> Run:
        return await attempt(lambda: run.rerender(first, keys, num_frames=count))

    return shown(request, await studio.retries.once(request, fields, make))


async def fork(request: Request) -> Response:
    """POST /api/runs/{id}/fork"""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    at = whole_of(fields, "frame", 0)
    return shown(request, await studio.retries.once(request, fields, lambda: studio.fork(run, at, fields)))


async def extend(request: Request) -> Response:
    """POST /api/runs/{id}/extend"""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    no_others(fields, "seconds", "num_frames", "prompt")
    more, text = frames_of(fields, fps_of(run)), text_of(fields, "prompt")

    def longer() -> Run:
        if text is not None:
            checked_command("prompt", {"text": text})  # before anything is asked for
        run.extend(more)
        if text is not None:
            run.command("prompt", text=text)
        return run

    async def make() -> Run:
        return await attempt(longer)

    return shown(request, await studio.retries.once(request, fields, make))


async def move(request: Request) -> Response:
    """POST /api/runs/{id}/move"""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    no_others(fields, "before")
    before = text_of(fields, "before")
    other = None if before is None else studio.board.get(before)
    for each in (run, other):
        if each is not None and each.status.state != QUEUED:
            raise conflict(f"{each.id} does not wait: it is {each.status.state}")
    await attempt(lambda: studio.runs.move(run, other))
    studio.board.glance(fresh=True)
    return shown(request, run)


async def edit(request: Request) -> Response:
    """PUT /api/runs/{id}: another run in the place of one that nobody has begun."""
    studio, run, fields = studio_of(request), run_of(request), await fields_of(request)
    status = run.status
    if status.state != QUEUED or status.frames:
        raise conflict(f"{run.id} has begun: fork it, or make another one")
    found = studio.wanted(fields)
    new = await studio.retries.once(request, fields, lambda: studio.create(found))
    await attempt(lambda: studio.runs.move(new, run))
    await studio.delete(run)
    studio.board.glance(fresh=True)
    return shown(request, new)


async def events(request: Request) -> Response:
    """GET /api/runs/{id}/events"""
    return studio_of(request).listeners.stream(request, run_of(request))


async def all_events(request: Request) -> Response:
    """GET /api/events"""
    return studio_of(request).listeners.stream(request, None)


# ------------------------------------------------------------------ pictures


async def frame(request: Request) -> Response:
    """GET /api/runs/{id}/frames/{k}.jpg"""
    run, number = run_of(request), request.path_params["k"]
    width = whole_of(request.query_params, "width", NARROWEST, WIDEST)
    if not re.fullmatch(r"\d{1,10}", number, re.ASCII):
        raise missing(f"{run.id} has no frame {number[:40]}")
    return await pictures.frame(run, int(number), width)


async def newest(request: Request) -> Response:
    """GET /api/runs/{id}/live/frame.jpg"""
    return await pictures.newest(run_of(request))


async def queue_strip(request: Request) -> Response:
    """GET /api/runs/{id}/live/queue.jpg"""
    return pictures.queue_strip(run_of(request))


async def start(request: Request) -> Response:
    """GET /api/runs/{id}/start"""
    run = run_of(request)
    path = pictures.start_file(run)
    if path is None:
        raise missing(f"{run.id} did not start from a file")
    return FileResponse(path)


# ------------------------------------------------------------------ before starting, and the server


async def cost(request: Request) -> Response:
    """POST /api/cost"""
    studio, fields = studio_of(request), await fields_of(request)
    return JSONResponse(await studio.cost(fields))


async def models(request: Request) -> Response:
    """GET /api/models"""
    studio = studio_of(request)
    found = {"models": [model_object(name) for name in studio.models], "loras": list(studio.loras)}
    return JSONResponse(found | {"settings": new_video()})


async def presets(request: Request) -> Response:
    """GET /api/presets"""
    found = [
        {"name": name, "about": each.about, "fields": {"preset": name}, "values": dict(each.values)}
        for name, each in PRESETS.items()
    ]
    return JSONResponse({"presets": found})


async def server(request: Request) -> Response:
    """GET /api/server"""
    studio = studio_of(request)
    glance = await asyncio.to_thread(studio.board.glance)
    memory, there = psutil.virtual_memory(), studio.runs.root
    disk = shutil.disk_usage(there if there.exists() else there.absolute().parent)
    return JSONResponse(
        {
            "version": __version__,
            "runs": studio.runs.root.absolute().name,
            "page": studio.page,
            "token": studio.door.token is not None,
            "queued": glance.counts.get("queued", 0),
            "in_progress": glance.counts.get("in_progress", 0),
            "workers": [place.about() for place in studio.workers.places] if studio.workers else [],
            "memory": {"total": memory.total, "used": memory.total - memory.available},
            "disk": {"total": disk.total, "free": disk.free},
        }
    )


async def login_link(request: Request) -> Response:
    """POST /api/login-link"""
    door, base = studio_of(request).door, str(request.base_url)
    return JSONResponse({"url": base if door.token is None else f"{base}?login={door.link()}"})


async def health(request: Request) -> Response:
    """GET /health"""
    return JSONResponse({"status": "ok", "version": __version__})


ROUTES = [
    Route("/api/runs", listing),
    Route("/api/runs/{id}", show),
    Route("/api/runs/{id}", edit, methods=["PUT"]),
    Route("/api/runs/{id}", openai.delete, methods=["DELETE"]),
    Route("/api/runs/{id}/events", events),
    Route("/api/runs/{id}/command", command, methods=["POST"]),
    Route("/api/runs/{id}/schedule", schedule, methods=["PUT"]),
    Route("/api/runs/{id}/rerender", rerender, methods=["POST"]),
    Route("/api/runs/{id}/fork", fork, methods=["POST"]),
    Route("/api/runs/{id}/extend", extend, methods=["POST"]),
    Route("/api/runs/{id}/move", move, methods=["POST"]),
    Route("/api/runs/{id}/frames/{k}.jpg", frame),
    Route("/api/runs/{id}/live/frame.jpg", newest),
    Route("/api/runs/{id}/live/queue.jpg", queue_strip),
    Route("/api/runs/{id}/start", start),
    Route("/api/events", all_events),
    Route("/api/cost", cost, methods=["POST"]),
    Route("/api/models", models),
    Route("/api/presets", presets),
    Route("/api/server", server),
    Route("/api/login-link", login_link, methods=["POST"]),
    Route("/health", health),
]
